"""GFPGAN in its clean form, versions 1.2 to 1.4 (github.com/TencentARC/GFPGAN)."""

from hf_faceenh.convert.architecture import Architecture, Places, StateDict, count_of, shape_of
from hf_faceenh.models.gfpgan import GFPGANFaceEnhancer

LICENSE = "Apache-2.0 (GFPGAN, https://github.com/TencentARC/GFPGAN)"


def _build(state: StateDict) -> GFPGANFaceEnhancer:
    def width(key: str) -> int:  # generator convolutions are stored as [1, out, in, 3, 3]
        return shape_of(state, f"stylegan_decoder.{key}.modulated_conv.weight")[-4]

    def outputs(keys: str) -> list[int]:
        return [shape_of(state, keys.format(i))[0] for i in range(steps)]

    steps = count_of(state, r"conv_body_down\.(\d+)\.")
    conditioned = outputs("condition_scale.{}.2.weight")
    decoder = [
        [width(f"style_convs.{2 * i}") - conditioned[i], width(f"style_convs.{2 * i + 1}")] for i in range(steps)
    ]
    return GFPGANFaceEnhancer(
        sample_size=4 * 2**steps,
        encoder_channels=[shape_of(state, "conv_body_first.weight")[0], *outputs("conv_body_down.{}.conv2.weight")],
        halving_channels=outputs("conv_body_down.{}.conv1.weight"),
        doubling_channels=[*outputs("conv_body_up.{}.conv1.weight"), outputs("conv_body_up.{}.conv2.weight")[-1]],
        style_dim=shape_of(state, "stylegan_decoder.style_conv1.modulated_conv.modulation.weight")[1],
        constant_channels=shape_of(state, "stylegan_decoder.constant_input.weight")[1],
        scale_channels=outputs("condition_scale.{}.0.weight"),
        shift_channels=outputs("condition_shift.{}.0.weight"),
        conditioned_channels=conditioned,
        decoder_channels=[[width("style_conv1")], *decoder],
        license=LICENSE,
    )


def _places(model: GFPGANFaceEnhancer) -> Places:
    def both(published: str, ours: str) -> dict[str, str]:
        return {f"{published}.{name}": f"{ours}.{name}" for name in ("weight", "bias")}

    ours, decoder = "convolutional_network", "stylegan_decoder"
    places = {f"{decoder}.constant_input.weight": "generating_network.constant"}
    places |= both("conv_body_first", f"{ours}.stem") | both("final_conv", f"{ours}.bottom")
    places |= both("final_linear", "mapping_network")
    for i in range(len(model.convolutional_network.down)):
        for way in ("down", "up"):
            published = f"conv_body_{way}.{i}"
            places |= both(f"{published}.conv1", f"{ours}.{way}.{i}.conv1")
            places |= both(f"{published}.conv2", f"{ours}.{way}.{i}.conv2")
            places[f"{published}.skip.weight"] = f"{ours}.{way}.{i}.skip.weight"
        for part in ("scale", "shift"):
            transform = f"generating_network.stages.{i + 1}.transform.{part}"
            for layer in (0, 2):
                places |= both(f"condition_{part}.{i}.{layer}", f"{transform}.{layer}")

    def modulated(published: str, ours: str) -> dict[str, str]:
        return {
            f"{published}.bias": f"{ours}.bias",
            f"{published}.modulated_conv.weight": f"{ours}.weight",
        } | both(f"{published}.modulated_conv.modulation", f"{ours}.modulation")

    layer = 0
    for i, stage in enumerate(model.generating_network.stages):
        ours = f"generating_network.stages.{i}"
        for j in range(len(stage.convolutions)):
            published = f"{decoder}.style_convs.{layer - 1}" if i > 0 else f"{decoder}.style_conv1"
            places |= modulated(published, f"{ours}.convolutions.{j}")
            places[f"{published}.weight"] = f"{ours}.convolutions.{j}.noise_weight"
            places[f"{decoder}.noises.noise{layer}"] = f"{ours}.convolutions.{j}.noise"
            layer += 1
        places |= modulated(f"{decoder}.to_rgbs.{i - 1}" if i > 0 else f"{decoder}.to_rgb1", f"{ours}.to_rgb")
    return places


# images that a loss compared, and StyleGAN2's own mapping network: here styles come from the face
UNNEEDED = r"toRGB\.|stylegan_decoder\.style_mlp\."
ARCHITECTURES = (Architecture("GFPGAN", r"stylegan_decoder\.", _build, _places, UNNEEDED),)
