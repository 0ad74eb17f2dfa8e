"""dlib's face recognition ResNet (King 2017) in plain PyTorch: an aligned face → the embedding of a person."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from hf_faceenh.models.soundness import SoundWeights


@dataclass
class FaceRecognizerOutput(ModelOutput):
    """
    Args:
        embeddings: `[B, D]`; the nearer those of two faces are, by the config's `distance`, the likelier both are of
            one person.
    """

    embeddings: torch.Tensor | None = None


class FaceRecognizerConfig(PreTrainedConfig):
    """
    The first four entries are those of every recognizer's config: any model that has them, and a
    `forward(pixel_values).embeddings`, can take this one's place in training and evaluation.

    Args:
        image_size: side of the aligned faces in px.
        value_range: what black and white are in `pixel_values`.
        distance: how embeddings are compared, "euclidean" or "cosine" (1 − cosine).
        template: (x, y) of image-left eye, image-right eye, nose, image-left and image-right mouth corner in an
            aligned face, in units of its side: points as the FFHQ layout defines them. The default is where dlib's
            `get_face_chip` (padding 0.25) puts them, averaged over its 5- and its 68-point landmarks of 486 faces.
        embedding_size: features D of an embedding.
        stem_channels: output channels of the first convolution.
        stage_channels: output channels of each stage of residual blocks.
        stage_blocks: number of blocks of each stage. All stages but the first begin with a block of stride 2.
        license: what the weights may be used for, for `hf-faceenh info` and model cards.
    """

    model_type = "hf_faceenh_recognizer"

    def __init__(
        self,
        image_size: int = 150,
        value_range: Sequence[float] = (0.0, 1.0),
        distance: str = "euclidean",
        template: Sequence[Sequence[float]] = (
            (0.3100, 0.3038), (0.6782, 0.3045), (0.4961, 0.5204), (0.3342, 0.6882), (0.6612, 0.6874),
        ),
        embedding_size: int = 128,
        stem_channels: int = 32,
        stage_channels: Sequence[int] = (32, 64, 128, 256, 256),
        stage_blocks: Sequence[int] = (3, 4, 3, 3, 1),
        license: str | None = None,
        **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.image_size = image_size
        self.value_range = list(value_range)
        self.distance = distance
        self.template = [list(point) for point in template]
        self.embedding_size = embedding_size
        self.stem_channels = stem_channels
        self.stage_channels = list(stage_channels)
        self.stage_blocks = list(stage_blocks)
        self.license = license


class ChannelAffine(nn.Module):
    """One factor and one shift per channel: what is left of a batch norm after training."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(self.bias[:, None, None], hidden, self.weight[:, None, None])


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions; with stride 2 the skip is the 2×2 average. Of branch and skip, the smaller (in channels,
    height or width) is filled up with zeros at its end: dlib does not pad where it strides, so an even map becomes one
    row and column smaller in the branch than in the skip.
    """

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1 if stride == 1 else 0)
        self.affine1 = ChannelAffine(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.affine2 = ChannelAffine(channels)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        branch = F.relu(self.affine1(self.conv1(hidden)))
        branch = self.affine2(self.conv2(branch))
        skip = F.avg_pool2d(hidden, 2) if self.conv1.stride[0] == 2 else hidden
        size = [max(sides) for sides in zip(branch.shape[1:], skip.shape[1:], strict=True)]
        return F.relu(filled_up(branch, size) + filled_up(skip, size))


def filled_up(hidden: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """`[B, c, h, w]` → `[B, C, H, W]`, filled up with zeros at the ends; `size` is (C, H, W)."""
    lacking = [wanted - side for wanted, side in zip(size, hidden.shape[1:], strict=True)]
    return F.pad(hidden, [pad for side in reversed(lacking) for pad in (0, side)]) if any(lacking) else hidden


class FaceRecognizer(SoundWeights, PreTrainedModel):
    """Tells whose face it is: aligned faces → embeddings. dlib's 29-layer ResNet (King 2017): two embeddings less than
    0.6 apart are taken for one person. `hf-faceenh convert` makes it from dlib's file.
    """

    config_class = FaceRecognizerConfig
    main_input_name = "pixel_values"

    def __init__(self, config: FaceRecognizerConfig):
        super().__init__(config)
        self.register_buffer("mean", torch.tensor([122.782, 117.001, 104.298]))  # RGB in 0…255
        self.stem = nn.Conv2d(3, config.stem_channels, 7, stride=2)
        self.stem_affine = ChannelAffine(config.stem_channels)
        self.stages = nn.ModuleList()
        width = config.stem_channels
        for index, (channels, blocks) in enumerate(zip(config.stage_channels, config.stage_blocks, strict=True)):
            layers = [ResidualBlock(width, channels, 1 if index == 0 else 2)]
            layers += [ResidualBlock(channels, channels, 1) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(*layers))
            width = channels
        self.projection = nn.Linear(width, config.embedding_size, bias=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, ChannelAffine):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

    def forward(
        self, pixel_values: torch.Tensor, return_dict: bool | None = None
    ) -> FaceRecognizerOutput | tuple[torch.Tensor]:
        """
        Args:
            pixel_values: aligned faces, `[B, 3, S, S]` RGB in `config.value_range`, S being `config.image_size`.
            return_dict: return a `FaceRecognizerOutput`; else its entry in a tuple. By default as the config says.

        Raises:
            ValueError: for another shape.
        """
        size, (low, high) = self.config.image_size, self.config.value_range
        if pixel_values.ndim != 4 or pixel_values.shape[1:] != (3, size, size):
            raise ValueError(
                f"FaceRecognizer expects [B, 3, {size}, {size}] in [{low:g}, {high:g}]; got "
                f"{list(pixel_values.shape)}. hf_faceenh.recognition.embed aligns crops of any size."
            )
        hidden = (pixel_values - low) * (255 / (high - low)) - self.mean[:, None, None]
        hidden = F.relu(self.stem_affine(self.stem(hidden / 256)))
        hidden = F.max_pool2d(hidden, 3, stride=2)
        for stage in self.stages:
            hidden = stage(hidden)
        embeddings = self.projection(hidden.mean(dim=(2, 3)))
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return FaceRecognizerOutput(embeddings=embeddings) if return_dict else (embeddings,)


AutoConfig.register(FaceRecognizerConfig.model_type, FaceRecognizerConfig)
AutoModel.register(FaceRecognizerConfig, FaceRecognizer)
