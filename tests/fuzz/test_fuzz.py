"""Damaged pictures, checkpoints and model folders, by the thousand: `FUZZ_CASES=10000 pytest tests/fuzz -m slow`."""

import functools
import io
import random
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from mutations import damaged, damaged_config, findings, verdict
from PIL import Image, ImageCms
from safetensors.torch import load_file, save

from hf_faceenh.convert import ConversionError, load_published
from hf_faceenh.loading import load_single
from hf_faceenh.pictures import FaceImageProcessor
from hf_faceenh.serialization import BUNDLED

pytestmark = pytest.mark.slow
DATA = Path(__file__).parents[1] / "data"
# Format → options of Pillow's `save`.
FORMATS = [
    ("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("WEBP", {"lossless": True}),
    ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {"compression": "jpeg"}), ("GIF", {}), ("BMP", {}),
    ("PPM", {}), ("JPEG2000", {}), ("AVIF", {}), ("MPO", {}),
]  # fmt: skip


@functools.cache
def pictures() -> list[bytes]:
    """A small picture in all formats, with metadata where these hold any."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (24, 32, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "described"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    files = []
    for name, options in FORMATS:
        if name not in Image.SAVE:
            Image.init()
        with io.BytesIO() as file:
            whole = picture.convert("P") if name == "GIF" else picture
            metadata = {} if name in ("GIF", "BMP", "PPM", "JPEG2000") else {"exif": exif, "icc_profile": profile}
            whole.save(file, name, **options, **metadata)
            files.append(file.getvalue())
    return files


def judge_picture(seed: int) -> str | None:
    rng = random.Random(seed)
    content = damaged(rng.choice(pictures()), rng)
    try:
        FaceImageProcessor().load(content)
    except Exception as error:
        return verdict(error, (ValueError, OSError))


@functools.cache
def checkpoints() -> list[tuple[str, bytes]]:
    """Suffix and content of a small network's file, in all kinds of files."""
    state = load_file(DATA / "golden/srvgg_x4/weights.safetensors")
    files = [(".safetensors", save(state))]
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        with io.BytesIO() as file:
            torch.save({"params": state}, file, **options)
            files.append((".pth", file.getvalue()))
    weights = [onnx.numpy_helper.from_array(value.numpy(), key) for key, value in state.items()]
    graph = onnx.helper.make_graph([], "network", [], [], initializer=weights)
    return [*files, (".onnx", onnx.helper.make_model(graph).SerializeToString())]


def judge_checkpoint(seed: int) -> str | None:
    rng = random.Random(seed)
    suffix, content = rng.choice(checkpoints())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"network{suffix}")
        file.write_bytes(damaged(content, rng))
        try:
            load_published(file)
        except Exception as error:
            return verdict(error, (ConversionError,))


def judge_folder(seed: int) -> str | None:
    rng = random.Random(seed)
    name = rng.choice(("enhancer_fast", "super_resolver", "detector", "parser", "recognizer"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, name)
        shutil.copytree(BUNDLED / name, folder)
        if rng.random() < 0.7:
            config = folder / "config.json"
            config.write_text(damaged_config(config.read_text(), rng))
        else:
            (weights,) = folder.glob("*.safetensors")
            content = weights.read_bytes()
            start = 8 + int.from_bytes(content[:8], "little")  # the header is small, and what a reader believes
            weights.write_bytes(damaged(content[:start], rng) + content[start:])
        try:
            load_single(str(folder))
        except Exception as error:
            return verdict(error, (ValueError, OSError))


@pytest.mark.parametrize("judge", [judge_picture, judge_checkpoint, judge_folder])
def test_a_damaged_file_gives_a_result_or_one_line(judge):
    found = findings(judge)
    assert not found, "\n".join(found[:20])
