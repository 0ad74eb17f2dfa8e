"""Photographs → aligned face crops with landmarks: a dataset for train.py, in the `imagefolder` layout of `datasets`.

    python training/prepare_faces.py --dataset PHOTOGRAPHS --output_dir FACES

Each line of FACES/metadata.jsonl holds `file_name`; `landmarks`: image-left eye, image-right eye, nose, image-left and
image-right mouth corner, (x, y) in px of the crop, as the FFHQ layout means them; `source_crop_px`: how many pixels of
the photograph the crop's side covers; and `source`: the photograph.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import fsspec
import torch
from accelerate import PartialState
from PIL import Image
from tqdm import tqdm

from hf_faceenh import FaceDetector, FaceImageProcessor
from hf_faceenh.alignment import FFHQ_TEMPLATE, crop_faces, scale_of, similarity_transform, transform_points
from hf_faceenh.learning.data import load_faces, picture_files, source_of, undecoded
from hf_faceenh.learning.scripts import parse_options, run_script
from hf_faceenh.serialization import BUNDLED

FFHQ_LAYOUT = torch.tensor(FFHQ_TEMPLATE)


@dataclass
class Options:
    """Settings of `training/prepare_faces.py`.

    Args:
        dataset: photographs: a folder and all folders below it, Parquet or WebDataset files, or a name on the Hub.
        output_dir: new folder for the faces.
        size: side of the crops in px.
        min_source_px: leave out faces whose crop's side covers fewer pixels of the photograph.
        format: of the crops.
    """

    dataset: str
    output_dir: Path
    size: int = 512
    min_source_px: float = 600
    format: Literal["jpg", "png"] = "jpg"


def photographs(dataset: str) -> Sequence[Path] | Iterator[bytes | str]:
    """The photographs of `Options.dataset`, undecoded.

    Of a folder of pictures these are all, whereas `datasets` would take a folder named train for a split.

    Raises:
        ValueError: in one line, where there are none.
    """
    builder, _ = source_of(dataset)
    if builder == "imagefolder" and Path(dataset).is_dir():
        paths = picture_files(dataset, below=True)
        if paths:  # else they are in a zip file
            return paths
    return (encoded(**row["image"]) for row in undecoded(load_faces(dataset)))


def encoded(bytes: bytes | None, path: str | None) -> bytes | str:
    """A picture of `datasets` as `FaceImageProcessor` takes it: a path may lead into an archive, zip://a.png::b.zip."""
    if bytes or "::" not in path:
        return bytes or path
    with fsspec.open(path) as file:
        return file.read()


class Faces:
    """The folder that is made: crops and metadata.jsonl, and the count of what was taken and what left out.

    Args:
        options: of the script.
        device: to find faces on.
    """

    def __init__(self, options: Options, device: torch.device):
        self.options = options
        self.device = device
        self.detector = FaceDetector.from_pretrained(BUNDLED / "detector").to(device)
        self.template = torch.tensor(self.detector.config.template)
        self.processor = FaceImageProcessor()
        self.count = Counter()

    @torch.no_grad()
    def of(self, number: int, photograph: Path | bytes | str) -> Iterator[dict]:
        """Saves the crops of one photograph; the lines of metadata.jsonl about them."""
        try:
            image = self.processor.load(photograph).pixels.to(self.device)
        except (OSError, ValueError) as error:
            tqdm.write(f"skipped: {error}", file=sys.stderr)
            self.count["unreadable"] += 1
            return
        size = self.options.size
        landmarks = self.detector.detect(image).landmarks.cpu()
        self.count["faceless"] += not len(landmarks)
        transforms = similarity_transform(landmarks, self.template * size)
        for face, (transform, points) in enumerate(zip(transforms, landmarks, strict=True)):
            source_crop_px = size / float(scale_of(transform))
            if source_crop_px < self.options.min_source_px:
                self.count["small"] += 1
                continue
            name = f"{number:06d}-{face}.{self.options.format}"
            save_crop(crop_faces(image, transform[None], size)[0], self.options.output_dir / name)
            # the detector's points differ from the layout's by as much as its template does
            points = transform_points(transform, points) + (FFHQ_LAYOUT - self.template) * size
            self.count["faces"] += 1
            yield {
                "file_name": name,
                "landmarks": [[round(x, 2), round(y, 2)] for x, y in points.tolist()],
                "source_crop_px": round(source_crop_px, 1),
                "source": f"row {number}" if isinstance(photograph, bytes) else str(photograph),
            }

    def summary(self) -> str:
        return (
            f"{self.count['faces']} faces in {self.options.output_dir}; left out: {self.count['small']} faces under "
            f"{self.options.min_source_px:g} px, {self.count['faceless']} photographs without a face, "
            f"{self.count['unreadable']} unreadable ones"
        )


def save_crop(crop: torch.Tensor, path: Path) -> None:
    """
    Args:
        crop: `[3, S, S]` in [0, 1].
        path: of the new file.
    """
    pixels = (crop * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    Image.fromarray(pixels).save(path, quality=95)


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(Options, __doc__.splitlines()[0], arguments)
    if options.output_dir.exists():
        raise ValueError(f"--output_dir {options.output_dir} exists already; choose another, or remove it first.")
    pictures = photographs(options.dataset)
    faces = Faces(options, PartialState().device)
    options.output_dir.mkdir(parents=True)
    with open(options.output_dir / "metadata.jsonl", "w", encoding="utf-8") as metadata:
        for number, photograph in enumerate(tqdm(pictures, desc="photographs", unit="")):
            for line in faces.of(number, photograph):
                metadata.write(json.dumps(line) + "\n")
    if not faces.count["faces"]:
        raise ValueError(faces.summary())
    print(faces.summary())


if __name__ == "__main__":
    run_script(main)
