"""Orientation and EXIF, from the file read to the file written; test_carrying.py has the other texts."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin
from samples import PROCESSOR, TAG, bytes_of, encoded, enhanced, exif_block, gradient, photograph


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(orientation, format):
    array = gradient()
    options = {"quality": 95} if format == "JPEG" else {"lossless": True} if format == "WEBP" else {}
    data = encoded(Image.fromarray(array), format, exif=exif_block(Orientation=orientation), **options)
    loaded = PROCESSOR.load(data)
    turned, turns = array[:, ::-1] if orientation in (2, 4, 5, 7) else array, {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}
    expected = np.rot90(turned, turns.get(orientation, 0))
    assert loaded.pixels.shape[1:] == expected.shape[:2]
    assert np.abs(bytes_of(loaded).astype(int) - expected).mean() < (3 if format == "JPEG" else 1e-6)


def test_orientation_turns_alpha_too():
    data = encoded(Image.fromarray(gradient(channels=4)), "PNG", exif=exif_block(Orientation=6))
    loaded = PROCESSOR.load(data)
    np.testing.assert_array_equal((loaded.alpha[0] * 255).round().numpy(), np.rot90(gradient(channels=4)[..., 3], 3))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_exif_block_does_not_matter():
    word = b"\x01\0\x12\x01\x02\0\x04\0\0\0abc\0\0\0\0\0"  # an orientation of "abc"
    long = b"\x01\0\x12\x01\x02\0\xff\xff\xff\x7f\xff\xff\xff\x7f"
    for block in (b"garbage", b"II*\0\x08\0\0\0" + word, b"II*\0\x08\0\0\0" + long):
        loaded = PROCESSOR.load(encoded(Image.fromarray(gradient()), "JPEG", exif=b"Exif\0\0" + block))
        assert loaded.pixels.shape == (3, 48, 64) and loaded.info.exif is None


def test_the_first_picture_of_a_telephones_mpo_counts_as_jpeg():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    loaded = PROCESSOR.load(encoded(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert loaded.info.format == "JPEG" and loaded.info.jpeg and loaded.pixels[:, 0, 0].round().tolist() == [1, 0, 0]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_exif_is_kept_without_what_is_no_longer_true(suffix, tmp_path):
    loaded = PROCESSOR.load(photograph())
    path = tmp_path / f"out{suffix}"
    PROCESSOR.save(enhanced(loaded), path, loaded.info)
    with Image.open(path) as image:
        assert image.size == (96, 128)
        exif = image.getexif()
        details = exif.get_ifd(ExifTags.IFD.Exif)
        assert exif[TAG.DateTime] == "1969:07:21 02:56:15" and exif[TAG.Make] == "Hasselblad"
        assert exif.get(TAG.Orientation, 1) == 1 and exif.get(TAG.ImageWidth, 96) == 96
        assert details[TAG.DateTimeOriginal] == "1969:07:20 20:17:40" and float(details[TAG.FNumber]) == 5.6
        assert TAG.ExifImageWidth not in details
        assert exif.get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
        assert not exif.get_ifd(ExifTags.IFD.IFD1)
    np.testing.assert_allclose(bytes_of(PROCESSOR.load(path)), np.asarray(enhanced(loaded)), atol=60)


def test_tags_that_describe_the_old_file_do_not_reach_the_new_one(tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[TAG.DateTime] = "1969:07:21 02:56:15"
    data = encoded(Image.fromarray(gradient()), "TIFF", tiffinfo=tags, compression="tiff_lzw")
    loaded = PROCESSOR.load(data)
    PROCESSOR.save(enhanced(loaded), tmp_path / "out.jpg", loaded.info)
    with Image.open(tmp_path / "out.jpg") as image:
        assert set(image.getexif()) == {TAG.DateTime}


def test_a_grey_jpeg_stays_grey_and_a_new_jpeg_has_quality_95(tmp_path):
    loaded = PROCESSOR.load(encoded(Image.fromarray(gradient()[..., 0]), "JPEG", quality=60))
    PROCESSOR.save(enhanced(loaded), tmp_path / "grey.jpg", loaded.info)
    PROCESSOR.save(Image.fromarray(gradient()), tmp_path / "new.jpg")
    reference = Image.open(io.BytesIO(encoded(Image.fromarray(gradient()), "JPEG", quality=95)))
    with Image.open(tmp_path / "grey.jpg") as grey, Image.open(tmp_path / "new.jpg") as new:
        assert grey.mode == "L" and grey.quantization == {0: reference.quantization[0]}
        assert new.quantization == reference.quantization


def test_an_orientation_that_only_xmp_tells_is_applied_as_pillow_does():
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    for format in ("PNG", "WEBP"):
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        options = {"pnginfo": info} if format == "PNG" else {"xmp": xmp, "lossless": True}
        loaded = PROCESSOR.load(encoded(Image.fromarray(gradient()), format, **options))
        np.testing.assert_array_equal(bytes_of(loaded), np.rot90(gradient(), 3))
