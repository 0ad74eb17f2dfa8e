"""CenterFace (Xu et al. 2019) in plain PyTorch: boxes, five landmarks and scores of the faces of a photograph."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from hf_faceenh.models.detection import CELL, FaceDetections, FaceDetectorOutput, faces_at, non_maximum_suppression
from hf_faceenh.models.looking import closer_looks, look_again, look_closer, united
from hf_faceenh.models.soundness import SoundWeights

STRIDE = 32  # of the deepest feature: forward needs sides that are multiples of it
PATCH_BATCH = 64  # patches that go through the network at once


class InvertedResidual(nn.Module):
    """MobileNetV2's block (Sandler et al. 2018), batch norm folded: expand 1×1, depthwise 3×3, project 1×1."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int):
        super().__init__()
        width = in_channels * expansion
        layers = [nn.Conv2d(in_channels, width, 1), nn.ReLU(inplace=True)] if expansion > 1 else []
        layers += [nn.Conv2d(width, width, 3, stride, padding=1, groups=width), nn.ReLU(inplace=True)]
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


def check_pictures(sample: torch.Tensor) -> None:
    """Raises a `ValueError` unless `sample` is `[B, 3, H, W]` with sides that are multiples of 32."""
    if sample.ndim != 4 or sample.shape[1] != 3 or sample.shape[2] % STRIDE or sample.shape[3] % STRIDE:
        raise ValueError(
            f"FaceDetector expects [B, 3, H, W] in [0, 1], H and W multiples of {STRIDE}; got "
            f"{list(sample.shape)}. FaceDetector.detect takes a picture of any size."
        )


class FaceDetector(SoundWeights, ModelMixin, ConfigMixin):
    """Finds faces: `[B, 3, H, W]` RGB in [0, 1] → heads (`forward`); one picture of any size → faces (`detect`).

    CenterFace (Xu et al. 2019): MobileNetV2 features at strides 4, 8, 16 and 32, added from the deepest up, and four
    1×1 heads at stride 4. Batch norm is folded, as in the published file, except after transposed convolutions.

    Args:
        stem_channels: output channels of the first convolution (stride 2).
        stages: MobileNetV2's stages (expansion, channels, blocks, stride of the first block).
        neck_channels: channels of the up-sampling path.
        detection_size: longest side in px at which `detect` looks at the whole of a picture; one that is smaller than
            half of it is upscaled to that half, at most 2×.
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
        self.stem = nn.Sequential(nn.Conv2d(3, stem_channels, 3, stride=2, padding=1), nn.ReLU(inplace=True))
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
        check_pictures(sample)
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
    def detect(
        self,
        image: torch.Tensor,
        threshold: float = 0.5,
        smallest: float = math.inf,
        on_look: Callable[[], None] | None = None,
    ) -> FaceDetections:
        """The faces of one picture `[3, H, W]` RGB in [0, 1] of any size, in px of that picture.

        Boxes and scores are those of the whole picture, scaled to at most `config.detection_size`, and of closer looks
        in tiles where `smallest` faces would vanish in it. Landmarks come from a last look at each face, at one size
        for all.

        Args:
            image: the picture.
            threshold: the lowest score that makes a face.
            smallest: the longer side, in px of the picture, of the smallest box that matters; smaller faces of a large
                picture may be missed. By default the detector looks at the whole picture only.
            on_look: called before each closer look; to cancel, let it raise.

        Raises:
            ValueError: for a picture of another shape.
        """
        if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
            raise ValueError(
                f"FaceDetector.detect expects one picture [3, H, W] in [0, 1]; got {list(image.shape)}. "
                "Drop the alpha channel, or pass the picture through FaceImageProcessor."
            )
        image = image.to(self.device, torch.float32)
        height, width = image.shape[1:]
        wanted = self.config.detection_size / max(height, width)
        scale = min(wanted, max(1.0, min(2.0, wanted / 2)))  # upscales a small picture: faces < 16 px are missed
        look = partial(self._look, threshold=threshold)
        faces = look(image, scale)
        if tilings := closer_looks(height, width, scale, smallest):
            looks = [faces, *(look_closer(look, image, tiling, on_look) for tiling in tilings)]
            faces = united(looks, [scale, *(tiling.scale for tiling in tilings)], self.config.nms_threshold)
        chunks = torch.arange(len(faces), device=self.device).split(PATCH_BATCH) if len(faces) else ()
        again = [look_again(self._heads, image, faces[chunk], self.config.patch_size) for chunk in chunks]
        return FaceDetections(faces.boxes, torch.cat(again) if again else faces.landmarks, faces.scores)

    def _look(self, image: torch.Tensor, scale: float, threshold: float) -> FaceDetections:
        """The faces of a picture `[3, H, W]` seen at `scale`, in px of the picture."""
        sides = image.shape[1:]
        height, width = (max(1, round(side * scale)) for side in sides)
        sample = F.interpolate(image[None], (height, width), mode="bilinear", antialias=True)
        sample = F.pad(sample, (0, -width % STRIDE, 0, -height % STRIDE))
        (faces,) = self.decode(self._heads(sample), threshold)
        back = faces.boxes.new_tensor([sides[1] / width, sides[0] / height])  # px of the picture per px of the sample
        return FaceDetections(faces.boxes * back.repeat(2), faces.landmarks * back, faces.scores)

    def _heads(self, sample: torch.Tensor) -> FaceDetectorOutput:
        return self(sample.to(self.dtype))
