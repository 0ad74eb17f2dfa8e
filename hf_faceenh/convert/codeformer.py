"""CodeFormer (github.com/sczhou/CodeFormer)."""

import math

import torch

from hf_faceenh.convert.architecture import Architecture, ConversionError, Places, StateDict, count_of, shape_of
from hf_faceenh.models.codeformer import CodeFormerFaceEnhancer

LICENSE = "Non-commercial use only (S-Lab License 1.0; CodeFormer, https://github.com/sczhou/CodeFormer)"


def _build(state: StateDict) -> CodeFormerFaceEnhancer:
    places, width = shape_of(state, "position_emb")
    codes, code_channels = shape_of(state, "quantize.embedding.weight")
    code_side = math.isqrt(places)
    if code_side**2 != places:
        raise ConversionError(f"position_emb is for {places} places, which make no square")
    halvings = count_of(state, r"encoder\.blocks\.(\d+)\.conv\.")
    stage_starts = range(1, 3 * halvings + 2, 3)  # behind the first convolution, each two blocks and a halving
    fused = [key for key in state if key.startswith("fuse_convs_dict.") and key.endswith(".scale.0.weight")]
    return CodeFormerFaceEnhancer(
        sample_size=code_side << halvings,
        channels=[shape_of(state, f"encoder.blocks.{i}.conv1.weight")[0] for i in stage_starts],
        code_channels=code_channels,
        codes=codes,
        width=width,
        layers=count_of(state, r"ft_layers\.(\d+)\."),
        fused_resolutions=[int(key.split(".")[1]) for key in fused],
        license=LICENSE,
    )


def _places(model: CodeFormerFaceEnhancer) -> Places:
    places = {"position_emb": "predictor.position", "quantize.embedding.weight": "codebook.weight"}

    def same(published: str, ours: str, **renamed: str) -> None:
        for key in model.get_submodule(ours).state_dict():
            name, _, rest = key.partition(".")
            places[f"{published}.{renamed.get(name, name)}.{rest}".rstrip(".")] = f"{ours}.{key}"

    for published, ours, first, steps in (
        ("encoder", "encoder", "stem", "downs"),
        ("generator", "generator", "conv_in", "ups"),
    ):
        for i, layer in enumerate(_in_order(model.get_submodule(ours), first, steps)):
            same(f"{published}.blocks.{i}", f"{ours}.{layer}", shortcut="conv_out")
    for i in range(len(model.predictor.layers)):
        same(f"ft_layers.{i}", f"predictor.layers.{i}")
    for published, ours in (("feat_emb", "embed"), ("idx_pred_layer.0", "norm"), ("idx_pred_layer.1", "logits")):
        same(published, f"predictor.{ours}")
    for resolution in model.generator.fusions:
        published, ours = f"fuse_convs_dict.{resolution}", f"generator.fusions.{resolution}"
        same(f"{published}.encode_enc", f"{ours}.merge", shortcut="conv_out")
        same(f"{published}.scale", f"{ours}.scale")
        same(f"{published}.shift", f"{ours}.shift")
    return places


def _in_order(network: torch.nn.Module, first: str, steps: str) -> list[str]:
    """The layers as published code numbers them: the encoder has its middle at the end, the generator at the start."""
    middle, stages = [f"middle.{i}" for i in range(len(network.middle))], []
    for i, stage in enumerate(network.stages):
        stages += [f"stages.{i}.{j}" for j in range(len(stage))]
        stages += [f"{steps}.{i}"] if i + 1 < len(network.stages) else []
    between = stages + middle if steps == "downs" else middle + stages
    return [first, *between, "norm", "conv_out"]


ARCHITECTURES = (Architecture("CodeFormer", r"fuse_convs_dict\.|ft_layers\.", _build, _places),)
