"""JPEG files that end too early."""

import numpy as np
import pytest
from PIL import Image
from samples import PROCESSOR, bytes_of, encoded


def scene():
    """200 × 304 px with detail everywhere, so that the file's bytes are spread evenly."""
    rows, columns = np.mgrid[:304, :200]
    noise = np.random.default_rng(0).normal(0, 12, (304, 200, 3))
    waves = 128 + 70 * np.sin(rows / 11)[..., None] * np.sin(columns / 7)[..., None]
    return Image.fromarray(np.clip(waves + noise, 0, 255).astype(np.uint8))


KINDS = {
    "baseline": ("RGB", {}),
    "fine": ("RGB", {"subsampling": "4:4:4"}),
    "progressive": ("RGB", {"progressive": True}),
    "grey": ("L", {}),
    "CMYK": ("CMYK", {}),
}


@pytest.fixture(params=KINDS)
def whole(request):
    mode, options = KINDS[request.param]
    return encoded(scene().convert(mode), "JPEG", quality=90, **options)


def test_a_jpeg_that_lacks_its_end_is_read_with_a_remark(whole):
    expected = bytes_of(PROCESSOR.load(whole)).astype(int)
    assert PROCESSOR.load(whole).remark is None
    for missing in (2, 20, len(whole) // 25):
        loaded = PROCESSOR.load(whole[:-missing])
        assert loaded.remark.startswith("the file is cut off at its end") and "\n" not in loaded.remark
        assert np.abs(bytes_of(loaded) - expected)[: 304 * 7 // 8].mean() < 3
    assert "nothing visible is missing" in PROCESSOR.load(whole[:-2]).remark


def test_a_jpeg_that_lacks_half_is_refused(whole):
    for present in (len(whole) // 2, len(whole) // 4, 300):
        with pytest.raises(OSError, match="The picture (is damaged|is not a picture)") as caught:
            PROCESSOR.load(whole[:present])
        assert "\n" not in str(caught.value)


def test_the_remark_counts_the_rows(tmp_path):
    whole = encoded(scene(), "JPEG", quality=90, subsampling="4:4:4")
    (tmp_path / "cut.jpg").write_bytes(whole[: -len(whole) // 16])
    remark = PROCESSOR.load(tmp_path / "cut.jpg").remark
    missing = int(remark.split("lowest ")[1].split()[0])
    assert 8 <= missing <= 32 and "of its 304 rows are missing" in remark


def test_a_black_picture_and_other_formats_are_judged_too():
    black = encoded(Image.new("RGB", (64, 64)), "JPEG")
    assert PROCESSOR.load(black[:-3]).remark
    with pytest.raises(OSError, match="damaged"):
        PROCESSOR.load(encoded(scene(), "PNG")[:-2000])
