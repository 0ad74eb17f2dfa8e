"""The super-resolver's architectures, and the bundled one's quality."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

import hf_faceenh
from hf_faceenh.models.super_resolver import SuperResolver, SuperResolverOutput

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/data/golden"
BUNDLED = Path(hf_faceenh.__file__).parent / "weights/super_resolver"


def small(architecture="compact", scale=2):
    torch.manual_seed(0)
    return SuperResolver(architecture, scale, num_feat=4, num_conv=2, num_block=1, num_grow_ch=2).eval()


@pytest.mark.parametrize("name", ["srvgg_x4", "rrdb_x2", "rrdb_x4"])
@torch.no_grad()
def test_equals_the_published_code(name):
    config = json.loads((GOLDEN / name / "config.json").read_text())
    if name.startswith("srvgg"):
        model = SuperResolver("compact", config["upscale"], config["num_feat"], config["num_conv"])
    else:
        model = SuperResolver("rrdb", **config)
    model.load_state_dict(load_file(GOLDEN / name / "weights.safetensors"))
    io = load_file(GOLDEN / name / "io.safetensors")
    torch.testing.assert_close(model.eval()(io["input"]).sample, io["output"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("architecture", ["cells", "compact", "residual", "rrdb"])
@pytest.mark.parametrize("scale", [1, 2, 4])
@torch.no_grad()
def test_any_size(architecture, scale):
    model = small(architecture, scale)
    for height, width in [(1, 1), (5, 8), (7, 2)]:
        output = model(torch.rand(2, 3, height, width))
        assert isinstance(output, SuperResolverOutput)
        assert output.sample.shape == (2, 3, height * scale, width * scale)


@pytest.mark.parametrize(
    "architecture, scale, padding",
    [
        ("rrdb", 1, (0, 3, 0, 1)),
        ("rrdb", 2, (0, 1, 0, 1)),
        ("residual", 2, (0, 1, 0, 1)),
        ("cells", 2, (0, 1, 0, 1)),
    ],
)
@torch.no_grad()
def test_the_last_pixels_of_odd_sizes_are_repeated(architecture, scale, padding):
    model = small(architecture, scale)
    picture = torch.rand(1, 3, 11, 13)
    padded = torch.nn.functional.pad(picture, padding, mode="replicate")
    torch.testing.assert_close(model(picture).sample, model(padded).sample[..., : 11 * scale, : 13 * scale])


@pytest.mark.parametrize("architecture", ["cells", "compact", "residual", "rrdb"])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_receptive_radius(architecture, scale):
    model = small(architecture, scale)
    radius = model.receptive_radius
    picture = torch.rand(1, 3, 4, 2 * radius + 20, requires_grad=True)
    image = model(picture).sample
    seen = 0
    for pixel in range((radius + 8) * scale, (radius + 12) * scale):  # its place in an unshuffled cell matters
        (gradient,) = torch.autograd.grad(image[..., pixel].sum(), picture, retain_graph=True)
        columns = gradient.abs().sum((0, 1, 2)).nonzero().flatten()
        seen = max(seen, pixel // scale - columns.min().item(), columns.max().item() - pixel // scale)
    assert radius - 1 <= seen <= radius


@pytest.mark.parametrize("architecture", ["cells", "compact", "residual", "rrdb"])
def test_save_and_load(architecture, tmp_path):
    model = small(architecture)
    model.save_pretrained(tmp_path)
    loaded = SuperResolver.from_pretrained(tmp_path)
    picture = torch.rand(1, 3, 6, 7)
    assert loaded.config.architecture == architecture and loaded.config.license is None
    assert torch.equal(loaded(picture, return_dict=False)[0], model(picture).sample)


@pytest.mark.parametrize("architecture", ["cells", "compact", "residual", "rrdb"])
@pytest.mark.parametrize("scale", [1, 2])
def test_anti_ringing_keeps_to_the_range_of_the_pixels_around(architecture, scale):
    torch.manual_seed(0)
    config = {"num_feat": 4, "num_conv": 2, "num_block": 1, "num_grow_ch": 2}
    model = SuperResolver(architecture, scale, **config, anti_ringing=True).eval()
    picture = torch.full((1, 3, 12, 12), 0.25)
    picture[..., 6:] = 0.75
    image = model(picture).sample
    assert image[..., : 4 * scale].sub(0.25).abs().max() <= 1 / 255 + 1e-6  # two pixels from the edge
    assert image.min() >= 0.25 - 1 / 255 - 1e-6 and image.max() <= 0.75 + 1 / 255 + 1e-6
    plain = SuperResolver(architecture, scale, **config).eval()
    plain.load_state_dict(model.state_dict())
    assert not torch.equal(plain(picture).sample, image)


def test_gradient_checkpointing_keeps_the_gradient():
    gradients = []
    for checkpointing in (False, True):
        model = small("rrdb").train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        torch.manual_seed(1)
        model(torch.rand(1, 3, 8, 8)).sample.square().mean().backward()
        gradients.append(model.body[0].rdb1.conv1.weight.grad)
    assert torch.equal(*gradients) and gradients[0].abs().max() > 0


def several(**config):
    """A small network of cells that reaches ×2 and ×4, with random weights."""
    torch.manual_seed(0)
    return SuperResolver("cells", 2, num_feat=4, num_block=1, scales=(2, 4), denoising=True, **config).eval()


@torch.no_grad()
def test_several_scales_in_one_pass():
    model, picture = several(), torch.rand(1, 3, 5, 7)
    assert model.scales == (2, 4) and SuperResolver("cells", 2, num_feat=4).scales == (2,)
    assert torch.equal(model(picture).sample, model(picture, scale=2).sample)
    assert model(picture, scale=4).sample.shape == (1, 3, 20, 28)


@torch.no_grad()
def test_the_wanted_amount_of_denoising_matters_picture_by_picture():
    model, pictures = several(), torch.rand(2, 3, 6, 6)
    assert torch.equal(model(pictures).sample, model(pictures, denoise=1.0).sample)  # all of it by default
    both = model(pictures, denoise=torch.tensor([0.0, 1.0])).sample
    torch.testing.assert_close(both[:1], model(pictures[:1], denoise=0).sample)
    torch.testing.assert_close(both[1:], model(pictures[1:], denoise=1).sample)
    assert (both[0] - model(pictures[:1], denoise=1).sample[0]).abs().max() > 1e-3


def test_cells_compute_the_same_in_half_precision():
    model, picture = several(), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        half = several().to(torch.bfloat16)
        assert half.conv_first.weight.dtype == half.linear["2"].weight.dtype == torch.float32  # they read the picture
        torch.testing.assert_close(half(picture).sample, model(picture).sample, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    "arguments, message",
    [({"scale": 1}, "upscales by 2; got 1"), ({"denoise": 0.5}, "no wanted amount of denoising")],
)
def test_what_a_network_does_not_have(arguments, message):
    with pytest.raises(ValueError, match=message):
        small()(torch.rand(1, 3, 4, 4), **arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"scales": [2, 3]}, "some of"),
        ({"scales": [4]}, "2 among them"),
        ({"architecture": "residual", "scales": [2, 4]}, "Only"),
        ({"architecture": "residual", "denoising": True}, "Only"),
    ],
)
def test_bad_scales_and_denoising(arguments, message):
    with pytest.raises(ValueError, match=message):
        SuperResolver(**{"architecture": "cells"} | arguments if "scales" in arguments else arguments)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 4, 8, 8), (1, 3, 0, 8)])
def test_bad_shape(shape):
    with pytest.raises(ValueError, match=r"expects \[B, 3, H, W\]"):
        small()(torch.rand(shape))


@pytest.mark.parametrize("arguments", [{"architecture": "srcnn"}, {"scale": 3}])
def test_bad_config(arguments):
    with pytest.raises(ValueError, match="must be one of"):
        SuperResolver(**arguments)


def psnr(image, target):
    return -10 * np.log10(np.mean((image.astype(np.float32) - target) ** 2) / 255**2)


@torch.no_grad()
def upscale(model, picture):
    sample = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255
    return (model(sample).sample[0].permute(1, 2, 0) * 255).round().clamp(0, 255).byte().numpy()


def bicubic(picture, factor):
    size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def test_bundled_weights_fit_the_limits():
    model = SuperResolver.from_pretrained(BUNDLED, torch_dtype=torch.float32)
    assert model.dtype == torch.float32 and model.config.scale == 2
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 64, 64))
    multiply_accumulates = counter.get_total_flops() / 2 / 64**2
    assert multiply_accumulates <= 60_000  # per input pixel
    stored = load_file(BUNDLED / "diffusion_pytorch_model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.float16}


@pytest.mark.parametrize("kind", ["clean", "degraded"])
def test_bundled_weights_beat_bicubic_by_1_db(kind):
    model = SuperResolver.from_pretrained(BUNDLED, torch_dtype=torch.float32).eval()
    sharp = np.asarray(Image.open(ROOT / "examples/astronaut.png").convert("RGB"))[:256, 64:320]
    small = bicubic(sharp, 0.5) if kind == "clean" else slightly_degraded(sharp)
    assert psnr(upscale(model, small), sharp) > psnr(bicubic(small, 2), sharp) + 1


def slightly_degraded(sharp):
    """As training/train_super_resolver.py evaluates."""
    degraded = bicubic(cv2.GaussianBlur(sharp, (0, 0), 0.8), 0.5)
    degraded = (degraded + np.random.default_rng(0).normal(0, 4, degraded.shape)).round().clip(0, 255).astype(np.uint8)
    _, file = cv2.imencode(".jpg", degraded[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    return cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.parametrize("deviation", [2, 5, 10])
def test_bundled_weights_do_not_amplify_noise(deviation):
    model = SuperResolver.from_pretrained(BUNDLED, torch_dtype=torch.float32).eval()
    rng = np.random.default_rng(0)
    flat = (128 + rng.normal(0, deviation, (96, 96, 3))).round().clip(0, 255).astype(np.uint8)
    assert upscale(model, flat)[8:-8, 8:-8].std() < 0.9 * bicubic(flat, 2)[8:-8, 8:-8].std()


def test_bundled_weights_do_not_ring():
    """Beside a sharp step, over- and undershoot stay below those of bicubic upscaling."""
    model = SuperResolver.from_pretrained(BUNDLED, torch_dtype=torch.float32).eval()
    step = np.full((32, 64, 3), 64, np.uint8)
    step[:, 33:] = 192
    small_step = bicubic(np.repeat(np.repeat(step, 2, 0), 2, 1), 0.5)

    def overshoot(picture):
        picture = picture[12:-12, 24:-24].astype(int)
        return max(picture.max() - 192, 64 - picture.min())

    assert overshoot(upscale(model, small_step)) <= overshoot(bicubic(small_step, 2))
