"""What a network loses without some of its channels, seen in its image and in the maps that are computed from them."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from hf_faceenh.models.channels import Reducible, masked
from hf_faceenh.recognition import embed, embedding_distance

Batch = Mapping[str, torch.Tensor]  # "hq": sharp faces, "lq": the same, degraded; `[B, 3, S, S]` in [-1, 1]
Loss = Callable[[torch.Tensor, Batch], torch.Tensor]  # (enhanced faces, batch) → scalar
Average = Callable[[torch.Tensor], torch.Tensor]  # over all processes
Ratios = Mapping[str, float]  # layer → ratio; 0 for those not named


@dataclass(frozen=True)
class Quality:
    """Of enhanced faces against the sharp ones, at full size.

    Args:
        psnr: mean PSNR in dB.
        identity: mean distance of the recognizer's embeddings; `None` without a recognizer.
    """

    psnr: float
    identity: float | None


@dataclass(frozen=True)
class Outcome:
    """Of a trial.

    Args:
        quality: of the final image.
        changes: module that reads channels → ‖f − f₀‖² / ‖f₀‖², where f is its output, f₀ that in the unreduced
            network; the mean over faces.
    """

    quality: Quality
    changes: Mapping[str, float]


class Trials:
    """The network with some of its channels masked, compared with itself as it is.

    Args:
        model: the unreduced network.
        scores: layer → importance of its channels.
        batches: calibration faces.
        recognizer: compares identities, where given.
        average: over all processes.
    """

    def __init__(
        self,
        model: Reducible,
        scores: Mapping[str, torch.Tensor],
        batches: Sequence[Batch],
        recognizer: nn.Module | None,
        average: Average,
    ):
        self.model, self.scores, self.batches = model, scores, batches
        self.recognizer, self.average = recognizer, average
        self.groups = {group.name: group for group in model.channel_groups()}
        self._readers = sorted({reader for group in self.groups.values() for reader in group.readers})
        self._whole: list[dict[str, torch.Tensor]] = []  # of each batch: module → its output in the unreduced network
        self._sharp: list[torch.Tensor | None] = []  # of each batch: the sharp faces' embeddings
        for batch in batches:
            kept: dict[str, torch.Tensor] = {}
            with self._looking(lambda name, output, kept=kept: kept.update({name: output.clone()})):
                self._image(batch)
            self._whole.append(kept)
            self._sharp.append(self._embeddings(batch["hq"]))

    def most_important(self, layer: str, ratio: float) -> torch.Tensor:
        """The channels that stay when `ratio` of them are removed, ascending, int64."""
        count = round(self.groups[layer].width * (1 - ratio))
        return self.scores[layer].argsort(descending=True, stable=True)[:count].sort().values.cpu()

    def keep(self, ratios: Ratios) -> dict[str, torch.Tensor]:
        """Layer → channels that stay, without the layers that stay whole."""
        return {layer: self.most_important(layer, ratio) for layer, ratio in ratios.items() if ratio}

    def outcome(self, ratios: Ratios) -> Outcome:
        """Without the least important channels of the layers that `ratios` names."""
        figures = []
        with masked(self.model, self.keep(ratios)):
            for batch, whole, sharp in zip(self.batches, self._whole, self._sharp, strict=True):
                changes: dict[str, torch.Tensor] = {}
                with self._looking(functools.partial(_compare, changes, whole)):
                    image = self._image(batch)
                psnr = _psnr(image, batch["hq"])
                distance = torch.zeros_like(psnr) if sharp is None else self._distance(image, sharp)
                rows = (psnr, distance, *(changes[name] for name in self._readers))
                figures.append(torch.stack([row.to(psnr) for row in rows]))
        psnr, identity, *rest = self.average(torch.cat(figures, dim=1).mean(dim=1)).tolist()
        identity = None if self.recognizer is None else identity
        return Outcome(Quality(psnr, identity), dict(zip(self._readers, rest, strict=True)))

    @torch.no_grad()
    def _image(self, batch: Batch) -> torch.Tensor:
        return self.model(batch["lq"], return_dict=False)[0]

    @torch.no_grad()
    def _embeddings(self, faces: torch.Tensor) -> torch.Tensor | None:
        return None if self.recognizer is None else embed(self.recognizer, faces)

    def _distance(self, faces: torch.Tensor, sharp: torch.Tensor) -> torch.Tensor:
        return embedding_distance(self.recognizer, self._embeddings(faces), sharp)

    @contextmanager
    def _looking(self, see: Callable[[str, torch.Tensor], None]) -> Iterator[None]:
        """Within it, `see` gets name and output of each module that reads channels."""
        with ExitStack() as stack:
            for name in self._readers:

                def hook(_, __, output, name=name):
                    see(name, output)

                handle = self.model.get_submodule(name).register_forward_hook(hook)
                stack.callback(handle.remove)
            yield


def _compare(
    changes: dict[str, torch.Tensor], whole: Mapping[str, torch.Tensor], name: str, output: torch.Tensor
) -> None:
    """Adds to `changes`: name → relative change of each face's map, as a share of its energy."""
    before, now = whole[name].flatten(1).float(), output.flatten(1).float()
    energy = torch.linalg.vector_norm(before, dim=1).square().clamp(min=1e-12)
    changes[name] = torch.linalg.vector_norm(now - before, dim=1).square() / energy


def _psnr(image: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
    """Of each face, `[B]`, in dB."""
    squared = (image.float().clamp(-1, 1) - hq).square().mean(dim=(1, 2, 3)).clamp(min=1e-10)
    return 10 * (4 / squared).log10()  # 4: the square of the range


def first_faces(batches: Sequence[Batch], count: int) -> list[dict[str, torch.Tensor]]:
    """The first `count` faces of `batches`, as batches.

    Raises:
        ValueError: without any face.
    """
    taken = []
    for batch in batches:
        if count > 0:
            taken.append({name: values[:count] for name, values in batch.items()})
            count -= len(batch["hq"])
    if not taken:
        raise ValueError("Channels cannot be reduced without calibration faces; give at least one batch.")
    return taken
