"""Measures a pipeline on whole photographs, downscaled to a quarter and degraded, then upscaled four times.

    python training/evaluate_photographs.py --photographs FOLDER --recognizer RECOGNIZER --output_dir OUT

Side by side: bicubic upscaling, the pipeline without faces (its super-resolver alone), and the whole pipeline. Every
face that the pipeline finds on the sharp photograph is cut out of all four and compared with the sharp one: PSNR
inside the face, SSIM of the crop, identity distance, and how far the detector's landmarks moved.

In OUT: results.json with every face's values, results.md, faces/ with every photograph's faces (bicubic |
super-resolver | pipeline | sharp), and harmed.png with the faces that the pipeline took further from the person than
bicubic upscaling does.
"""

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from hf_faceenh import EnhancedFace, FaceDetector, FaceEnhancePipeline
from hf_faceenh.alignment import crop_faces, transform_points
from hf_faceenh.learning.data import decode, pictures_of
from hf_faceenh.learning.degradation import noisy_and_compressed, resize
from hf_faceenh.learning.evaluation import save_report
from hf_faceenh.learning.identity import load_recognizer
from hf_faceenh.learning.intervals import mean_with_interval
from hf_faceenh.learning.metrics import face_metrics, psnr
from hf_faceenh.learning.scripts import parse_options, run_script
from hf_faceenh.learning.sheets import contact_sheet
from hf_faceenh.learning.tables import METRICS, markdown_table

FACTOR = 4
# The degradation: blur in px of the small picture, noise of 255, quality of the JPEG file.
BLUR, NOISE, QUALITY = 0.5, 6.0, 60
BICUBIC, ALONE, WHOLE, SHARP = "bicubic", "super-resolver", "pipeline", "sharp"
RESULTS = (BICUBIC, ALONE, WHOLE)


@dataclass
class Options:
    """Settings of `training/evaluate_photographs.py`.

    Args:
        photographs: folder of sharp photographs with faces.
        recognizer: face recognizer (folder or Hub name).
        output_dir: gets the results.
        model: pipeline (folder or Hub name) instead of the bundled one.
        seed: of the noise.
    """

    photographs: Path
    recognizer: str
    output_dir: Path
    model: str | None = None
    seed: int = 0


@dataclass
class Face:
    """One face of a sharp photograph.

    Args:
        name: of the photograph, and the face's number on it.
        crops: of each of `RESULTS` and of `SHARP`, aligned, `[S, S, 3]` uint8.
        metrics: result → metric → value.
    """

    name: str
    crops: dict[str, np.ndarray]
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def grown(self) -> float:
        """By how much the pipeline's identity distance is above bicubic upscaling's."""
        return self.metrics[WHOLE]["identity"] - self.metrics[BICUBIC]["identity"]


def degraded(sharp: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`[H, W, 3]` uint8 → `[H/4, W/4, 3]`: blurred, downscaled, noisy and compressed."""
    height, width = sharp.shape[:2]
    image = cv2.GaussianBlur(sharp, (0, 0), BLUR * FACTOR)
    image = resize(image, (width // FACTOR, height // FACTOR))
    return noisy_and_compressed(image, NOISE, QUALITY, rng)


def read(path: Path) -> np.ndarray:
    """RGB, upright, `[H, W, 3]` uint8, the sides cut to multiples of `FACTOR`."""
    pixels = np.asarray(decode({"path": str(path)}))
    height, width = (side // FACTOR * FACTOR for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[:height, :width])


def results_of(pipe: FaceEnhancePipeline, lq: np.ndarray) -> dict[str, np.ndarray]:
    """Each of `RESULTS`, `[4H, 4W, 3]` uint8."""
    picture = Image.fromarray(lq)
    alone = pipe(picture, upscale=FACTOR, max_faces=0).images[0]
    whole = pipe(picture, upscale=FACTOR).images[0]
    bicubic = resize(lq, (lq.shape[1] * FACTOR, lq.shape[0] * FACTOR))
    return {BICUBIC: bicubic, ALONE: np.asarray(alone), WHOLE: np.asarray(whole)}


def cut(picture: np.ndarray, face: EnhancedFace, size: int) -> np.ndarray:
    """The aligned face, `[size, size, 3]` uint8."""
    pixels = torch.tensor(picture).permute(2, 0, 1) / 255
    (crop,) = crop_faces(pixels, torch.tensor(face.transform)[None].float(), size)
    return (crop * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def landmark_shift(detector: FaceDetector, crop: np.ndarray, points: np.ndarray) -> float:
    """Mean distance of the points that the detector finds in `crop` from `points` `[5, 2]`, those of the sharp face,
    in eye distances; NaN where it finds no face there."""
    found = detector.detect(torch.tensor(crop).permute(2, 0, 1) / 255)
    if not len(found):
        return float("nan")
    shifts = np.linalg.norm(found.landmarks[0].cpu().numpy() - points, axis=1)
    return float(shifts.mean() / np.linalg.norm(points[1] - points[0]))


def measure(
    pipe: FaceEnhancePipeline, recognizer: torch.nn.Module, sharp: np.ndarray, lq: np.ndarray, name: str
) -> list[Face]:
    """The faces of one photograph with their values."""
    size = pipe.enhancer.config.sample_size
    pictures = results_of(pipe, lq) | {SHARP: sharp}
    found = pipe(Image.fromarray(sharp), upscale=1, restore_background=False, max_face_size=float("inf")).faces[0]
    faces = []
    for number, known in enumerate(face for face in found if face.mask is not None):
        face = Face(f"{name} {number}", {kind: cut(picture, known, size) for kind, picture in pictures.items()})
        points = transform_points(torch.tensor(known.transform).float(), torch.tensor(known.landmarks).float()).numpy()
        inside = known.mask > 0.5
        for kind in RESULTS:
            crop, target = face.crops[kind], face.crops[SHARP]
            values = {key: of_one[0] for key, of_one in face_metrics([crop], [target], recognizer).items()}
            values["psnr"] = psnr(crop[inside][None], target[inside][None])
            values["landmarks"] = landmark_shift(pipe.detector, crop, points)
            face.metrics[kind] = values
        faces.append(face)
    return faces


# Results


def row(face: Face) -> np.ndarray:
    """A face in all four, with the identity distances above: `[H, W, 3]` uint8."""
    headings = [f"{kind} {face.metrics[kind]['identity']:.3f}" for kind in RESULTS] + [face.name]
    return contact_sheet(
        (heading, [face.crops[kind]]) for heading, kind in zip(headings, (*RESULTS, SHARP), strict=True)
    )


def save_rows(faces: list[Face], path: Path) -> None:
    Image.fromarray(np.concatenate([row(face) for face in faces])).save(path)


def summary(faces: list[Face]) -> dict[str, dict[str, dict]]:
    """Result → metric → mean, interval, and mean and interval of the difference to bicubic upscaling."""
    names = list(faces[0].metrics[BICUBIC])
    means = {}
    for kind in RESULTS:
        values = {name: np.array([face.metrics[kind][name] for face in faces]) for name in names}
        plain = {name: np.array([face.metrics[BICUBIC][name] for face in faces]) for name in names}
        means[kind] = {
            name: mean_with_interval(values[name]) | {"difference": mean_with_interval(values[name] - plain[name])}
            for name in names
        }
    return means


def markdown(means: dict, faces: list[Face], harmed: list[Face]) -> str:
    names = list(means[BICUBIC])
    titles = [METRICS[name].title + (", inside the face" if name == "psnr" else "") for name in names]
    rows = []
    for kind, figures in means.items():
        rows.append([kind, *(METRICS[name].cell(figures[name]) for name in names)])
        if kind != BICUBIC:
            cells = (METRICS[name].cell(figures[name]["difference"], "+") for name in names)
            rows.append(["… minus bicubic", *cells])
    lines = [
        markdown_table(["result", *titles], rows),
        "",
        f"{len(faces)} faces; of {len(harmed)} the identity distance grew:",
        "",
    ]
    lines += [f"- {face.name}: {face.grown:+.3f}, to {face.metrics[WHOLE]['identity']:.3f}" for face in harmed]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(Options, __doc__, arguments)
    out = options.output_dir
    paths = pictures_of("--photographs", options.photographs)
    pipe = FaceEnhancePipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    recognizer = load_recognizer(options.recognizer)
    (out / "faces").mkdir(parents=True, exist_ok=True)

    faces = []
    for index, path in enumerate(tqdm(paths, unit="photograph", disable=None)):
        sharp = read(path)
        lq = degraded(sharp, np.random.default_rng((options.seed, index)))
        own = measure(pipe, recognizer, sharp, lq, path.stem)
        if own:
            save_rows(own, out / "faces" / f"{path.stem}.png")
        faces += own
    if not faces:
        raise ValueError(f"The pipeline finds no face on the photographs of {options.photographs}.")
    harmed = sorted((face for face in faces if face.grown > 0), key=lambda face: -face.grown)
    means = summary(faces)
    report = markdown(means, faces, harmed)
    print(report)
    results = {"means": means, "faces": {face.name: face.metrics for face in faces}}
    save_report(results, report, out)
    (out / "harmed.png").unlink(missing_ok=True)
    if harmed:
        save_rows(harmed, out / "harmed.png")


if __name__ == "__main__":
    run_script(main)
