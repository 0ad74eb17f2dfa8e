"""Draws every type of damage that training knows, from coefficient 0 to 1, on the face of a photograph.

    python training/plot_damage.py examples/astronaut.png training/figures/damage.jpg

One row for each type, as `hf_faceenh.learning.degradation` has them; each is upscaled back, as training sees it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from hf_faceenh.alignment import crop_faces, similarity_transform
from hf_faceenh.files import written_whole
from hf_faceenh.learning.degradation import TYPES, resize
from hf_faceenh.learning.metrics import as_pictures
from hf_faceenh.learning.scripts import parse_options, run_script
from hf_faceenh.learning.sheets import contact_sheet
from hf_faceenh.models import FaceDetector
from hf_faceenh.pictures import FaceImageProcessor
from hf_faceenh.serialization import BUNDLED

COEFFICIENTS = (0, 0.25, 0.5, 0.75, 1)


@dataclass
class Options:
    """Settings of `training/plot_damage.py`.

    Args:
        photograph: with a face; the surest one is taken.
        output: picture to write, JPEG or PNG by its suffix.
        size: side of a face in px.
        seed: of everything random.
        quality: of a JPEG.
    """

    photograph: Path
    output: Path
    size: int = 192
    seed: int = 0
    quality: int = 38


@torch.no_grad()
def aligned_face(photograph: Path, size: int) -> np.ndarray:
    """`[size, size, 3]` uint8.

    Raises:
        ValueError: where there is no face.
    """
    detector = FaceDetector.from_pretrained(BUNDLED / "detector")
    image = FaceImageProcessor().load(photograph).pixels
    found = detector.detect(image)
    if not len(found.landmarks):
        raise ValueError(f"{photograph}: no face was found.")
    landmarks = found.landmarks[found.scores.argmax()][None]
    crop = crop_faces(image, similarity_transform(landmarks, torch.tensor(detector.config.template) * size), size)
    return as_pictures(crop * 2 - 1)[0]


def damaged(face: np.ndarray, kind: str, strength: float, seed: int) -> np.ndarray:
    """uint8 in and out, of the same size."""
    picture = TYPES[kind](face.astype(np.float32) / 255, strength, np.random.default_rng(seed))
    return resize((picture * 255).round().astype(np.uint8), face.shape[1::-1])


def labelled(picture: np.ndarray, label: str) -> np.ndarray:
    image = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(16)
    place = (4, image.height - 24)
    draw.rectangle(draw.textbbox(place, label, font, stroke_width=3), "white")
    draw.text(place, label, "black", font)
    return np.asarray(image)


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(Options, __doc__, arguments, positional=True)
    format = Image.registered_extensions().get(options.output.suffix.lower())
    if format is None:
        raise ValueError(f"{options.output} must end like a picture: .jpg or .png.")
    face = aligned_face(options.photograph, options.size)
    columns = {f"{value:g}": [damaged(face, kind, value, options.seed) for kind in TYPES] for value in COEFFICIENTS}
    columns["0"] = [labelled(picture, kind) for picture, kind in zip(columns["0"], TYPES, strict=True)]
    with written_whole(options.output) as path:
        Image.fromarray(contact_sheet(columns.items())).save(path, format, quality=options.quality)


if __name__ == "__main__":
    run_script(main)
