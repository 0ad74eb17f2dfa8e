"""Pictures in and out, with real files of every kind built here."""

import functools
import http.server
import io
import os
import struct
import subprocess
import sys
import threading
import zlib

import cv2
import numpy as np
import pytest
import tifffile
import torch
from diffusers import DiffusionPipeline
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from hf_faceenh import image_processor
from hf_faceenh.image_processor import FaceImageProcessor

TAG = ExifTags.Base
PROCESSOR = FaceImageProcessor()


def gradient(height=48, width=64, channels=3):
    """A smooth uint8 picture whose four corners differ."""
    y, x = np.mgrid[:height, :width]
    planes = [255 * x / width, 255 * y / height, 128 + 100 * np.sin(x / 9), 40 + 200 * y / height]
    return np.stack(planes[:channels], -1).astype(np.uint8)


def encoded(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def bytes_of(loaded):
    """The pixels as uint8 HxWx3."""
    return (loaded.pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def exif_block(**tags):
    exif = Image.Exif()
    for name, value in tags.items():
        exif[TAG[name]] = value
    return exif


def swapped_profile():
    """An sRGB-like profile in which red and blue are exchanged, and which does not call itself sRGB: what it does to
    a picture is known without a second colour engine."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    table = {bytes(data[i : i + 4]): i for i in range(132, 132 + 12 * int.from_bytes(data[128:132], "big"), 12)}
    a, b = table[b"rXYZ"] + 4, table[b"bXYZ"] + 4
    data[a : a + 8], data[b : b + 8] = data[b : b + 8], data[a : a + 8]
    return (
        bytes(data)
        .replace("sRGB".encode("utf-16-be"), "Swap".encode("utf-16-be"))
        .replace(b"sRGB built", b"Swap built")
    )


# In: what is accepted


@pytest.mark.parametrize(
    "picture",
    [
        gradient(),
        gradient().astype(np.uint16) * 257,
        gradient().astype(">u2") * 257,
        gradient() / 255,
        (gradient() / 255).astype(np.float32),
        torch.from_numpy(gradient()).permute(2, 0, 1),
        torch.from_numpy(gradient()).permute(2, 0, 1).double() / 255,
        Image.fromarray(gradient()),
        encoded(Image.fromarray(gradient()), "PNG"),
        memoryview(encoded(Image.fromarray(gradient()), "BMP")),
    ],
    ids=lambda picture: f"{type(picture).__name__}-{getattr(picture, 'dtype', '')}",
)
def test_every_form_gives_the_same_pixels(picture):
    loaded = PROCESSOR.load(picture)
    assert loaded.pixels.shape == (3, 48, 64) and loaded.pixels.dtype == torch.float32
    assert loaded.pixels.is_contiguous() and loaded.alpha is None and not loaded.info.grey
    np.testing.assert_array_equal(bytes_of(loaded), gradient())


def test_the_callers_data_stays_untouched():
    array, tensor = np.full((4, 4, 3), 1.0005, np.float32), torch.full((3, 4, 4), 1.0005)
    for picture in (array, tensor):
        loaded = PROCESSOR.load(picture)
        assert loaded.pixels.max() == 1
        loaded.pixels.zero_()
    assert array.min() > 1 and tensor.min() > 1


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
def test_grey_arrays(shape):
    loaded = PROCESSOR.load(np.arange(35, dtype=np.uint8).reshape(shape))
    assert loaded.info.grey and loaded.pixels.shape == (3, 5, 7)
    assert torch.equal(loaded.pixels[0], loaded.pixels[2])
    assert PROCESSOR.load(torch.rand(1, 5, 7)).info.grey


def test_arrays_and_tensors_with_alpha():
    array = gradient(channels=4)
    for picture in (array, torch.from_numpy(array).permute(2, 0, 1)):
        loaded = PROCESSOR.load(picture)
        np.testing.assert_array_equal(bytes_of(loaded), array[..., :3])
        np.testing.assert_array_equal((loaded.alpha[0] * 255).round().numpy(), array[..., 3])


def test_half_precision_tensors():
    for dtype in (torch.float16, torch.bfloat16):
        loaded = PROCESSOR.load(torch.full((3, 4, 4), 0.5, dtype=dtype))
        assert loaded.pixels.dtype == torch.float32 and loaded.pixels.unique().tolist() == [0.5]


def test_paths(tmp_path):
    path = tmp_path / "gradient with blank ü.png"
    Image.fromarray(gradient()).save(path)
    for picture in (path, str(path)):
        np.testing.assert_array_equal(bytes_of(PROCESSOR.load(picture)), gradient())
    path.unlink()  # and nothing holds the file


def test_load_all_splits_lists_and_batches():
    array = gradient()
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    small = Image.new("RGB", (3, 2))
    assert [x.pixels.shape[1:] for x in PROCESSOR.load_all([array, small])] == [(48, 64), (2, 3)]
    for images, number in ((array, 1), ((tensor, tensor), 2), (np.stack([array] * 3), 3), (tensor[None], 1)):
        loaded = PROCESSOR.load_all(images)
        assert len(loaded) == number
        np.testing.assert_array_equal(bytes_of(loaded[-1]), array)
    assert PROCESSOR.load_all(loaded)[0] is loaded[0]


# In: kinds of files


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


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_16_bit_tiff_keeps_its_depth(orientation):
    deep, file = np.random.default_rng(0).integers(0, 65535, (6, 8, 3), dtype=np.uint16), io.BytesIO()
    tifffile.imwrite(file, deep, photometric="rgb", extratags=[(TAG.Orientation, "H", 1, orientation, True)])
    levels = (PROCESSOR.load(file.getvalue()).pixels * 65535).round().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(levels, np.rot90(deep, {3: 2, 6: 3, 8: 1}.get(orientation, 0)))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_files_keep_their_depth(suffix, channels, tmp_path):
    deep = np.random.default_rng(0).integers(0, 65535, (6, 8, channels), dtype=np.uint16)
    path = tmp_path / f"deep{suffix}"
    order = [0] if channels == 1 else [2, 1, 0, 3][:channels]
    cv2.imwrite(str(path), deep[..., order])
    loaded = PROCESSOR.load(path)
    assert loaded.info.depth == 16 and loaded.info.grey == (channels == 1)
    levels = (loaded.pixels * 65535).round().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(levels, np.broadcast_to(deep[..., :3], (6, 8, 3)))
    if channels == 4:
        np.testing.assert_array_equal((loaded.alpha[0] * 65535).round().numpy(), deep[..., 3])


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


def test_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    for format in ("GIF", "WEBP", "PNG"):
        data = encoded(
            frames[0],
            format,
            save_all=True,
            append_images=frames[1:],
            **({"lossless": True} if format == "WEBP" else {}),
        )
        assert bytes_of(PROCESSOR.load(data))[0, 0].tolist() == [255, 0, 0]


# In: colour profiles


def test_a_foreign_profile_is_converted_and_an_srgb_one_is_kept():
    array = gradient()
    array[..., 1] = 90
    foreign = PROCESSOR.load(encoded(Image.fromarray(array), "PNG", icc_profile=swapped_profile()))
    assert np.abs(bytes_of(foreign).astype(int) - array[..., ::-1]).max() <= 2
    assert "sRGB" in ImageCms.getProfileDescription(io.BytesIO(foreign.info.icc_profile))
    srgb = image_processor.SRGB.tobytes()
    loaded = PROCESSOR.load(encoded(Image.fromarray(array), "PNG", icc_profile=srgb))
    np.testing.assert_array_equal(bytes_of(loaded), array)
    assert loaded.info.icc_profile == srgb


def test_a_foreign_profile_goes_with_alpha_and_palette():
    for image in (Image.fromarray(gradient(channels=4)), Image.fromarray(gradient()).quantize(32)):
        loaded = PROCESSOR.load(encoded(image, "PNG", icc_profile=swapped_profile()))
        expected = np.asarray(image.convert("RGBA"))
        assert np.abs(bytes_of(loaded).astype(int) - expected[..., 2::-1]).max() <= 2
        if loaded.alpha is not None:
            np.testing.assert_array_equal((loaded.alpha[0] * 255).round().numpy(), expected[..., 3])


def test_16_bit_colour_in_a_foreign_profile_is_converted_in_8_bits():
    deep = gradient().astype(np.uint16) * 257
    data = cv2.imencode(".png", deep[..., ::-1])[1].tobytes()
    chunk = b"iCCP" + b"Swap\0\0" + zlib.compress(swapped_profile())
    chunk = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    loaded = PROCESSOR.load(data[:33] + chunk + data[33:])
    assert loaded.info.depth == 8
    assert np.abs(bytes_of(loaded).astype(int) - gradient()[..., ::-1]).max() <= 2


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
    assert loaded.info.icc_profile == image_processor.SRGB.tobytes()


@pytest.mark.parametrize("depth", [8, 16])
def test_a_grey_profile_is_used(depth):
    """Linear light: a half is 188 in sRGB."""
    linear = profile(b"GRAY", b"XYZ ", kTRC=b"curv" + bytes(8))
    levels = np.full((8, 8), 128 if depth == 8 else 128 * 256, np.uint8 if depth == 8 else np.uint16)
    loaded = PROCESSOR.load(encoded(Image.fromarray(levels), "PNG", icc_profile=linear))
    assert loaded.info.grey and loaded.info.depth == 8 and loaded.info.icc_profile is None
    assert np.abs(bytes_of(loaded).astype(int) - 188).max() <= 1


@pytest.mark.parametrize("profile", [b"junk", swapped_profile()], ids=["damaged", "of another space"])
def test_a_profile_that_does_not_fit_is_ignored(profile):
    image = Image.fromarray(gradient()) if profile == b"junk" else Image.fromarray(gradient()[..., 0])
    loaded = PROCESSOR.load(encoded(image, "PNG", icc_profile=profile))
    np.testing.assert_array_equal(bytes_of(loaded), np.asarray(image.convert("RGB")))
    assert loaded.info.icc_profile is None


# In: what is refused, each with one line


def refused(picture, error, *words, processor=PROCESSOR):
    with pytest.raises(error) as caught:
        processor.load(picture)
    line = str(caught.value)
    assert "\n" not in line and all(word in line for word in words), line


def test_refused_arrays():
    square = np.zeros((8, 8, 3), np.float32)
    refused(np.where(square == 0, np.nan, 0), ValueError, "NaN", "[0, 1]")
    refused(square + np.inf, ValueError, "infinite")
    refused(square + 200, ValueError, "200", "Divide 0…255 by 255")
    refused(square - 1, ValueError, "-1", "x / 2 + 0.5")
    refused(square[..., :2], ValueError, "[8, 8, 2]", "HxWx4")
    refused(np.zeros((3, 8, 8)), ValueError, "[3, 8, 8]", "Transpose")
    refused(np.zeros((0, 8, 3)), ValueError, "[0, 8, 3]")
    refused(square.astype(np.int64), ValueError, "int64", "uint8")
    refused(square.astype(bool), ValueError, "bool")


def test_refused_tensors():
    refused(torch.full((3, 8, 8), float("nan")), ValueError, "NaN")
    refused(torch.full((3, 8, 8), 255.0), ValueError, "255")
    refused(torch.zeros(8, 8, 3), ValueError, "[8, 8, 3]", "Transpose")
    refused(torch.zeros(1, 3, 8, 8), ValueError, "[1, 3, 8, 8]", "load_all")
    refused(torch.zeros(3, 8, 8, dtype=torch.int64), ValueError, "int64")


def test_refused_types():
    refused(7, TypeError, "int")
    refused(None, TypeError, "NoneType")
    refused(Image.new("RGB", (0, 8)), ValueError, "0×8")
    with pytest.raises(ValueError, match="empty list"):
        PROCESSOR.load_all([])


def test_refused_files(tmp_path):
    refused(tmp_path / "none.jpg", FileNotFoundError, "none.jpg")
    refused(str(tmp_path), IsADirectoryError, "folder")
    path = tmp_path / "text.jpg"
    path.write_text("this is no picture")
    refused(path, OSError, "text.jpg", "18 bytes", "not a picture")
    refused(b"", OSError, "0 bytes")
    refused(b"\xff\xd8\xff\xe0 only a beginning", OSError, "The picture")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_a_truncated_file_is_an_error(format, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), format)
    path = tmp_path / "cut"
    path.write_bytes(data[: len(data) // 2])
    refused(path, OSError, str(path))


def test_a_truncated_16_bit_file_is_an_error():
    noise = np.random.default_rng(0).integers(0, 65535, (64, 64, 3), dtype=np.uint16)
    data = cv2.imencode(".png", noise)[1].tobytes()
    refused(data[: len(data) // 2], OSError, "damaged")


def bomb(width, height):
    """A PNG header that promises `width` × `height` px, and next to nothing behind it."""

    def chunk(kind, body):
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("error")
def test_too_many_pixels_are_refused_by_the_header():
    refused(bomb(10_001, 10_000), ValueError, "10001×10000", "100 megapixels", "max_pixels")
    refused(bomb(30_000, 30_000), ValueError, "too large", "900000000")
    refused(Image.new("L", (4, 3)), ValueError, "4×3", processor=FaceImageProcessor(max_pixels=11))
    assert FaceImageProcessor(max_pixels=12).load(Image.new("L", (4, 3))).pixels.shape == (3, 3, 4)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_exif_block_does_not_matter():
    word = b"\x01\0\x12\x01\x02\0\x04\0\0\0abc\0\0\0\0\0"  # an orientation of "abc"
    long = b"\x01\0\x12\x01\x02\0\xff\xff\xff\x7f\xff\xff\xff\x7f"
    for block in (b"garbage", b"II*\0\x08\0\0\0" + word, b"II*\0\x08\0\0\0" + long):
        loaded = PROCESSOR.load(encoded(Image.fromarray(gradient()), "JPEG", exif=b"Exif\0\0" + block))
        assert loaded.pixels.shape == (3, 48, 64) and loaded.info.exif is None


def test_an_image_whose_file_is_closed(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as image:
        image.load()
    np.testing.assert_array_equal(bytes_of(PROCESSOR.load(image)), gradient())


def test_the_first_picture_of_a_telephones_mpo_counts_as_jpeg():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    loaded = PROCESSOR.load(encoded(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert loaded.info.format == "JPEG" and loaded.info.jpeg and loaded.pixels[:, 0, 0].round().tolist() == [1, 0, 0]


# URLs


@pytest.fixture
def server(tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{service.server_address[1]}"
        service.shutdown()


def test_urls(server, tmp_path, monkeypatch):
    data = encoded(Image.fromarray(gradient()), "PNG", exif=exif_block(Orientation=3))
    (tmp_path / "turned.png").write_bytes(data)
    np.testing.assert_array_equal(bytes_of(PROCESSOR.load(f"{server}/turned.png")), gradient()[::-1, ::-1])
    refused(f"{server}/absent.png", OSError, "404", "absent.png")
    (tmp_path / "text.png").write_text("no picture")
    refused(f"{server}/text.png", OSError, "text.png", "not a picture")
    monkeypatch.setattr(image_processor, "MAX_DOWNLOAD", len(data) - 1)
    refused(f"{server}/turned.png", ValueError, "larger than")


def test_an_unreachable_url():
    refused("http://127.0.0.1:9/picture.png", OSError, "Could not fetch")


# Out


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_every_8_bit_level_survives_the_way_in_and_out(mode):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    array = np.stack([levels, levels.T, levels[::-1], levels[:, ::-1]][: len(mode)], -1)
    image = Image.fromarray(array.squeeze(-1) if mode == "L" else array)
    loaded = PROCESSOR.load(image)
    output = PROCESSOR.to_output(loaded.pixels, loaded, "pil")
    assert output.mode == image.mode == mode
    np.testing.assert_array_equal(np.asarray(output), np.asarray(image))


def test_every_16_bit_grey_level_survives():
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    loaded = PROCESSOR.load(encoded(Image.fromarray(levels), "PNG"))
    output = PROCESSOR.to_output(loaded.pixels, loaded)
    assert output.mode == "I;16"
    np.testing.assert_array_equal(np.asarray(output), levels)


def test_output_is_rounded_and_clamped_strip_by_strip(monkeypatch):
    pixels = torch.rand(3, 37, 23, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    loaded = PROCESSOR.load(gradient(37, 23))
    expected = (pixels.clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    for strip in (1, 23 * 5, 2**18):
        monkeypatch.setattr(image_processor, "STRIP", strip)
        np.testing.assert_array_equal(np.asarray(PROCESSOR.to_output(pixels, loaded)), expected)


def test_a_grey_picture_comes_back_grey_whatever_colour_it_got():
    pixels = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    output = PROCESSOR.to_output(pixels, PROCESSOR.load(Image.new("L", (4, 4))))
    rgb = Image.fromarray((pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
    assert output.mode == "L"
    assert np.abs(np.asarray(output).astype(int) - np.asarray(rgb.convert("L"))).max() <= 1


def test_alpha_is_scaled_with_the_picture():
    array = gradient(channels=4)
    array[..., 3] = np.where(np.arange(64) < 32, 0, 255)
    loaded = PROCESSOR.load(array)
    output = PROCESSOR.to_output(torch.rand(3, 96, 128), loaded)
    alpha = np.asarray(output)[..., 3]
    assert output.mode == "RGBA" and output.size == (128, 96)
    assert (alpha[:, :60] == 0).all() and (alpha[:, 68:] == 255).all()


def test_array_and_tensor_outputs():
    pixels = torch.rand(3, 8, 6).bfloat16() * 1.5 - 0.25
    expected = pixels.float().clamp(0, 1)
    opaque, clear = PROCESSOR.load(gradient(8, 6)), PROCESSOR.load(gradient(8, 6, channels=4))
    array, tensor = PROCESSOR.to_output(pixels, opaque, "np"), PROCESSOR.to_output(pixels, opaque, "pt")
    assert array.shape == (8, 6, 3) and array.dtype == np.float32 and tensor.dtype == torch.float32
    np.testing.assert_array_equal(array.transpose(2, 0, 1), expected)
    assert torch.equal(tensor, expected)
    array, tensor = PROCESSOR.to_output(pixels, clear, "np"), PROCESSOR.to_output(pixels, clear, "pt")
    np.testing.assert_array_equal(array[..., 3], clear.alpha[0])
    assert torch.equal(tensor, torch.cat([expected, clear.alpha]))
    with pytest.raises(ValueError, match="output_type"):
        PROCESSOR.to_output(pixels, opaque, "latent")


def memory(field):
    """A field of /proc/self/status in MiB."""
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith(field))


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="no peak memory that can be reset")
def test_output_takes_little_more_memory_than_the_picture():
    """24 megapixels: Pillow holds RGB in 4 bytes a pixel, 92 MiB; another float copy would be 275 MiB more."""
    loaded, pixels = PROCESSOR.load(gradient()), torch.full((3, 4000, 6000), 0.3)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts anew
    before = memory("VmRSS")
    image = PROCESSOR.to_output(pixels, loaded)
    assert image.size == (6000, 4000) and memory("VmHWM") - before < 92 + 140


# Saving


def photograph(**options):
    exif = exif_block(Orientation=6, DateTime="1969:07:21 02:56:15", Make="Hasselblad", ImageWidth=64, Artist="Ö")
    exif[ExifTags.IFD.Exif] = {TAG.DateTimeOriginal: "1969:07:20 20:17:40", TAG.ExifImageWidth: 64, TAG.FNumber: 5.6}
    exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (0.0, 40.0, 26.7)}
    return encoded(Image.fromarray(gradient()), "JPEG", exif=exif, **options)


def enhanced(loaded):
    return PROCESSOR.to_output(loaded.pixels.repeat_interleave(2, 1).repeat_interleave(2, 2), loaded)


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


@pytest.mark.parametrize(("quality", "subsampling"), [(30, "4:2:0"), (88, "4:4:4")])
def test_jpeg_quality_is_kept(quality, subsampling, tmp_path):
    loaded = PROCESSOR.load(photograph(quality=quality, subsampling=subsampling))
    PROCESSOR.save(enhanced(loaded), tmp_path / "out.jpg", loaded.info)
    with Image.open(tmp_path / "out.jpg") as out, Image.open(io.BytesIO(photograph(quality=quality))) as original:
        assert out.quantization == original.quantization
        assert out.layer[0][1:3] == ((2, 2) if subsampling == "4:2:0" else (1, 1))


def test_a_grey_jpeg_stays_grey_and_a_new_jpeg_has_quality_95(tmp_path):
    loaded = PROCESSOR.load(encoded(Image.fromarray(gradient()[..., 0]), "JPEG", quality=60))
    PROCESSOR.save(enhanced(loaded), tmp_path / "grey.jpg", loaded.info)
    PROCESSOR.save(Image.fromarray(gradient()), tmp_path / "new.jpg")
    reference = Image.open(io.BytesIO(encoded(Image.fromarray(gradient()), "JPEG", quality=95)))
    with Image.open(tmp_path / "grey.jpg") as grey, Image.open(tmp_path / "new.jpg") as new:
        assert grey.mode == "L" and grey.quantization == dict(enumerate(loaded.info.jpeg["qtables"].values()))
        assert new.quantization == reference.quantization


def test_a_colour_picture_that_had_a_profile_gets_an_srgb_one(tmp_path):
    for suffix in (".jpg", ".png", ".webp", ".tif"):
        loaded = PROCESSOR.load(photograph(icc_profile=swapped_profile()))
        PROCESSOR.save(enhanced(loaded), tmp_path / f"out{suffix}", loaded.info)
        with Image.open(tmp_path / f"out{suffix}") as image:
            assert image.info["icc_profile"] == image_processor.SRGB.tobytes()
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


# As a component


class TinyPipeline(DiffusionPipeline):
    def __init__(self, image_processor: FaceImageProcessor):
        super().__init__()
        self.register_modules(image_processor=image_processor)


def test_a_pipeline_saves_and_loads_it(tmp_path):
    TinyPipeline(FaceImageProcessor(max_pixels=1234)).save_pretrained(tmp_path)
    loaded = TinyPipeline.from_pretrained(tmp_path)
    assert type(loaded.image_processor) is FaceImageProcessor
    assert loaded.image_processor.max_pixels == 1234
    assert FaceImageProcessor.from_pretrained(tmp_path / "image_processor", max_pixels=5).max_pixels == 5


def test_a_disk_that_is_full_a_few_bytes_too_early_is_an_error(tmp_path):
    noise = tmp_path / "noise.png"  # lossless: a JPEG saved again may be shorter
    Image.effect_noise((640, 640), 40).save(noise)
    PROCESSOR.save(Image.open(noise), tmp_path / "whole.jpg")
    size = (tmp_path / "whole.jpg").stat().st_size
    code = f"""
import resource, signal
from PIL import Image
from hf_faceenh.image_processor import FaceImageProcessor
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
