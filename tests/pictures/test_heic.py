"""HEIC, the format of telephones."""

import io

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError
from samples import PROCESSOR, bytes_of, encoded, enhanced, exif_block, gradient

from hf_faceenh.pictures import heic


@pytest.fixture
def photograph():
    """Turned by a telephone: the file says so twice, to HEIC's readers and in EXIF."""
    heic.register()
    exif = exif_block(Orientation=6, Make="Hasselblad").tobytes()
    return encoded(Image.fromarray(gradient()), "HEIF", exif=exif, quality=95)


def test_a_telephones_photograph_is_turned_once(photograph, tmp_path):
    loaded = PROCESSOR.load(photograph)
    assert loaded.info.format == "HEIF"
    upright = gradient().swapaxes(0, 1)[:, ::-1]
    assert np.abs(bytes_of(loaded).astype(int) - upright).mean() < 6
    PROCESSOR.save(enhanced(loaded), tmp_path / "new.heic", loaded.info)
    with Image.open(tmp_path / "new.heic") as new:
        assert (new.format, new.size, new.getexif()[271]) == ("HEIF", (96, 128), "Hasselblad")
        assert new.getexif().get(274, 1) == 1 and new.info["original_orientation"] in (None, 1)
    again = bytes_of(PROCESSOR.load(tmp_path / "new.heic"))[::2, ::2]
    assert np.abs(again.astype(int) - upright).mean() < 8
    PROCESSOR.save(enhanced(loaded), tmp_path / "new.jpg", loaded.info)
    with Image.open(tmp_path / "new.jpg") as new:
        assert (new.format, new.size, new.getexif()[271]) == ("JPEG", (96, 128), "Hasselblad")


def test_alpha_and_grey_stay(photograph, tmp_path):
    for mode in ("RGBA", "L"):
        data = encoded(Image.fromarray(gradient()).convert(mode), "HEIF", quality=95)
        loaded = PROCESSOR.load(data)
        PROCESSOR.save(enhanced(loaded), tmp_path / "new.heic", loaded.info)
        assert Image.open(tmp_path / "new.heic").mode == mode


def test_without_the_extra_a_file_is_known_by_its_content(photograph, monkeypatch, tmp_path):
    """Many a .jpg on the way from a telephone is HEIC."""
    monkeypatch.setattr(heic, "is_installed", lambda: False)
    monkeypatch.delitem(Image.OPEN, "HEIF")
    monkeypatch.setattr(heic, "register", lambda: None)
    (tmp_path / "photo.jpg").write_bytes(photograph)
    with pytest.raises(UnidentifiedImageError) as raised:
        PROCESSOR.load(tmp_path / "photo.jpg")
    assert str(raised.value) == f'{tmp_path / "photo.jpg"}: HEIC needs an extra: pip install "hf-faceenh[heic]"'


def test_avif_is_read_and_written(tmp_path):
    file = io.BytesIO()
    Image.fromarray(gradient()).save(file, "AVIF", quality=95)
    loaded = PROCESSOR.load(file.getvalue())
    PROCESSOR.save(enhanced(loaded), tmp_path / "new.avif", loaded.info)
    assert Image.open(tmp_path / "new.avif").size == (128, 96)
