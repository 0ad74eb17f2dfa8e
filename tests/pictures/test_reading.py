"""What is read and what is refused, with real files of every kind."""

import functools
import http.server
import io
import os
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import EpsImagePlugin, Image, UnidentifiedImageError
from samples import PROCESSOR, TAG, bytes_of, encoded, exif_block, gradient

from hf_faceenh.pictures import FaceImageProcessor, reading


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


def test_an_image_whose_file_is_closed(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as image:
        image.load()
    np.testing.assert_array_equal(bytes_of(PROCESSOR.load(image)), gradient())


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
    monkeypatch.setattr(reading, "LARGEST_FILE", len(data) - 1)
    refused(f"{server}/turned.png", ValueError, "larger than")


def test_a_url_is_fetched_once_however_often_it_is_read(server, tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "picture.png")
    read = PROCESSOR.reader(f"{server}/picture.png")
    (tmp_path / "picture.png").unlink()
    for _ in range(2):
        np.testing.assert_array_equal(bytes_of(read()), gradient())
    with pytest.raises(OSError, match="404"):
        PROCESSOR.reader(f"{server}/picture.png")


def test_an_unreachable_url():
    refused("http://127.0.0.1:9/picture.png", OSError, "Could not fetch")


# Files that strangers send

HOSTILE = Path(__file__).parents[1] / "data" / "hostile"


def test_what_pillow_asserts_is_a_damaged_picture():
    refused(HOSTILE / "png_decoder_asserts.png", OSError, "is damaged")


def test_an_impossible_orientation_is_none(tmp_path):
    loaded = PROCESSOR.load(HOSTILE / "exif_orientation_infinite.jpg")
    assert loaded.info.size == (96, 80) and loaded.remark is None
    PROCESSOR.save(PROCESSOR.to_output(loaded.pixels, loaded), tmp_path / "again.jpg", loaded.info)
    assert PROCESSOR.load(tmp_path / "again.jpg").info.size == (96, 80)


@pytest.mark.parametrize("name", ["icc_damaged.webp", "icc_damaged_16.tif"])
def test_a_damaged_profile_is_ignored_and_said(name, tmp_path):
    loaded = PROCESSOR.load(HOSTILE / name)
    assert loaded.info.icc_profile is None and "colour profile is damaged" in loaded.remark
    frames = PROCESSOR.load_frames(HOSTILE / name)
    PROCESSOR.save(PROCESSOR.to_output(next(iter(frames)).pixels, loaded), tmp_path / name, loaded.info)
    assert frames.remark == loaded.remark and PROCESSOR.load(tmp_path / name).remark is None


def test_no_other_program_is_started(tmp_path, monkeypatch):
    """Pillow reads EPS with Ghostscript, where it finds one, whatever the file is called."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    picture = tmp_path / "photo.jpg"
    picture.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n")
    for given in (picture, picture.read_bytes()):
        refused(given, UnidentifiedImageError, "expected one of JPEG, PNG")
    assert not (tmp_path / "started").exists()
    with pytest.raises(ValueError, match="EPS is not opened: Pillow would start Ghostscript"):
        FaceImageProcessor(formats=["PNG", "EPS"])
    with pytest.raises(OSError):
        Image.open(picture).load()
    assert (tmp_path / "started").exists()  # what it would have been


def test_other_formats_are_opened_where_they_are_asked_for():
    data = encoded(Image.fromarray(gradient()), "TGA")
    refused(data, UnidentifiedImageError, "FaceImageProcessor(formats=…)")
    np.testing.assert_array_equal(bytes_of(FaceImageProcessor(formats=["PNG", "TGA"]).load(data)), gradient())
