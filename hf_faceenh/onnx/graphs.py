"""What the ONNX files of a pipeline compute: one graph for each network, and for each scale of a super-resolver."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from hf_faceenh.enhancing import dial

OPSET = 17  # of 2022, so that runtimes other than onnxruntime know it as well
VARIANTS = {None: torch.float32, "fp16": torch.float16}  # what diffusers calls a file's precision → number type
Shape = tuple[int | str, ...]  # a side that may have any length has a name
PICTURES: Shape = ("batch", 3, "height", "width")
DIAL: Shape = (1,)  # one number for the whole batch


@dataclass(frozen=True, slots=True)
class Graph:
    """What one ONNX file computes, in whatever number type its network has; what goes in and comes out is float32.

    Args:
        name: of the file, without its ending.
        call: maps the network and the inputs, by their names, to the outputs.
        inputs, outputs: name → shape.
    """

    name: str
    call: Callable[..., tuple[torch.Tensor, ...]]
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]

    def file(self, variant: str | None = None) -> str:
        """The file's name, as diffusers names its own."""
        return file_name(self.name, variant)


def file_name(name: str, variant: str | None) -> str:
    return ".".join(filter(None, (name, variant, "onnx")))


def variants_of(network: nn.Module) -> list[str | None]:
    """The precisions in which a network is written: one with a codebook in single precision alone, for in half it
    would pick other codes here and there, which make another face."""
    return [None] if hasattr(network, "codebook") else list(VARIANTS)


def scaled(scale: int) -> str:
    """The name of a super-resolver's graph."""
    return f"model_x{scale}"


def graphs_of(components: Mapping[str, Any]) -> dict[str, list[Graph]]:
    """The graphs of all networks of a pipeline, by their role in it."""
    return {role: GRAPHS[role](model) for role, model in components.items() if isinstance(model, nn.Module)}


def _enhancer(network: nn.Module) -> list[Graph]:
    side = network.config.sample_size
    faces = ("batch", 3, side, side)
    turned = {} if dial(network) is None else {"fidelity": DIAL}
    return [Graph("model", _enhance, {"sample": faces} | turned, {"enhanced": faces})]


def _enhance(network: nn.Module, sample: torch.Tensor, **turned: torch.Tensor) -> tuple[torch.Tensor]:
    return (network(sample.to(network.dtype), **turned).sample.float(),)


def _parser(network: nn.Module) -> list[Graph]:
    logits = ("batch", len(network.config.id2label), "rows", "columns")
    return [Graph("model", _parse, {"pixel_values": PICTURES}, {"logits": logits})]


def _parse(network: nn.Module, pixel_values: torch.Tensor) -> tuple[torch.Tensor]:
    return (network(pixel_values=pixel_values.to(network.dtype)).logits.float(),)


def _detector(network: nn.Module) -> list[Graph]:
    heads = {"heatmap": 1, "scale": 2, "offset": 2, "landmarks": 10}
    cells = {name: ("batch", channels, "height/4", "width/4") for name, channels in heads.items()}
    return [Graph("model", _detect, {"sample": PICTURES}, cells)]


def _detect(network: nn.Module, sample: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(head.float() for head in network(sample.to(network.dtype), return_dict=False))


def _recognizer(network: nn.Module) -> list[Graph]:
    side = network.config.image_size
    return [Graph("model", _embed, {"pixel_values": ("batch", 3, side, side)}, {"embeddings": ("batch", "features")})]


def _embed(network: nn.Module, pixel_values: torch.Tensor) -> tuple[torch.Tensor]:
    return (network(pixel_values.to(network.dtype)).embeddings.float(),)


def _super_resolver(network: nn.Module) -> list[Graph]:
    turned = {"denoise": DIAL} if network.config.denoising else {}
    return [
        Graph(
            scaled(scale),
            partial(_upscale, scale),
            {"sample": PICTURES} | turned,
            {"upscaled": ("batch", 3, f"{scale}*height", f"{scale}*width")},
        )
        for scale in network.scales
    ]


def _upscale(scale: int, network: nn.Module, sample: torch.Tensor, **turned: torch.Tensor) -> tuple[torch.Tensor]:
    # As the pipeline does: pictures are float32, whatever the network computes in.
    return (network(sample, scale=scale, **turned).sample,)


GRAPHS = {
    "enhancer": _enhancer,
    "parser": _parser,
    "detector": _detector,
    "recognizer": _recognizer,
    "super_resolver": _super_resolver,
}
