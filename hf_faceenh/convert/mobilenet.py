"""torchvision's MobileNetV2 with its ImageNet weights, for a perceptual loss (github.com/pytorch/vision)."""

from transformers import MobileNetV2Config, MobileNetV2Model

from hf_faceenh.convert.architecture import Architecture, Places, StateDict


def _build(state: StateDict) -> MobileNetV2Model:
    return MobileNetV2Model(
        MobileNetV2Config(
            tf_padding=False,
            layer_norm_eps=1e-5,
            license="BSD-3-Clause (torchvision, https://github.com/pytorch/vision)",
        )
    )


def _places(model: MobileNetV2Model) -> Places:
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


ARCHITECTURES = (Architecture("MobileNetV2", r"features\.\d+\.conv\.", _build, _places),)
