"""What a face detector sees: the heads of the network, and the faces that they mean."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from diffusers.utils import BaseOutput

CELL = 4  # px of the input per cell of the heads


@dataclass
class FaceDetectorOutput(BaseOutput):
    """The four heads of CenterFace; cell (row i, column j) stands for the 4×4 px whose first pixel is (4j, 4i).

    Args:
        heatmap: `[B, 1, H/4, W/4]`, the probability in [0, 1] that a face's centre lies in the cell.
        scale: `[B, 2, H/4, W/4]`, the natural logarithm of the face's height and width in cells.
        offset: `[B, 2, H/4, W/4]`, the face's centre (y, x) relative to the cell's middle, in cells.
        landmarks: `[B, 10, H/4, W/4]`, five pairs (y, x) relative to the box's upper left corner, in box heights and
            widths; order as in `FaceDetections`.
    """

    heatmap: torch.Tensor
    scale: torch.Tensor
    offset: torch.Tensor
    landmarks: torch.Tensor


@dataclass(frozen=True, slots=True)
class FaceDetections:
    """The N faces of one picture, best first. Coordinates are (x, y) px, pixel centres at half-integers.

    Args:
        boxes: `[N, 4]`, x1 y1 x2 y2 px; a face at the border may reach past the picture.
        landmarks: `[N, 5, 2]` px: image-left eye, image-right eye, nose, image-left and image-right mouth corner.
        scores: `[N]` in [0, 1], descending.
    """

    boxes: torch.Tensor
    landmarks: torch.Tensor
    scores: torch.Tensor

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def centres(self) -> torch.Tensor:
        """Of the boxes, `[N, 2]`."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    @property
    def sides(self) -> torch.Tensor:
        """The longer one of each box, `[N]` px."""
        return (self.boxes[:, 2:] - self.boxes[:, :2]).amax(dim=1)

    @classmethod
    def joined(cls, parts: "Sequence[FaceDetections]") -> "FaceDetections":
        """The faces of several lists, one list after the other; the scores' order is the caller's affair."""
        return cls(*(torch.cat([getattr(part, one.name) for part in parts]) for one in fields(cls)))

    def shifted(self, x: float, y: float) -> "FaceDetections":
        """The faces as they are in a picture of which theirs is a part, whose first pixel is (x, y)."""
        shift = self.boxes.new_tensor([x, y])
        return FaceDetections(self.boxes + shift.repeat(2), self.landmarks + shift, self.scores)

    def __getitem__(self, chosen: torch.Tensor) -> "FaceDetections":
        """The faces that a mask `[N]` bool or indices choose, in their order."""
        return FaceDetections(self.boxes[chosen], self.landmarks[chosen], self.scores[chosen])


def faces_at(
    output: FaceDetectorOutput, batch: torch.Tensor, row: torch.Tensor, column: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The boxes `[N, 4]` and landmarks `[N, 5, 2]` of N cells of the heads, in px of the network's input."""
    sides = CELL * output.scale[batch, :, row, column].float().exp().flip(1)  # [N, 2] width, height
    middles = torch.stack([column, row], dim=1) + 0.5 + output.offset[batch, :, row, column].float().flip(1)
    corners = CELL * middles - sides / 2
    relative = output.landmarks[batch, :, row, column].float().unflatten(1, (5, 2)).flip(2)
    return torch.cat([corners, corners + sides], dim=1), corners[:, None] + relative * sides[:, None]


def non_maximum_suppression(boxes: torch.Tensor, groups: torch.Tensor, threshold: float) -> torch.Tensor:
    """Which of the boxes `[N, 4]`, best first, stay: `[N]` bool.

    A box goes if a better one that stays, of the same group `[N]`, overlaps it with an intersection over union of at
    least `threshold`. The greedy loop's result, as the fixed point of "stays unless a better one that stays overlaps".
    """
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    intersection = (torch.minimum(x2[:, None], x2) - torch.maximum(x1[:, None], x1)).clamp_(min=0)
    intersection *= (torch.minimum(y2[:, None], y2) - torch.maximum(y1[:, None], y1)).clamp_(min=0)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    overlaps = intersection >= threshold * (area[:, None] + area[None] - intersection)
    suppresses = (overlaps & (groups[:, None] == groups[None])).triu(diagonal=1)  # [better, worse]
    kept = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    while True:
        still = ~(suppresses & kept[:, None]).any(dim=0)
        if torch.equal(still, kept):
            return kept
        kept = still
