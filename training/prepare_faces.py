"""Photographs → aligned face crops with landmarks: a dataset for train.py, in the `imagefolder` layout of `datasets`.

    python training/prepare_faces.py --dataset PHOTOGRAPHS --output_dir FACES

Each line of FACES/metadata.jsonl holds `file_name`; `landmarks`: image-left eye, image-right eye, nose, image-left and
image-right mouth corner, (x, y) px of the crop, in the sense of the FFHQ layout; `source_crop_px`: how many pixels of
the photograph the crop's side covers; and `source`: the photograph.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import torch
from accelerate import PartialState
from datasets import Image as ImageFeature
from datasets import load_dataset
from PIL import Image
from tqdm import tqdm

from hf_faceenh.alignment import FFHQ_TEMPLATE, crop_faces, scale_of, similarity_transform, transform_points
from hf_faceenh.models.detector import FaceDetector
from hf_faceenh.pictures import FaceImageProcessor

FFHQ_LAYOUT = torch.tensor(FFHQ_TEMPLATE)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--dataset", required=True, help="folder of photographs, or a `datasets` name with an image")
    parser.add_argument("--output_dir", type=Path, required=True, help="new folder for the faces")
    parser.add_argument("--size", type=int, default=512, help="side of the crops in px")
    parser.add_argument(
        "--min_source_px",
        type=float,
        default=600,
        help="leave out faces whose crop's side covers fewer pixels",
    )
    parser.add_argument("--format", choices=("jpg", "png"), default="jpg", help="of the crops")
    return parser.parse_args(arguments)


def photographs(dataset: str) -> list[Path] | Iterator[Path | bytes | str]:
    """The pictures of a folder and all folders below it, or of a `datasets` name (its train split), undecoded.

    Raises:
        SystemExit: with one line, where there are none.
    """
    if Path(dataset).is_dir():
        known = Image.registered_extensions()
        paths = sorted(path for path in Path(dataset).rglob("*") if path.suffix.lower() in known and path.is_file())
        if not paths:
            raise SystemExit(f"--dataset {dataset}: no photographs in this folder or below it.")
        return paths
    if dataset.count("/") > 1 or dataset.startswith((".", "/", "~")):
        raise SystemExit(f"--dataset {dataset}: no such folder.")
    try:
        table = load_dataset(dataset, split="train")
    except Exception as error:  # whatever a builder raises for an unknown name or no connection
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SystemExit(f"--dataset {dataset}: no folder and no dataset to be had: {reason}") from None
    columns = [name for name, feature in table.features.items() if isinstance(feature, ImageFeature)]
    if not columns:
        raise SystemExit(f"--dataset {dataset}: expected a column of images; got {list(table.features)}.")
    rows = table.select_columns(columns[:1]).cast_column(columns[0], ImageFeature(decode=False))
    return (row[columns[0]]["bytes"] or row[columns[0]]["path"] for row in rows)


def save_crop(crop: torch.Tensor, path: Path) -> None:
    pixels = (crop * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    Image.fromarray(pixels).save(path, quality=95)


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    if options.output_dir.exists():
        raise SystemExit(f"--output_dir {options.output_dir} exists already; choose another, or remove it first.")
    pictures = photographs(options.dataset)
    device = PartialState().device
    detector = FaceDetector.from_pretrained(files("hf_faceenh") / "weights/detector").to(device)
    template = torch.tensor(detector.config.template)
    processor = FaceImageProcessor()

    options.output_dir.mkdir(parents=True)
    count = Counter()
    with open(options.output_dir / "metadata.jsonl", "w", encoding="utf-8") as metadata:
        for number, picture in enumerate(tqdm(pictures, desc="photographs", unit="")):
            source = f"row {number}" if isinstance(picture, bytes) else str(picture)
            try:
                image = processor.load(picture).pixels.to(device)
            except (OSError, ValueError) as error:
                tqdm.write(f"skipped: {error}", file=sys.stderr)
                count["unreadable"] += 1
                continue
            landmarks = detector.detect(image).landmarks.cpu()
            count["faceless"] += not len(landmarks)
            transforms = similarity_transform(landmarks, template * options.size)
            for face, (transform, points) in enumerate(zip(transforms, landmarks, strict=True)):
                source_crop_px = options.size / float(scale_of(transform))
                if source_crop_px < options.min_source_px:
                    count["small"] += 1
                    continue
                name = f"{number:06d}-{face}.{options.format}"
                save_crop(crop_faces(image, transform[None], options.size)[0], options.output_dir / name)
                # the detector's points lie off the layout's by what its template lies off
                points = transform_points(transform, points) + (FFHQ_LAYOUT - template) * options.size
                line = {
                    "file_name": name,
                    "landmarks": [[round(x, 2), round(y, 2)] for x, y in points.tolist()],
                    "source_crop_px": round(source_crop_px, 1),
                    "source": source,
                }
                metadata.write(json.dumps(line) + "\n")
                count["faces"] += 1
    summary = (
        f"{count['faces']} faces in {options.output_dir}; left out: {count['small']} faces under "
        f"{options.min_source_px:g} px, {count['faceless']} photographs without a face, "
        f"{count['unreadable']} unreadable ones"
    )
    if not count["faces"]:
        raise SystemExit(summary)
    print(summary)


if __name__ == "__main__":
    main()
