"""CenterFace (Xu et al. 2019) in plain PyTorch: boxes, five landmarks and scores of the faces of a photograph."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import nn

STRIDE = 32  # of the deepest feature: forward needs sides that are multiples of it
CELL = 4  # px of the input per cell of the heads
MIRRORED = [1, 0, 2, 4, 3]  # which landmark each one becomes in the mirror
PATCH_MARGIN = 1.5  # side of a face's patch in sides of its box
PATCH_BATCH = 64  # patches that go through the network at once
SEEN_AGAIN = 0.3  # the score above which a second look counts


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


class InvertedResidual(nn.Module):
    """MobileNetV2's block (Sandler et al. 2018), batch norm folded: expand 1×1, depthwise 3×3, project 1×1."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int):
        super().__init__()
        width = in_channels * expansion
        layers = [nn.Conv2d(in_channels, width, 1), nn.ReLU()] if expansion > 1 else []
        layers += [nn.Conv2d(width, width, 3, stride, padding=1, groups=width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, out_channels, 1))
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.layers(hidden) if self.residual else self.layers(hidden)


class UpSampling(nn.Module):
    """Doubles the resolution of `hidden` and adds the lateral feature."""

    def __init__(self, lateral_channels: int, channels: int):
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(channels, eps=1e-3)
        self.lateral = nn.Conv2d(lateral_channels, channels, 1)

    def forward(self, hidden: torch.Tensor, lateral: torch.Tensor) -> torch.Tensor:
        return F.relu(self.norm(self.up(hidden))) + F.relu(self.lateral(lateral))


def faces_at(
    output: FaceDetectorOutput, batch: torch.Tensor, row: torch.Tensor, column: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The boxes `[N, 4]` and landmarks `[N, 5, 2]` of N cells of the heads, in px of the network's input."""
    sides = CELL * output.scale[batch, :, row, column].float().exp().flip(1)  # [N, 2] width, height
    middles = torch.stack([column, row], dim=1) + 0.5 + output.offset[batch, :, row, column].float().flip(1)
    corners = CELL * middles - sides / 2
    relative = output.landmarks[batch, :, row, column].float().unflatten(1, (5, 2)).flip(2)
    return torch.cat([corners, corners + sides], dim=1), corners[:, None] + relative * sides[:, None]


def square(image: torch.Tensor, x: int, y: int, side: int) -> torch.Tensor:
    """The square of the picture `[3, H, W]` whose upper left corner is (x, y), black outside: `[3, side, side]`."""
    height, width = image.shape[1:]
    return F.pad(image, (-x, x + side - width, -y, y + side - height))  # a negative padding cuts


def non_maximum_suppression(boxes: torch.Tensor, groups: torch.Tensor, threshold: float) -> torch.Tensor:
    """Which of the boxes `[N, 4]`, best first, stay: `[N]` bool.

    A box goes if a better one that stays, of the same group `[N]`, overlaps it with an intersection over union of at
    least `threshold`. The greedy loop's result, as the fixed point of "stays unless a better one that stays overlaps".
    """
    lower = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    upper = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    intersection = (upper - lower).clamp(min=0).prod(dim=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    overlaps = intersection >= threshold * (area[:, None] + area[None] - intersection)
    suppresses = (overlaps & (groups[:, None] == groups[None])).triu(diagonal=1)  # [better, worse]
    kept = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    while True:
        still = ~(suppresses & kept[:, None]).any(dim=0)
        if torch.equal(still, kept):
            return kept
        kept = still


class FaceDetector(ModelMixin, ConfigMixin):
    """Finds faces: `[B, 3, H, W]` RGB in [0, 1] → heads (`forward`); one picture of any size → faces (`detect`).

    CenterFace (Xu et al. 2019): MobileNetV2 features at strides 4, 8, 16 and 32, added from the deepest up, and four
    1×1 heads at stride 4. Batch norm is folded, as in the published file, except after transposed convolutions.

    Args:
        stem_channels: output channels of the first convolution (stride 2).
        stages: MobileNetV2's stages (expansion, channels, blocks, stride of the first block).
        neck_channels: channels of the up-sampling path.
        detection_size: longest side in px at which `detect` looks at a picture; one that is smaller than half of it is
            upscaled to that half, at most 2×.
        patch_size: side in px of the patch in which each face's landmarks are found, a multiple of 32.
        nms_threshold: of two boxes whose intersection over union is at least this, the one with the lower score goes.
        template: (x, y) of the five landmarks as this detector gives them, in units of the crop's side: the similarity
            transform from the landmarks to these makes a crop in the FFHQ layout.
        license: what the weights may be used for, for `hf-faceenh info` and model cards.
    """

    @register_to_config
    def __init__(
        self,
        stem_channels: int = 32,
        stages: Sequence[Sequence[int]] = (
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
        ),
        neck_channels: int = 24,
        detection_size: int = 1280,
        patch_size: int = 96,
        nms_threshold: float = 0.3,
        template: Sequence[Sequence[float]] = (
            (0.37332, 0.46715), (0.62708, 0.46578), (0.49306, 0.60687), (0.39463, 0.72295), (0.60887, 0.72152),
        ),
        license: str | None = None,
    ):  # fmt: skip
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, stem_channels, 3, stride=2, padding=1), nn.ReLU())
        self.backbone = nn.ModuleList()
        self.tapped = []  # indices of the stages that end a resolution, from stride 4 on
        tapped_channels = []
        width, total_stride = stem_channels, 2
        for index, (expansion, channels, blocks, stride) in enumerate(stages):
            layers = [InvertedResidual(width, channels, stride, expansion)]
            layers += [InvertedResidual(channels, channels, 1, expansion) for _ in range(blocks - 1)]
            self.backbone.append(nn.Sequential(*layers))
            width, total_stride = channels, total_stride * stride
            is_last = index + 1 == len(stages)
            if total_stride >= CELL and (is_last or stages[index + 1][3] > 1):
                self.tapped.append(index)
                tapped_channels.append(channels)
        *lateral_channels, top_channels = tapped_channels
        self.top = nn.Conv2d(top_channels, neck_channels, 1)
        self.neck = nn.ModuleList(UpSampling(channels, neck_channels) for channels in reversed(lateral_channels))
        self.smooth = nn.Conv2d(neck_channels, neck_channels, 3, padding=1)
        self.heatmap_head = nn.Conv2d(neck_channels, 1, 1)
        self.scale_head = nn.Conv2d(neck_channels, 2, 1)
        self.offset_head = nn.Conv2d(neck_channels, 2, 1)
        self.landmarks_head = nn.Conv2d(neck_channels, 10, 1)

    def forward(self, sample: torch.Tensor, return_dict: bool = True) -> FaceDetectorOutput | tuple[torch.Tensor, ...]:
        """
        Args:
            sample: pictures, `[B, 3, H, W]` RGB in [0, 1], H and W multiples of 32.
            return_dict: return a `FaceDetectorOutput`; else its four entries as a tuple.

        Raises:
            ValueError: for another shape.
        """
        if sample.ndim != 4 or sample.shape[1] != 3 or sample.shape[2] % STRIDE or sample.shape[3] % STRIDE:
            raise ValueError(
                f"FaceDetector expects [B, 3, H, W] in [0, 1], H and W multiples of {STRIDE}; got "
                f"{list(sample.shape)}. FaceDetector.detect takes a picture of any size."
            )
        sample = sample.contiguous(memory_format=torch.channels_last)  # a third faster on a CPU
        hidden = self.stem(sample * 255)  # the published network takes 0…255
        features = []
        for index, stage in enumerate(self.backbone):
            hidden = stage(hidden)
            if index in self.tapped:
                features.append(hidden)
        hidden = F.relu(self.top(features.pop()))
        for up_sampling in self.neck:
            hidden = up_sampling(hidden, features.pop())
        hidden = F.relu(self.smooth(hidden))
        output = FaceDetectorOutput(
            heatmap=self.heatmap_head(hidden).sigmoid(),
            scale=self.scale_head(hidden),
            offset=self.offset_head(hidden),
            landmarks=self.landmarks_head(hidden),
        )
        return output if return_dict else output.to_tuple()

    def decode(self, output: FaceDetectorOutput, threshold: float = 0.5) -> list[FaceDetections]:
        """The faces of each picture of a batch, in px of the network's input, as the published code finds them.

        Every cell above the threshold that is the best of its 3×3 neighbourhood proposes a face; non-maximum
        suppression keeps the best of each cluster.
        """
        peaks = output.heatmap == F.max_pool2d(output.heatmap, 3, stride=1, padding=1)
        batch, _, row, column = (peaks & (output.heatmap > threshold)).nonzero(as_tuple=True)
        scores, order = output.heatmap[batch, 0, row, column].float().sort(descending=True, stable=True)
        batch, row, column = batch[order], row[order], column[order]
        boxes, landmarks = faces_at(output, batch, row, column)
        kept = non_maximum_suppression(boxes, batch, self.config.nms_threshold)
        return [
            FaceDetections(boxes[chosen], landmarks[chosen], scores[chosen])
            for chosen in (kept & (batch == index) for index in range(len(output.heatmap)))
        ]

    @torch.no_grad()
    def detect(self, image: torch.Tensor, threshold: float = 0.5) -> FaceDetections:
        """The faces of one picture `[3, H, W]` RGB in [0, 1] of any size, in px of that picture.

        Boxes and scores are those of the whole picture, scaled to at most `config.detection_size`; the landmarks come
        from a second look at each face, at one size for all.

        Raises:
            ValueError: for another shape.
        """
        if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
            raise ValueError(
                f"FaceDetector.detect expects one picture [3, H, W] in [0, 1]; got {list(image.shape)}. "
                "Drop the alpha channel, or pass the picture through FaceImageProcessor."
            )
        image = image.to(self.device, torch.float32)
        sides = image.shape[1:]
        wanted = self.config.detection_size / max(sides)
        scale = min(wanted, max(1.0, min(2.0, wanted / 2)))  # upscales a small picture: faces < 16 px are missed
        height, width = (max(1, round(side * scale)) for side in sides)
        sample = F.interpolate(image[None], (height, width), mode="bilinear", antialias=True)
        sample = F.pad(sample, (0, -width % STRIDE, 0, -height % STRIDE))
        (faces,) = self.decode(self(sample.to(self.dtype)), threshold)
        scale = faces.boxes.new_tensor([sides[1] / width, sides[0] / height])  # px of the picture per px of the sample
        boxes = faces.boxes * scale.repeat(2)
        landmarks = faces.landmarks * scale
        for start in range(0, len(faces), PATCH_BATCH):
            chunk = slice(start, start + PATCH_BATCH)
            landmarks[chunk] = self._look_again(image, boxes[chunk], landmarks[chunk])
        return FaceDetections(boxes, landmarks, faces.scores)

    def _look_again(self, image: torch.Tensor, boxes: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
        """Landmarks `[N, 5, 2]` from a square around each box, mean of it and its mirror image.

        The network's landmarks suit a face of about 64 px best: in portraits of 1024 px, this look at 96 px patches
        more than halves the error of scale in the alignment. Where the network does not see the face again, its first
        landmarks stay.
        """
        size = self.config.patch_size
        limit = boxes.new_tensor([image.shape[2], image.shape[1]])
        middles = ((boxes[:, :2] + boxes[:, 2:]) / 2).clamp(min=torch.zeros_like(limit), max=limit)
        side = (PATCH_MARGIN * (boxes[:, 2:] - boxes[:, :2]).amax(dim=1)).ceil().clamp(min=1)  # [N]
        corners = (middles - side[:, None] / 2).round()
        patches = torch.cat(
            [
                F.interpolate(square(image, x, y, length)[None], (size, size), mode="bilinear", antialias=True)
                for (x, y), length in zip(corners.int().tolist(), side.int().tolist(), strict=True)
            ]
        )
        output = self(torch.cat([patches, patches.flip(3)]).to(self.dtype))
        edge = output.heatmap.shape[3] // 4  # the face's centre lies near the patch's
        inner = output.heatmap[:, 0, edge:-edge, edge:-edge]
        scores, best = inner.flatten(1).max(dim=1)
        row, column = best // inner.shape[2] + edge, best % inner.shape[2] + edge
        _, seen = faces_at(output, torch.arange(len(best), device=best.device), row, column)
        plain, mirrored = seen.chunk(2)
        mirrored = (mirrored * mirrored.new_tensor([-1, 1]) + mirrored.new_tensor([size, 0]))[:, MIRRORED]
        seen = (plain + mirrored) / 2 * (side / size)[:, None, None] + corners[:, None]
        is_seen = (torch.stack(scores.chunk(2)).amin(dim=0) > SEEN_AGAIN)[:, None, None]
        return torch.where(is_seen, seen, landmarks)
