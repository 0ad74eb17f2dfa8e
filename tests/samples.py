"""Small pictures and files of every kind, built here."""

import functools
import io

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms

from hf_faceenh.pictures import FaceImageProcessor

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


@functools.cache  # littleCMS writes the time of day into it
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


def photograph(**options):
    exif = exif_block(Orientation=6, DateTime="1969:07:21 02:56:15", Make="Hasselblad", ImageWidth=64, Artist="Ö")
    exif[ExifTags.IFD.Exif] = {TAG.DateTimeOriginal: "1969:07:20 20:17:40", TAG.ExifImageWidth: 64, TAG.FNumber: 5.6}
    exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (0.0, 40.0, 26.7)}
    return encoded(Image.fromarray(gradient()), "JPEG", exif=exif, **options)


def enhanced(loaded):
    return PROCESSOR.to_output(loaded.pixels.repeat_interleave(2, 1).repeat_interleave(2, 2), loaded)
