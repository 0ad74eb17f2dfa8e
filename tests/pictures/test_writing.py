"""Files: formats, and whole or not at all."""

import dataclasses
import os
import resource

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from samples import PROCESSOR, encoded, enhanced, gradient, photograph, swapped_profile


def test_a_colour_picture_keeps_its_profile(tmp_path):
    for suffix in (".jpg", ".png", ".webp", ".tif", ".avif"):
        loaded = PROCESSOR.load(photograph(icc_profile=swapped_profile()))
        PROCESSOR.save(enhanced(loaded), tmp_path / f"out{suffix}", loaded.info)
        with Image.open(tmp_path / f"out{suffix}") as image:
            assert image.info["icc_profile"] == swapped_profile()
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
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "whole.jpg").stat().st_size - 20, before[1]))
    try:
        with pytest.raises(OSError, match="Could not write"):
            PROCESSOR.save(Image.open(noise), tmp_path / "cut.jpg")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path.name for path in tmp_path.iterdir()} == {"noise.png", "whole.jpg"}


# JPEG


def quantisation(data):
    """Tables of a JPEG, and how many chroma samples there are per pixel and axis, read without Pillow."""
    tables, at = {}, 2
    while data[at + 1] != 0xC0:
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + size]
        while data[at + 1] == 0xDB and body:
            tables[body[0]], body = list(body[1:65]), body[65:]
        at += 2 + size
    return tables, {data[at + 11 + 3 * i] for i in range(data[at + 9])}


def written(loaded, path, **options):
    PROCESSOR.save(enhanced(loaded), path, loaded.info, **options)
    return path.read_bytes()


@pytest.mark.parametrize("quality", [15, 75, 95, 98, 100])
def test_a_jpeg_is_never_coarser_than_quality_95_nor_than_the_input(quality, tmp_path):
    source = photograph(quality=quality, subsampling="4:2:0")
    tables, sampling = quantisation(written(PROCESSOR.load(source), tmp_path / "out.jpg"))
    assert sampling == {0x11}
    for number, levels in tables.items():
        for reference in (source, photograph(quality=95)):
            assert all(a <= b for a, b in zip(levels, quantisation(reference)[0][number], strict=True))


def test_tables_of_another_kind_than_libjpegs_count_too(tmp_path):
    """Of each coefficient the finer one; three components may have three tables."""
    steep = [min(255, 1 + 4 * i) for i in range(64)]
    source = photograph(qtables=[steep, steep[::-1], steep], subsampling="4:2:0")
    tables, _ = quantisation(written(PROCESSOR.load(source), tmp_path / "out.jpg"))
    reference, _ = quantisation(photograph(quality=95))
    assert all(a <= b for number in (0, 1) for a, b in zip(tables[number], reference[number], strict=True))
    assert tables[0][0] == 1 < reference[0][0] and tables[1] != reference[1]


def test_the_quality_that_is_asked_for_rules(tmp_path):
    loaded = PROCESSOR.load(photograph(quality=98))
    for quality in (40, 100):
        tables, sampling = quantisation(written(loaded, tmp_path / "out.jpg", quality=quality))
        assert tables == quantisation(photograph(quality=quality))[0] and sampling == {0x11}
    for suffix in (".webp", ".avif"):
        sizes = [len(written(loaded, tmp_path / f"out{suffix}", quality=quality)) for quality in (30, None, 100)]
        assert sizes == sorted(set(sizes))


# 16 bits a channel, limits


@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_is_written_where_the_format_holds_it(channels, tmp_path):
    deep = np.random.default_rng(0).integers(0, 65535, (48, 64, channels), dtype=np.uint16)
    loaded = PROCESSOR.load(deep)
    info = dataclasses.replace(loaded.info, icc_profile=swapped_profile(), dpi=(300, 300), size=(64, 48))
    image = PROCESSOR.to_output(loaded.pixels, loaded, "deep")
    assert image.dtype == np.uint16
    for suffix in (".png", ".tif", ".webp", ".jpg"):
        PROCESSOR.save(image, tmp_path / f"out{suffix}", info, provenance="a line")
        if suffix in (".png", ".tif"):
            read = cv2.imread(str(tmp_path / f"out{suffix}"), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(read[..., [2, 1, 0, 3][:channels]], deep)
        again = PROCESSOR.load(tmp_path / f"out{suffix}")
        assert again.info.depth == (16 if suffix in (".png", ".tif") else 8)
        assert again.info.icc_profile == swapped_profile() and [round(x) for x in again.info.dpi] == [300, 300]
        assert (again.alpha is not None) == (channels == 4 and suffix != ".jpg")
    if channels == 4:
        with tifffile.TiffFile(tmp_path / "out.tif") as file:
            assert file.pages[0].extrasamples == (2,)  # alpha, not premultiplied


def test_what_a_format_cannot_hold_is_said_before_the_work():
    for name, size, largest in (("a.webp", (16_384, 10), 16_383), ("a.jpg", (10, 65_501), 65_500)):
        with pytest.raises(ValueError, match=f"^{name} would have {size[0]}×{size[1]} px.* at most {largest} px.*PNG"):
            PROCESSOR.check(name, size)
    for name, size in (("a.webp", (16_383, 10)), ("a.jpg", (65_500, 65_500)), ("a.png", (100_000, 10))):
        PROCESSOR.check(name, size)
    with pytest.raises(ValueError, match="'doc'"):
        PROCESSOR.check("a.doc", (10, 10))
