"""Real-ESRGAN's networks (github.com/xinntao/Real-ESRGAN), whose key names `SuperResolver` has kept."""

import torch

from hf_faceenh.convert.architecture import Architecture, ConversionError, Places, StateDict, count_of, shape_of
from hf_faceenh.models.super_resolver import SuperResolver

LICENSE = "BSD-3-Clause (Real-ESRGAN, https://github.com/xinntao/Real-ESRGAN)"


def _build_rrdb(state: StateDict) -> SuperResolver:
    features, inputs = shape_of(state, "conv_first.weight")[:2]
    scales = {3: 4, 12: 2, 48: 1}
    if inputs not in scales:
        raise ConversionError(f"conv_first.weight has {inputs} input channels, expected one of {list(scales)}")
    return SuperResolver(
        architecture="rrdb",
        scale=scales[inputs],
        num_feat=features,
        num_block=count_of(state, r"body\.(\d+)\."),
        num_grow_ch=shape_of(state, "body.0.rdb1.conv1.weight")[0],
        license=LICENSE,
    )


def _build_compact(state: StateDict) -> SuperResolver:
    last = count_of(state, r"body\.(\d+)\.") - 1  # convolutions have even numbers, the PReLU after each odd ones
    outputs = shape_of(state, f"body.{last}.weight")[0]
    scales = {3 * scale**2: scale for scale in (1, 2, 4)}
    if outputs not in scales:
        raise ConversionError(f"body.{last}.weight has {outputs} output channels, expected one of {list(scales)}")
    return SuperResolver(
        architecture="compact",
        scale=scales[outputs],
        num_feat=shape_of(state, "body.0.weight")[0],
        num_conv=last // 2 - 1,
        license=LICENSE,
    )


def _same_places(model: torch.nn.Module) -> Places:
    return {key: key for key in model.state_dict()}


ARCHITECTURES = (
    Architecture("Real-ESRGAN RRDB", r"body\.\d+\.rdb[123]\.", _build_rrdb, _same_places),
    Architecture("Real-ESRGAN compact", r"body\.\d+\.(weight|bias)", _build_compact, _same_places),
)
