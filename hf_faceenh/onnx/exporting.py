"""A pipeline's networks → ONNX files beside their weights, each checked against torch before it counts."""

import copy
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn
from torch.onnx import register_custom_op_symbolic

from hf_faceenh.errors import one_line
from hf_faceenh.onnx.checking import check
from hf_faceenh.onnx.graphs import OPSET, VARIANTS, Graph, Shape, graphs_of, variants_of

LENGTHS = {"batch": 1, "height": 64, "width": 96}  # of the sides that may have any length, while a graph is traced


class Traced(nn.Module):
    """A network as a graph's inputs and outputs have it."""

    def __init__(self, network: nn.Module, graph: Graph):
        super().__init__()
        self.network, self.graph = network, graph

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.graph.call(self.network, **dict(zip(self.graph.inputs, inputs, strict=True)))


def write_onnx(components: Mapping[str, Any], folder: Path) -> None:
    """Writes the ONNX files of a pipeline's networks into the components' folders, in float32 and in half precision.

    Args:
        components: of the pipeline, in float32.
        folder: of the saved pipeline.

    Raises:
        ValueError: where a network cannot be exported, or its file gives something else than torch does.
    """
    for role, graphs in graphs_of(components).items():
        for variant in variants_of(components[role]):
            network = copy.deepcopy(components[role]).to("cpu", VARIANTS[variant]).eval()
            for graph in graphs:
                onnx.save(_exported(network, graph, role), folder / role / graph.file(variant))
            check(role, components[role], folder, variant)


def _exported(network: nn.Module, graph: Graph, role: str) -> onnx.ModelProto:
    """With the exporter that traces. The one that is built on `torch.export` makes the same files, for a network of
    ours in 10 to 100 s in place of 1 to 7, and needs two packages more."""
    axes = {name: _free_sides(shape) for name, shape in (graph.inputs | graph.outputs).items()}
    examples = tuple(torch.full([LENGTHS.get(side, side) for side in shape], 0.5) for shape in graph.inputs.values())
    made = io.BytesIO()
    for name, symbol in SYMBOLS.items():
        register_custom_op_symbolic(f"aten::{name}", symbol, OPSET)
    # With gradients, for without them some networks write over their maps, which a graph cannot.
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")  # of a trace that takes Python numbers for constants: `check` would see it
        try:
            torch.onnx.export(
                Traced(network, graph).eval(),
                examples,
                made,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
        except Exception as error:  # torch.onnx has a dozen kinds
            raise ValueError(
                f"The {role}, a {type(network).__name__}, cannot be exported: {one_line(error, 200)}"
            ) from error
    model = onnx.load_from_string(made.getvalue())
    for output, shape in zip(model.graph.output, graph.outputs.values(), strict=True):
        _set_shape(output, shape)
    return model


def _free_sides(shape: Shape) -> dict[int, str]:
    return {axis: side for axis, side in enumerate(shape) if isinstance(side, str)}


def _set_shape(output: onnx.ValueInfoProto, shape: Shape) -> None:
    """What the exporter cannot follow through the graph, it leaves open."""
    for dimension, side in zip(output.type.tensor_type.shape.dim, shape, strict=True):
        if isinstance(side, int):
            dimension.dim_value = side


def _addcmul(graph, addend, factor, other, value):
    """torch's own symbol multiplies by `value`, which is 1 here, in float32, and so leaves half precision."""
    return graph.op("Add", addend, graph.op("Mul", factor, other))


def _transposed(graph, matrices):
    """`Tensor.mT`, for which the exporter has no symbol."""
    *axes, rows, columns = range(matrices.type().dim())
    return graph.op("Transpose", matrices, perm_i=[*axes, columns, rows])


SYMBOLS = {"addcmul": _addcmul, "mT": _transposed}  # operation of torch → how it is written in ONNX
