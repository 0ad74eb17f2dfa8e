"""Results in the form that the picture came in."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from samples import PROCESSOR, encoded, gradient

from hf_faceenh.pictures import output as output_module


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
        monkeypatch.setattr(output_module, "STRIP", strip)
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
