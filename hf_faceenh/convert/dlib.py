"""dlib's face recognition ResNet (github.com/davisking/dlib-models), under the keys that `read_dlib` makes."""

import torch

from hf_faceenh.convert.architecture import Architecture, Places, StateDict, shape_of
from hf_faceenh.models.recognizer import FaceRecognizer, FaceRecognizerConfig


def _build(state: StateDict) -> FaceRecognizer:
    stem, *convolutions = [key for key in state if key.endswith(".con.filters")]
    *_, projection = (key for key in state if key.endswith(".fc.weights"))
    channels, blocks = [], []
    for first in convolutions[::2]:  # of the two of each block
        if not channels or state[first.replace("filters", "geometry")][0] == 2:
            channels.append(shape_of(state, first)[0])
            blocks.append(0)
        blocks[-1] += 1
    return FaceRecognizer(
        FaceRecognizerConfig(
            image_size=int(state["input.size"][0]),
            embedding_size=shape_of(state, projection)[0],
            stem_channels=shape_of(state, stem)[0],
            stage_channels=channels,
            stage_blocks=blocks,
            license="CC0-1.0 (dlib, https://github.com/davisking/dlib-models)",
        )
    )


def _places(model: FaceRecognizer) -> Places:
    def con(ours: str) -> dict[str, str | torch.Tensor]:
        module = model.get_submodule(ours)
        geometry = torch.tensor([*module.stride, *module.padding], dtype=torch.float32)
        return {"con.filters": f"{ours}.weight", "con.biases": f"{ours}.bias", "con.geometry": geometry}

    def affine(ours: str) -> dict[str, str | torch.Tensor]:
        return {"affine.gamma": f"{ours}.weight", "affine.beta": f"{ours}.bias"}

    def pool(kind: str, side: int, stride: int) -> dict[str, str | torch.Tensor]:
        return {f"{kind}.geometry": torch.tensor([side, side, stride, stride, 0, 0], dtype=torch.float32)}

    tag, relu, add_prev = ({name: torch.empty(0)} for name in ("tag", "relu", "add_prev"))
    layers = [con("stem"), affine("stem_affine"), relu, pool("max_pool", 3, 2)]
    for i, stage in enumerate(model.stages):
        for j, block in enumerate(stage):
            ours = f"stages.{i}.{j}"
            layers += [tag, con(f"{ours}.conv1"), affine(f"{ours}.affine1"), relu]
            layers += [con(f"{ours}.conv2"), affine(f"{ours}.affine2")]
            layers += [tag, tag, pool("avg_pool", 2, 2)] if block.conv1.stride[0] == 2 else []
            layers += [add_prev, relu]
    layers += [pool("avg_pool", 0, 1), {"fc.weights": "projection.weight"}]  # a side of 0: all there is
    size = torch.tensor([model.config.image_size] * 2, dtype=torch.float32)
    places = {"input.mean": "mean", "input.size": size}
    return places | {f"{i}.{name}": place for i, layer in enumerate(layers) for name, place in layer.items()}


ARCHITECTURES = (Architecture("dlib's face recognition ResNet", r"\d+\.affine\.", _build, _places),)
