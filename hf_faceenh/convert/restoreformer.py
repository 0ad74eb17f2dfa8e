"""RestoreFormer and RestoreFormer++ (github.com/wzhouxiff/RestoreFormer and RestoreFormerPlusPlus)."""

from hf_faceenh.convert.architecture import Architecture, Places, StateDict, count_of, shape_of
from hf_faceenh.models.restoreformer import RestoreFormerFaceEnhancer
from hf_faceenh.models.vqgan import Attention

LICENSE = "Apache-2.0 (RestoreFormer, https://github.com/wzhouxiff/RestoreFormer)"
CODE_SIDE = 16  # published networks' maps of codes: shapes do not show it


def _build(state: StateDict) -> RestoreFormerFaceEnhancer:
    codes, code_channels = shape_of(state, "quantize.embedding.weight")
    resolutions = count_of(state, r"encoder\.down\.(\d+)\.")
    attended = count_of(state, r"decoder\.up\.(\d+)\.attn\.")
    return RestoreFormerFaceEnhancer(
        sample_size=CODE_SIDE << (resolutions - 1),
        channels=[shape_of(state, f"encoder.down.{i}.block.0.conv1.weight")[0] for i in range(resolutions)],
        code_channels=code_channels,
        codes=codes,
        heads=4 if attended > 1 else 8,  # ++ or not: shapes do not show that either
        attended_resolutions=attended,
        license=LICENSE,
    )


def _places(model: RestoreFormerFaceEnhancer) -> Places:
    places = {"quantize.embedding.weight": "codebook.weight"}

    def same(published: str, ours: str) -> None:
        module = model.get_submodule(ours)
        renamed = {"shortcut": "nin_shortcut"}
        if isinstance(module, Attention):
            renamed = {"norm": "norm1", "guide_norm": "norm2"}
            if module.guide_norm is None:  # published self-attention has one that it does not use
                places.update(dict.fromkeys((f"{published}.norm2.weight", f"{published}.norm2.bias")))
        for key in module.state_dict():
            name, _, rest = key.partition(".")
            places[f"{published}.{renamed.get(name, name)}.{rest}".rstrip(".")] = f"{ours}.{key}"

    same("encoder.conv_in", "encoder.stem")
    same("decoder.conv_in", "decoder.conv_in")
    same("quant_conv", "quant_conv")
    same("post_quant_conv", "post_quant_conv")
    for part, way, step in (("encoder", "down", "downsample"), ("decoder", "up", "upsample")):
        network = model.get_submodule(part)
        for published, ours in (("block_1", 0), ("attn_1", 1), ("block_2", 2)):
            same(f"{part}.mid.{published}", f"{part}.middle.{ours}")
        last = len(network.stages) - 1
        for i, stage in enumerate(network.stages):
            resolution = f"{part}.{way}.{i if part == 'encoder' else last - i}"  # counted from the largest down
            blocks = attentions = 0
            for j, layer in enumerate(stage):
                if isinstance(layer, Attention):
                    same(f"{resolution}.attn.{attentions}", f"{part}.stages.{i}.{j}")
                    attentions += 1
                else:
                    same(f"{resolution}.block.{blocks}", f"{part}.stages.{i}.{j}")
                    blocks += 1
            if i < last:
                same(f"{resolution}.{step}", f"{part}.{way}s.{i}")
        same(f"{part}.norm_out", f"{part}.norm")
        same(f"{part}.conv_out", f"{part}.conv_out")
    return places


ARCHITECTURES = (Architecture("RestoreFormer", r"(en|de)coder\.mid\.attn_1\.norm2\.", _build, _places),)
