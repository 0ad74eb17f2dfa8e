"""Real-ESRGAN's networks (github.com/xinntao/Real-ESRGAN), whose key names `SuperResolver` has kept; and ESRGAN's, the
same network under older names (github.com/xinntao/ESRGAN)."""

import torch
from accelerate import init_empty_weights

from hf_faceenh.convert.architecture import Architecture, ConversionError, Places, StateDict, count_of, shape_of
from hf_faceenh.models.super_resolver import SuperResolver

LICENSE = "BSD-3-Clause (Real-ESRGAN, https://github.com/xinntao/Real-ESRGAN)"
OLD_LICENSE = "Apache-2.0 (ESRGAN, https://github.com/xinntao/ESRGAN), unless who trained the file says otherwise"


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


def _build_old_rrdb(state: StateDict) -> SuperResolver:
    features = shape_of(state, "model.0.weight")[0]
    if "model.10.weight" not in state:
        raise ConversionError("it upscales by another factor than 4, which alone is supported under the old names")
    return SuperResolver(
        architecture="rrdb",
        scale=4,
        num_feat=features,
        num_block=count_of(state, r"model\.1\.sub\.(\d+)\.RDB1\."),
        num_grow_ch=shape_of(state, "model.1.sub.0.RDB1.conv1.0.weight")[0],
        license=OLD_LICENSE,
    )


def _old_places(model: SuperResolver) -> Places:
    blocks = model.config.num_block
    parts = {"conv_first": "0", "conv_body": f"1.sub.{blocks}"}
    parts |= {"conv_up1": "3", "conv_up2": "6", "conv_hr": "8", "conv_last": "10"}
    for i in range(blocks):
        for j in (1, 2, 3):
            parts |= {f"body.{i}.rdb{j}.conv{k}": f"1.sub.{i}.RDB{j}.conv{k}.0" for k in range(1, 6)}
    return {f"model.{old}.{kind}": f"{ours}.{kind}" for ours, old in parts.items() for kind in ("weight", "bias")}


def with_weak(model: torch.nn.Module, weak: torch.nn.Module) -> SuperResolver:
    """A compact network that takes a wanted amount of denoising, of two that differ in how much they remove, as
    realesr-general-x4v3 and realesr-general-wdn-x4v3.

    Raises:
        ConversionError: unless both are compact networks of one size.
    """
    config, other = ({name: value for name, value in one.config.items() if name[0] != "_"} for one in (model, weak))
    if config.get("architecture") != "compact" or config != other:
        raise ConversionError("The two files do not hold compact networks of one size, of which one could be made.")
    with init_empty_weights():
        both = SuperResolver(**config | {"denoising": True})
    state = model.state_dict() | {key.replace("body", "weak", 1): value for key, value in weak.state_dict().items()}
    both.load_state_dict(state, strict=True, assign=True)
    return both.eval()


def _same_places(model: torch.nn.Module) -> Places:
    return {key: key for key in model.state_dict()}


ARCHITECTURES = (
    Architecture("Real-ESRGAN RRDB", r"body\.\d+\.rdb[123]\.", _build_rrdb, _same_places),
    Architecture("ESRGAN", r"model\.1\.sub\.\d+\.", _build_old_rrdb, _old_places),
    Architecture("Real-ESRGAN compact", r"body\.\d+\.(weight|bias)", _build_compact, _same_places),
)
