"""Whether ONNX files give what torch gives, on a real face and the photograph that it is from."""

import copy
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

import torch
from torch import nn

from hf_faceenh.alignment import crop_faces
from hf_faceenh.enhancing import parse
from hf_faceenh.faces import find_faces
from hf_faceenh.models import FaceDetector
from hf_faceenh.onnx.graphs import DIAL, GRAPHS, VARIANTS
from hf_faceenh.onnx.networks import load_network
from hf_faceenh.pictures import FaceImageProcessor
from hf_faceenh.recognition import embed
from hf_faceenh.serialization import BUNDLED

PHOTOGRAPH = Path(__file__).parents[1] / "repository" / "examples" / "astronaut.jpg"
TOLERANCES = {torch.float32: 1e-4, torch.float16: 2 / 255}  # of pictures, probabilities and heads
SIDE = 256  # px of the crops that a parser and a recognizer see


@torch.no_grad()
def check(role: str, network: nn.Module, folder: Path, variant: str | None) -> None:
    """
    Args:
        role: of the component in the pipeline.
        network: the component in torch, in float32.
        folder: of the pipeline that holds its files.
        variant: which of the files.

    Raises:
        ValueError: where they differ from the network by more than `TOLERANCES`.
    """
    stand_in, limit = load_network(folder, role, variant), TOLERANCES[VARIANTS[variant]]
    network, differences = copy.deepcopy(network).cpu().eval(), []
    for dial in _dials(role, network):
        pairs = zip(_results(role, network, dial), _results(role, stand_in, dial), strict=True)
        differences += [(theirs - ours).abs().max() for theirs, ours in pairs]
    furthest = float(torch.stack(differences).max())
    if not furthest <= limit:  # as it is for NaN
        names = ", ".join(file.name for file in stand_in.files)
        raise ValueError(
            f"{role}/{names}: on a real face the result is {furthest:.2g} from torch's, more than {limit:.2g}. This "
            f"{type(network).__name__} does not survive as ONNX: leave --onnx out."
        )


def _dials(role: str, network: nn.Module) -> list[dict[str, float]]:
    """The settings with which the network is tried."""
    (graph, *_) = GRAPHS[role](network)
    tried = [{name: amount} for name, shape in graph.inputs.items() if shape == DIAL for amount in (0.0, 0.5, 1.0)]
    return tried or [{}]


def _results(role: str, network: nn.Module, dial: dict[str, float]) -> Iterator[torch.Tensor]:
    """What a network, torch's or its stand-in, makes of one picture and of two, of other sizes where it takes any."""
    photograph, transform = _photograph()
    if role == "detector":
        for pictures in (photograph, _two(photograph)[..., :192, 32:]):
            yield from network(pictures).to_tuple()
    elif role == "super_resolver":
        sizes = (photograph[..., :97, 90:191], _two(photograph)[..., :64, 99:])
        for scale, pictures in product(network.scales, sizes):
            yield network(pictures, scale=scale, **dial).sample
    else:
        side = network.config.sample_size if role == "enhancer" else SIDE
        face = crop_faces(photograph[0], side * transform, side)  # [1, 3, S, S]
        for faces in (face, _two(face)):
            yield FACES[role](network, faces, **dial)


def _two(pictures: torch.Tensor) -> torch.Tensor:
    """A picture and its mirror image."""
    return torch.cat([pictures, pictures.flip(3)])


def _enhanced(network: nn.Module, faces: torch.Tensor, **dial: float) -> torch.Tensor:
    return network(2 * faces - 1, **dial).sample / 2  # so that 1 is from black to white, as in all others


def _embedded(network: nn.Module, faces: torch.Tensor) -> torch.Tensor:
    return embed(network, 2 * faces - 1)


FACES = {"enhancer": _enhanced, "parser": parse, "recognizer": _embedded}


@cache
def _photograph() -> tuple[torch.Tensor, torch.Tensor]:
    """`[1, 3, 256, 256]` in [0, 1], and the transform of its face to a crop of side 1, `[1, 2, 3]`."""
    pixels = FaceImageProcessor().load(PHOTOGRAPH).pixels
    detector = FaceDetector.from_pretrained(BUNDLED / "detector", dtype=torch.float32)
    _, transforms = find_faces(detector, pixels, size=1, threshold=0.5, min_size=0)
    return pixels[None], transforms[:1]
