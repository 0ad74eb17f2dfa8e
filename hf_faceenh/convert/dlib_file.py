"""Networks as dlib's `serialize` writes them (dlib/serialize.h, dlib/dnn/tensor_tools.cpp, dlib/dnn/layers.h)."""

import math
from pathlib import Path

import numpy as np
import torch

from hf_faceenh.convert.architecture import ConversionError, StateDict


def read_dlib(source: Path) -> StateDict:
    """The weights of a network that was trained with dlib's metric loss, under keys `<layer>.<kind>.<name>`.

    Layers are counted from the input up, tags and skips included. What shapes the network without being a weight is a
    tensor too (`geometry`, or an empty one), so that strict loading finds every difference.

    Raises:
        ConversionError: for a file that is damaged, goes on after its end, or holds another kind of network.
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


class _DlibFile:
    """The parts of such a file, read from front to back."""

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
        """As many as there are `expected`; each must equal what is expected there, unless that is `None`."""
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
        """A layer's two parameters, which one tensor holds one after the other, by the two layouts that follow."""
        shapes = [self.layout(), self.layout()]
        counts = [math.prod(shape) for shape in shapes]
        if sum(counts) != parameters.numel():
            raise self.damaged()
        first, second = parameters.flatten().split(counts)
        return first.reshape(shapes[0]), second.reshape(shapes[1])

    def layer(self) -> StateDict:
        """The details of one layer."""
        kind = self.text()
        if kind == "con_4":
            return self.convolution()
        if kind == "fc_2":
            return self.fully_connected()
        if kind == "affine_":
            gamma, beta = self.split(self.tensor())
            self.integers(0)  # one number per channel, not per value
            return {"affine.gamma": gamma, "affine.beta": beta}
        if kind in ("max_pool_2", "avg_pool_2"):
            geometry = self.integers(*[None] * 6)  # height, width, stride y, x, padding y, x
            return {f"{kind.removesuffix('_2')}.geometry": torch.tensor(geometry, dtype=torch.float32)}
        if kind in ("relu_", "add_prev_"):
            return {kind.removesuffix("_"): torch.empty(0)}
        raise ConversionError(f"unknown layer {kind!r} of a dlib network")

    def convolution(self) -> StateDict:
        parameters = self.tensor()
        channels, height, width, *geometry = self.integers(*[None] * 7)  # stride y, x, padding y, x
        filters, biases = self.split(parameters)
        if [channels, height, width] != [filters.shape[0], *filters.shape[2:]]:
            raise self.damaged()
        self.multipliers()
        return {
            "con.filters": filters,
            "con.biases": biases,
            "con.geometry": torch.tensor(geometry, dtype=torch.float32),
        }

    def fully_connected(self) -> StateDict:
        outputs, inputs = self.integers(None, None)
        weights, _ = self.split(self.tensor())
        self.integers(1)  # no bias
        if list(weights.shape) != [inputs, outputs, 1, 1]:
            raise self.damaged()
        self.multipliers()
        return {"fc.weights": weights[:, :, 0, 0].T}  # [out, in], as PyTorch has it

    def multipliers(self) -> None:
        """Skips what multiplies learning rate and weight decay."""
        for _ in range(4):
            self.real()
