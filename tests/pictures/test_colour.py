"""Modes, palettes, colour profiles and levels on the way in."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from samples import PROCESSOR, bytes_of, encoded, gradient, swapped_profile

from hf_faceenh.pictures.colour import SRGB


def test_one_bit_i_and_f_modes():
    bits = Image.fromarray(gradient(channels=1)[..., 0]).convert("1")
    assert set(bytes_of(PROCESSOR.load(encoded(bits, "PNG"))).ravel()) == {0, 255}
    integers = Image.fromarray(np.array([[0, 65535]], np.int32))
    assert PROCESSOR.load(integers).pixels[0].tolist() == [[0, 1]]
    floats = Image.fromarray(np.array([[0, 0.25]], np.float32))
    assert PROCESSOR.load(encoded(floats, "TIFF")).pixels[0].tolist() == [[0, 0.25]]
    with pytest.raises(ValueError, match="65536; expected 0…65535"):
        PROCESSOR.load(Image.fromarray(np.array([[0, 65536]], np.int32)))


def test_palette_with_and_without_transparency():
    image = Image.fromarray(gradient()).quantize(16)
    np.testing.assert_array_equal(bytes_of(PROCESSOR.load(encoded(image, "PNG"))), np.asarray(image.convert("RGB")))
    loaded = PROCESSOR.load(encoded(image, "PNG", transparency=bytes([0, 100, 255])))
    expected = np.choose(np.minimum(np.asarray(image), 2), [0, 100, 255])
    np.testing.assert_array_equal((loaded.alpha[0] * 255).round().numpy(), expected)
    keyed = encoded(Image.fromarray(gradient()), "PNG", transparency=tuple(int(v) for v in gradient()[0, 0]))
    assert PROCESSOR.load(keyed).alpha[0, 0, 0] == 0


def test_grey_with_alpha():
    image = Image.fromarray(gradient(channels=2))
    assert image.mode == "LA"
    loaded = PROCESSOR.load(encoded(image, "PNG"))
    assert loaded.info.grey
    np.testing.assert_array_equal(np.asarray(PROCESSOR.to_output(loaded.pixels, loaded)), gradient(channels=2))


def test_cmyk_without_profile():
    image = Image.fromarray(gradient()).convert("CMYK")
    loaded = PROCESSOR.load(encoded(image, "JPEG", quality=100))
    assert np.abs(bytes_of(loaded).astype(int) - gradient()).mean() < 6


def test_a_picture_stays_in_its_own_rgb():
    array = gradient()
    array[..., 1] = 90
    for profile in (swapped_profile(), SRGB.tobytes()):
        loaded = PROCESSOR.load(encoded(Image.fromarray(array), "PNG", icc_profile=profile))
        np.testing.assert_array_equal(bytes_of(loaded), array)
        assert loaded.info.icc_profile == profile


def test_a_profile_goes_with_alpha_and_palette():
    for image in (Image.fromarray(gradient(channels=4)), Image.fromarray(gradient()).quantize(32)):
        loaded = PROCESSOR.load(encoded(image, "PNG", icc_profile=swapped_profile()))
        expected = np.asarray(image.convert("RGBA"))
        np.testing.assert_array_equal(bytes_of(loaded), expected[..., :3])
        assert loaded.info.icc_profile == swapped_profile()
        if loaded.alpha is not None:
            np.testing.assert_array_equal((loaded.alpha[0] * 255).round().numpy(), expected[..., 3])


def test_linear_light_becomes_srgb():
    """Networks would take it for an underexposed picture: a half is 188 in sRGB."""
    linear = curved_profile(1)
    loaded = PROCESSOR.load(encoded(Image.new("RGB", (8, 8), (128, 128, 128)), "PNG", icc_profile=linear))
    assert np.abs(bytes_of(loaded).astype(int) - 188).max() <= 1 and loaded.info.icc_profile == SRGB.tobytes()
    for gamma in (1.8, 2.2):  # ProPhoto's and Adobe's
        familiar = curved_profile(gamma)
        loaded = PROCESSOR.load(encoded(Image.new("RGB", (8, 8), (128, 128, 128)), "PNG", icc_profile=familiar))
        assert (bytes_of(loaded) == 128).all() and loaded.info.icc_profile == familiar


def test_lab_becomes_srgb():
    lab = Image.fromarray(np.full((8, 8, 3), (128, 0, 0), np.uint8), "LAB")  # L* = 50, a* = b* = 0
    loaded = PROCESSOR.load(encoded(lab, "TIFF"))
    assert np.abs(bytes_of(loaded).astype(int) - 119).max() <= 2 and loaded.info.icc_profile == SRGB.tobytes()


def test_16_bit_colour_in_a_foreign_profile_keeps_both():
    deep = np.random.default_rng(0).integers(0, 65535, (6, 8, 3), dtype=np.uint16)
    data = cv2.imencode(".png", deep[..., ::-1])[1].tobytes()
    chunk = b"iCCP" + b"Swap\0\0" + zlib.compress(swapped_profile())
    chunk = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    loaded = PROCESSOR.load(data[:33] + chunk + data[33:])
    assert loaded.info.depth == 16 and loaded.info.icc_profile == swapped_profile()
    np.testing.assert_array_equal((loaded.pixels * 65535).round().permute(1, 2, 0).numpy(), deep)


def profile(space, connection, **tags):
    """A minimal ICC profile (version 2)."""
    tags = {"desc": b"desc" + bytes(4) + b"\0\0\0\x05test\0" + bytes(80), "wtpt": b"XYZ " + bytes(4) + D50, **tags}
    at, table, body = 128 + 4 + 12 * len(tags), len(tags).to_bytes(4, "big"), b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name.encode() + (at + len(body)).to_bytes(4, "big") + len(data).to_bytes(4, "big")
        body += data
    header = bytes(4) + b"\x02\x10\0\0" + (b"prtr" if space == b"CMYK" else b"mntr") + space + connection
    header = (at + len(body)).to_bytes(4, "big") + header + bytes(12) + b"acsp" + bytes(28) + D50
    return header + bytes(128 - len(header)) + table + body


def curve(gamma):
    return b"curv" + bytes(4) + b"\0\0\0\x01" + struct.pack(">H", int(gamma * 256))


def curved_profile(gamma):
    """sRGB's colours with another tone curve."""
    data = SRGB.tobytes()
    tags = {data[i : i + 4]: struct.unpack_from(">2I", data, i + 4) for i in range(132, 132 + 12 * data[131], 12)}
    colours = {name: data[at : at + size] for name, (at, size) in tags.items() if name in (b"rXYZ", b"gXYZ", b"bXYZ")}
    curves = dict.fromkeys(("rTRC", "gTRC", "bTRC"), curve(gamma))
    return profile(b"RGB ", b"XYZ ", **{name.decode(): data for name, data in colours.items()}, **curves)


D50 = struct.pack(">3i", 63190, 65536, 54061)  # s15Fixed16


def test_a_cmyk_profile_is_used():
    """Its inks are grey, CIE L* = 50, which is 119 in sRGB; without it, the first would be cyan."""
    table = (
        bytes([255, 128, 128]) + bytes([128, 128, 128]) * 14 + bytes([0, 128, 128])
    )  # L*, a*, b* at the corners of the CMYK cube
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + bytes(range(256)) * 4 + table + bytes(range(256)) * 3
    data = encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", icc_profile=profile(b"CMYK", b"Lab ", A2B0=lut))
    loaded = PROCESSOR.load(data)
    assert np.abs(bytes_of(loaded).astype(int) - 119).max() <= 2
    assert loaded.info.icc_profile == SRGB.tobytes()


@pytest.mark.parametrize("depth", [8, 16])
def test_a_grey_profile_is_used(depth):
    """Linear light: a half is 188 in sRGB."""
    linear = profile(b"GRAY", b"XYZ ", kTRC=b"curv" + bytes(8))
    levels = np.full((8, 8), 128 if depth == 8 else 128 * 256, np.uint8 if depth == 8 else np.uint16)
    loaded = PROCESSOR.load(encoded(Image.fromarray(levels), "PNG", icc_profile=linear))
    assert loaded.info.grey and loaded.info.depth == 8 and loaded.info.icc_profile is None
    assert np.abs(bytes_of(loaded).astype(int) - 188).max() <= 1


@pytest.mark.parametrize("depth", [8, 16])
def test_a_familiar_grey_profile_is_kept(depth, tmp_path):
    gamma = profile(b"GRAY", b"XYZ ", kTRC=curve(2.2))
    levels = np.arange(64, dtype=np.uint8 if depth == 8 else np.uint16).reshape(8, 8)
    loaded = PROCESSOR.load(encoded(Image.fromarray(levels), "PNG", icc_profile=gamma))
    assert loaded.info.depth == depth and loaded.info.icc_profile == gamma
    image = PROCESSOR.to_output(loaded.pixels, loaded)
    for suffix, kept in ((".png", gamma), (".tif", gamma), (".jpg", gamma), (".webp", None)):  # WebP is always RGB
        PROCESSOR.save(image, tmp_path / f"out{suffix}", loaded.info)
        with Image.open(tmp_path / f"out{suffix}") as saved:
            assert saved.info.get("icc_profile") == kept
            if suffix in (".png", ".tif"):
                np.testing.assert_array_equal(np.asarray(saved), levels)


@pytest.mark.parametrize("profile", [b"junk", swapped_profile()], ids=["damaged", "of another space"])
def test_a_profile_that_does_not_fit_is_ignored(profile):
    image = Image.fromarray(gradient()) if profile == b"junk" else Image.fromarray(gradient()[..., 0])
    loaded = PROCESSOR.load(encoded(image, "PNG", icc_profile=profile))
    np.testing.assert_array_equal(bytes_of(loaded), np.asarray(image.convert("RGB")))
    assert loaded.info.icc_profile is None
