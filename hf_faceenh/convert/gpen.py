"""GPEN's generators and discriminators of every size (github.com/yangxy/GPEN)."""

from hf_faceenh.convert.architecture import Architecture, Places, StateDict, count_of, shape_of
from hf_faceenh.models.discriminator import FaceDiscriminator
from hf_faceenh.models.gpen import GPENFaceEnhancer
from hf_faceenh.models.layers import Blur, Upsample

LICENSE = "Non-commercial use only (GPEN, https://github.com/yangxy/GPEN)"
BLUR, UPSAMPLING_BLUR = Blur(padding=0).kernel, Upsample().kernel


def _build_gpen(state: StateDict) -> GPENFaceEnhancer:
    def width(key: str) -> int:  # generator convolutions are stored as [1, out, in, 3, 3]
        return shape_of(state, key)[-4]

    resolutions = count_of(state, r"ecd(\d+)\.")
    layers = count_of(state, r"generator\.style\.(\d+)\.")
    ups = count_of(state, r"generator\.to_rgbs\.(\d+)\.")
    encoder = [width(f"ecd{i}.0.{min(i, 1)}.weight") for i in range(resolutions)]
    mapping = [shape_of(state, f"generator.style.{i}.weight")[0] for i in range(1, layers + 1)]
    decoder = [[width(f"generator.convs.{2 * i + j}.conv.weight") for j in (0, 1)] for i in range(ups)]
    return GPENFaceEnhancer(
        sample_size=2 ** (resolutions + 1),
        encoder_channels=encoder,
        mapping_channels=[shape_of(state, "final_linear.0.weight")[0], *mapping],
        constant_channels=shape_of(state, "generator.input.input")[1],
        decoder_channels=[[width("generator.conv1.conv.weight")], *decoder],
        license=LICENSE,
    )


def _gpen_places(model: GPENFaceEnhancer) -> Places:
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
        tuple(shape_of(state, f"convs.{i}.{conv}.weight")[0] for conv in ("conv1.0", "conv2.1"))
        for i in range(1, count_of(state, r"convs\.(\d+)\."))
    ]
    return FaceDiscriminator(
        sample_size=4 * 2 ** len(blocks),
        stem_channels=shape_of(state, "convs.0.0.weight")[0],
        block_channels=blocks,
        head_channels=[shape_of(state, f"{name}.0.weight")[0] for name in ("final_conv", "final_linear")],
        license=LICENSE,
    )


def _discriminator_places(model: FaceDiscriminator) -> Places:
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


ARCHITECTURES = (
    Architecture("GPEN", r"ecd\d+\.|generator\.(input|style|convs|conv1|to_rgb)", _build_gpen, _gpen_places),
    Architecture("GPEN discriminator", r"convs\.\d+\.conv[12]\.", _build_discriminator, _discriminator_places),
)
