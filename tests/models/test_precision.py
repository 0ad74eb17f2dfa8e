"""Half precision, autocast and compilation of all networks."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_enhancer

from hf_faceenh.alignment import crop_faces, similarity_transform
from hf_faceenh.models import FaceDiscriminator, GPENFaceEnhancer, SuperResolver
from hf_faceenh.models.discriminator import append_minibatch_deviation, discriminator_config
from hf_faceenh.models.gpen import gpen_config
from hf_faceenh.models.layers import EqualizedConv2d, StyledConv2d

HALF = (torch.float16, torch.bfloat16)
SIZE = 512  # of the bundled enhancer's faces


def gpen():
    torch.manual_seed(0)
    model = GPENFaceEnhancer(**gpen_config(32, style_dim=16, n_mlp=2, narrow=1 / 32)).eval()
    for stage in model.generating_network.stages:  # 0 at the start: the noise features would have no effect
        for convolution in stage.convolutions:
            torch.nn.init.normal_(convolution.noise_weight)
    return model


def discriminator():
    torch.manual_seed(0)
    return FaceDiscriminator(**discriminator_config(16, narrow=1 / 64)).eval()


def super_resolver(architecture):
    torch.manual_seed(0)
    return SuperResolver(architecture, 2, num_feat=4, num_conv=2, num_block=1, num_grow_ch=2, anti_ringing=True).eval()


def faces(count, size):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def map_types(model):
    """The number types of what the convolutions give, as the model runs."""
    seen = set()
    for module in model.modules():
        if isinstance(module, (EqualizedConv2d, StyledConv2d)):
            module.register_forward_hook(lambda _, __, output: seen.add(output.dtype))
    return seen


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("how", ["autocast", "converted"])
def test_gpen_in_half_precision_stays_near_float32(how, dtype, gradients):
    model, lq = gpen(), faces(2, 32)
    with torch.set_grad_enabled(gradients):
        expected = model(lq).sample
        seen = map_types(model)
        if how == "converted":
            model.to(dtype)
        with torch.autocast("cpu", dtype, enabled=how == "autocast"):
            image = model(lq).sample
    assert seen == {dtype} and image.dtype == torch.float32
    assert (image - expected).norm() / expected.norm() < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", HALF)
@torch.no_grad()
def test_demodulation_takes_weights_whose_squares_leave_float16(dtype):
    torch.manual_seed(0)
    layer = StyledConv2d(64, 8, 4, 16)
    layer.weight.mul_(200)  # Σ(w·s)² = 40000, times as much as the modulation is above 1
    layer.modulation.bias.fill_(8)
    hidden, noise, style = torch.randn(2, 64, 8, 8) / 8, torch.randn(2, 4, 8, 8), torch.randn(2, 16)
    expected = layer(hidden.clone(), noise, style)
    half = layer.to(dtype)(hidden.to(dtype), noise.to(dtype), style.to(dtype)).float()
    assert (half - expected).norm() / expected.norm() < 4 * torch.finfo(dtype).eps
    assert expected.std() > 0.05


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("how", ["autocast", "converted"])
def test_the_discriminator_has_finite_gradients_near_those_of_float32(how, batch, dtype):
    gradients = []
    for half in (False, True):
        model, sample = discriminator(), faces(1, 16).repeat(batch, 1, 1, 1).requires_grad_(True)  # faces that agree
        seen = map_types(model)
        if half and how == "converted":
            model.to(dtype)
        with torch.autocast("cpu", dtype, enabled=half and how == "autocast"):
            logits = model(sample).logits
        logits.float().sum().backward()
        gradients.append(torch.cat([sample.grad.flatten(), *(p.grad.flatten().float() for p in model.parameters())]))
    assert seen == {dtype}
    assert gradients[1].isfinite().all()
    assert (gradients[1] - gradients[0]).norm() / gradients[0].norm() < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", HALF)
def test_minibatch_deviation_of_faces_that_agree_has_a_gradient_of_0(dtype):
    hidden = torch.ones(1, 3, 4, 4, dtype=dtype, requires_grad=True)
    append_minibatch_deviation(hidden)[:, -1].sum().backward()
    assert torch.equal(hidden.grad, torch.zeros_like(hidden))


@pytest.fixture(scope="module")
def portrait(bundled, astronaut):
    """The astronaut's aligned face `[1, 3, 512, 512]` in [0, 1]."""
    picture = torch.from_numpy(np.array(Image.open(astronaut).convert("RGB"))).permute(2, 0, 1) / 255
    template = torch.tensor(bundled.detector.config.template) * SIZE
    return crop_faces(picture, similarity_transform(bundled.detector.detect(picture).landmarks, template), SIZE)


@torch.no_grad()
def test_the_bundled_enhancer_in_bfloat16_differs_by_less_than_2_steps_of_255(bundled, portrait):
    # Damaged, as the enhancer then adds most to its input.
    small = torch.nn.functional.interpolate(portrait, size=(48, 48), mode="bilinear", antialias=True)
    lq = torch.nn.functional.interpolate(small, size=(SIZE, SIZE), mode="bilinear") * 2 - 1
    half = type(bundled.enhancer)(**dict(bundled.enhancer.config)).eval()
    half.load_state_dict(bundled.enhancer.state_dict())
    expected = bundled.enhancer(lq).sample
    image = half.to(torch.bfloat16)(lq).sample
    assert half.dtype == torch.bfloat16 and image.dtype == torch.float32
    assert (image - expected).abs().max() / 2 < 2 / 255


@torch.no_grad()
def test_the_bundled_super_resolver_in_bfloat16_differs_by_less_than_1_step_of_255(bundled, portrait):
    half = type(bundled.super_resolver)(**dict(bundled.super_resolver.config)).eval()
    half.load_state_dict(bundled.super_resolver.state_dict())
    eyes = portrait[..., 160:320, 128:384]
    image = half.to(torch.bfloat16)(eyes).sample
    assert half.dtype == torch.bfloat16 == half.body[0].conv1.weight.dtype
    assert image.dtype == torch.float32
    assert (image - bundled.super_resolver(eyes).sample).abs().max() < 1 / 255


@torch.no_grad()
def test_the_first_convolution_of_the_enhancer_is_never_in_bfloat16(tmp_path):
    model = tiny_enhancer(16)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    for half in (loaded, tiny_enhancer(16).to(torch.bfloat16), tiny_enhancer(16).bfloat16()):
        stem = half.convolutional_network.stem
        assert torch.equal(stem.weight, model.convolutional_network.stem.weight)
        assert {p.dtype for n, p in half.named_parameters() if ".stem." not in n} == {torch.bfloat16} == {half.dtype}
        features = half(faces(1, 16), return_features=True).noise_features
        assert {feature.dtype for feature in features} == {torch.bfloat16}
    assert tiny_enhancer(16).half().convolutional_network.stem.weight.dtype == torch.float16


COMPILED = {
    "ours": lambda: (tiny_enhancer(16), faces(2, 16)),
    "gpen": lambda: (gpen(), faces(2, 32)),
    "discriminator": lambda: (discriminator(), faces(2, 16)),
    **{
        name: lambda name=name: (super_resolver(name), faces(1, 8) / 2 + 0.5)
        for name in ("compact", "residual", "rrdb")
    },
}


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("name", COMPILED)
def test_compiles_without_a_graph_break(name, gradients):
    model, sample = COMPILED[name]()
    torch._dynamo.reset()
    with torch.set_grad_enabled(gradients):
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        (output,) = compiled(sample, return_dict=False)
        torch.testing.assert_close(output, model(sample, return_dict=False)[0])
