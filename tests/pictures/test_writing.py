"""Files: formats, and whole or not at all."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from samples import PROCESSOR, encoded, enhanced, gradient, photograph, swapped_profile

from hf_faceenh.pictures.colour import SRGB


def test_a_colour_picture_that_had_a_profile_gets_an_srgb_one(tmp_path):
    for suffix in (".jpg", ".png", ".webp", ".tif"):
        loaded = PROCESSOR.load(photograph(icc_profile=swapped_profile()))
        PROCESSOR.save(enhanced(loaded), tmp_path / f"out{suffix}", loaded.info)
        with Image.open(tmp_path / f"out{suffix}") as image:
            assert image.info["icc_profile"] == SRGB.tobytes()
        loaded = PROCESSOR.load(photograph())
        PROCESSOR.save(enhanced(loaded), tmp_path / f"out{suffix}", loaded.info)
        with Image.open(tmp_path / f"out{suffix}") as image:
            assert "icc_profile" not in image.info


def test_16_bit_grey_is_kept_where_the_format_holds_it(tmp_path):
    deep = np.linspace(0, 65535, 48, dtype=np.uint16).reshape(6, 8)
    loaded = PROCESSOR.load(deep)
    image = PROCESSOR.to_output(loaded.pixels, loaded)
    for name, expected in (("a.png", deep), ("a.tif", deep), ("a.webp", None), ("a.jpg", None)):
        PROCESSOR.save(image, tmp_path / name, loaded.info)
        with Image.open(tmp_path / name) as saved:
            if expected is None:
                assert np.abs(np.asarray(saved.convert("L")) - deep / 257).max() < 12
            else:
                np.testing.assert_array_equal(np.asarray(saved), expected)


def test_alpha_is_kept_or_laid_onto_white(tmp_path):
    for channels in (2, 4):
        array = gradient(16, 16, channels)
        array[..., -1] = 0
        image = Image.fromarray(array)
        for suffix in (".png", ".webp", ".tif"):
            PROCESSOR.save(image, tmp_path / f"a{suffix}")
            assert PROCESSOR.load(tmp_path / f"a{suffix}").alpha.max() == 0
        PROCESSOR.save(image, tmp_path / "a.jpg")
        with Image.open(tmp_path / "a.jpg") as saved:
            assert saved.mode == ("L" if channels == 2 else "RGB") and np.asarray(saved).min() == 255


def test_the_format_comes_from_argument_then_suffix_then_input(tmp_path):
    loaded = PROCESSOR.load(encoded(Image.fromarray(gradient()), "WEBP"))
    image = enhanced(loaded)
    for name, format, expected in (
        ("a.png", None, "PNG"),
        ("b", None, "WEBP"),
        ("c.tmp", "jpg", "JPEG"),
        ("d.JPEG", None, "JPEG"),
    ):
        PROCESSOR.save(image, tmp_path / name, loaded.info, format)
        with Image.open(tmp_path / name) as saved:
            assert saved.format == expected
    PROCESSOR.save(image, tmp_path / "e")
    with Image.open(tmp_path / "e") as saved:
        assert saved.format == "PNG"
    with pytest.raises(ValueError, match="'doc'"):
        PROCESSOR.save(image, tmp_path / "f.doc", loaded.info)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "out.png"
    path.write_bytes(b"the old one")

    def fail(self, file, **options):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="out.png as PNG: .*No space left"):
        PROCESSOR.save(Image.new("RGB", (8, 8)), path)
    assert path.read_bytes() == b"the old one" and os.listdir(tmp_path) == ["out.png"]


def test_saving_where_it_cannot_be(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        PROCESSOR.save(Image.new("RGB", (8, 8)), tmp_path / "absent" / "out.png")
    with pytest.raises(OSError, match="as WEBP"):
        PROCESSOR.save(Image.new("L", (20_000, 1)), tmp_path / "out.webp")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OSError, match="folder.png"):
        PROCESSOR.save(Image.new("RGB", (8, 8)), tmp_path / "folder.png")
    assert os.listdir(tmp_path) == ["folder.png"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_new_file_has_the_permissions_that_the_umask_asks_for(tmp_path):
    old = os.umask(0o027)
    try:
        PROCESSOR.save(Image.new("RGB", (8, 8)), tmp_path / "out.png")
    finally:
        os.umask(old)
    assert (tmp_path / "out.png").stat().st_mode & 0o777 == 0o640


def test_a_disk_that_is_full_a_few_bytes_too_early_is_an_error(tmp_path):
    noise = tmp_path / "noise.png"  # lossless: a JPEG saved again may be shorter
    Image.effect_noise((640, 640), 40).save(noise)
    PROCESSOR.save(Image.open(noise), tmp_path / "whole.jpg")
    size = (tmp_path / "whole.jpg").stat().st_size
    code = f"""
import resource, signal
from PIL import Image
from hf_faceenh.pictures import FaceImageProcessor
picture = Image.open({str(noise)!r}).copy()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size - 20}, {size - 20}))
try:
    FaceImageProcessor().save(picture, {str(tmp_path / "cut.jpg")!r})
except OSError as error:
    print(error)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Could not write" in printed and {path.name for path in tmp_path.iterdir()} == {"noise.png", "whole.jpg"}
