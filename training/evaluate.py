"""Measures face enhancers on pairs of sharp and poor faces, side by side in one run.

    python training/evaluate.py --hq FOLDER --lq FOLDER [FOLDER …] --model FOLDER_OR_HUB_NAME … [--output_dir OUT]

The poor faces bear the names of their sharp twins and may be of any size. Both are brought to the first enhancer's
`sample_size`: the sharp ones reduced by area, the poor ones enlarged with bicubic interpolation, which is the line
`input` of the table. With `--output_dir`, also `results.json` and, for every folder of poor faces, a contact sheet of
poor | each model | sharp.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from hf_faceenh.learning.metrics import bootstrap_interval, psnr, ssim
from hf_faceenh.models import FaceEnhancer, GPENFaceEnhancer

METRICS = {"psnr": psnr, "ssim": ssim}
SHEET_ROWS = 8


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hq", type=Path, required=True, help="folder of sharp faces")
    parser.add_argument("--lq", type=Path, nargs="+", required=True, help="folders of poor faces, e.g. one per level")
    parser.add_argument("--model", nargs="+", required=True, help="folders or Hub names of enhancers")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--output_dir", type=Path)
    return parser.parse_args(arguments)


def load_enhancer(name: str) -> torch.nn.Module:
    """A `FaceEnhancer` or `GPENFaceEnhancer`, whichever its config names."""
    kind = FaceEnhancer.load_config(name).get("_class_name", "model of another library")
    classes = {cls.__name__: cls for cls in (FaceEnhancer, GPENFaceEnhancer)}
    if kind not in classes:
        raise ValueError(f"--model {name} is a {kind}; expected one of {', '.join(classes)}.")
    return classes[kind].from_pretrained(name, torch_dtype=torch.float32).eval()


def read_pair(hq_path: Path, lq_path: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Both pictures as `[size, size, 3]` uint8 RGB."""
    pictures = []
    for path, method in ((hq_path, cv2.INTER_AREA), (lq_path, cv2.INTER_CUBIC)):
        picture = cv2.imread(str(path))
        if picture is None:
            raise ValueError(f"{path} is missing or not a picture; every poor face needs a sharp twin of its name.")
        pictures.append(cv2.resize(picture, (size, size), interpolation=method)[..., ::-1])
    return tuple(pictures)


@torch.no_grad()
def enhance(model: torch.nn.Module, poor: list[np.ndarray], batch_size: int) -> tuple[list[np.ndarray], float]:
    """The enhanced faces, `[S, S, 3]` uint8 each, and the seconds per face."""
    results, started = [], time.perf_counter()
    for first in range(0, len(poor), batch_size):
        batch = torch.from_numpy(np.stack(poor[first : first + batch_size])).permute(0, 3, 1, 2)
        output = model(batch.float() / 127.5 - 1).sample
        pixels = ((output + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        results += list(pixels.permute(0, 2, 3, 1).numpy())
    return results, (time.perf_counter() - started) / len(poor)


def gmac(model: torch.nn.Module) -> float:
    """Multiply-accumulates per face, in thousand millions."""
    size = model.config.sample_size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, size, size))
    return counter.get_total_flops() / 2e9


def measure(faces: list[np.ndarray], sharp: list[np.ndarray]) -> dict[str, dict]:
    """Mean and 95 % interval of every metric."""
    results = {}
    for name, metric in METRICS.items():
        values = [metric(face, twin) for face, twin in zip(faces, sharp, strict=True)]
        results[name] = {"mean": float(np.mean(values)), "interval": bootstrap_interval(values)}
    return results


def table(rows: list[dict]) -> str:
    """Markdown."""
    lines = ["| model | faces | PSNR in dB | SSIM | s per face |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        psnr_, ssim_ = ([m["mean"], *m["interval"]] for m in (row["psnr"], row["ssim"]))
        seconds = "" if row["seconds_per_face"] is None else f"{row['seconds_per_face']:.3f}"
        lines.append(
            f"| {row['model']} | {row['level']} | {psnr_[0]:.2f} [{psnr_[1]:.2f}, {psnr_[2]:.2f}] "
            f"| {ssim_[0]:.3f} [{ssim_[1]:.3f}, {ssim_[2]:.3f}] | {seconds} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    models = {name: load_enhancer(name) for name in args.model}
    size = next(iter(models.values())).config.sample_size
    if any(model.config.sample_size != size for model in models.values()):
        raise ValueError("The models differ in sample_size; compare those of one size in one run.")
    for name, model in models.items():
        parameters = sum(p.numel() for p in model.parameters()) / 1e6
        print(f"{name}: {parameters:.2f} M parameters, {gmac(model):.2f} GMAC per face")
    rows = []
    for folder in args.lq:
        paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in Image.registered_extensions())
        if not paths:
            raise ValueError(f"--lq {folder} holds no pictures.")
        sharp, poor = zip(*(read_pair(args.hq / path.name, path, size) for path in paths), strict=True)
        columns = {"input": (poor, None)} | {n: enhance(m, poor, args.batch_size) for n, m in models.items()}
        for name, (faces, seconds) in columns.items():
            row = {"model": name, "level": folder.name, "seconds_per_face": seconds, "pictures": len(paths)}
            rows.append(row | measure(faces, sharp))
        if args.output_dir:
            args.output_dir.mkdir(parents=True, exist_ok=True)
            strips = [faces[:SHEET_ROWS] for faces, _ in columns.values()] + [sharp[:SHEET_ROWS]]
            sheet = np.concatenate([np.concatenate(strip) for strip in strips], axis=1)
            Image.fromarray(sheet).save(args.output_dir / f"{folder.name}.png")
    print(table(rows))
    if args.output_dir:
        (args.output_dir / "results.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"evaluate.py: {' '.join(str(error).split())}")
