"""dlib's own files, written here from what dlib's sources say of the format."""

import pytest
import torch
import torch.nn.functional as F
from checkpoints import refused
from transformers import AutoModel

from hf_faceenh.convert import ConversionError, convert, load_published


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
