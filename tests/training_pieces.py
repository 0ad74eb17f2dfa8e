"""Faces and small untrained networks, for tests of what training minimises."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import MobileNetV2Config, MobileNetV2Model, ResNetConfig, ResNetModel

from hf_faceenh.learning.discriminators import ProjectedDiscriminator
from hf_faceenh.models import (
    FaceDiscriminator,
    FaceEnhancer,
    FaceRecognizer,
    FaceRecognizerConfig,
    GFPGANFaceEnhancer,
    GPENFaceEnhancer,
)
from hf_faceenh.models.discriminator import FaceDiscriminatorOutput
from hf_faceenh.models.gfpgan import gfpgan_config


def random_faces(count=2, size=64, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def blurred(faces, kernel):
    return F.avg_pool2d(faces, kernel, 1, kernel // 2, count_include_pad=False)


def untouched(*networks):
    return all(p.grad is None for network in networks for p in network.parameters())


def resnet():
    return ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic"))


def recognizer(distance="euclidean"):
    torch.manual_seed(0)
    return FaceRecognizer(
        FaceRecognizerConfig(stem_channels=4, stage_channels=[4, 8], stage_blocks=[1, 1], distance=distance)
    )


def enhancer(size=32, width=4, style=8, seed=0):
    torch.manual_seed(seed)
    resolutions = size.bit_length() - 2
    return FaceEnhancer(
        sample_size=size,
        encoder_channels=[[width]] + [[width, width]] * (resolutions - 1),
        mapping_channels=[8, style],
        constant_channels=width,
        decoder_channels=[[width, width]] * resolutions,
    )


def gpen(size=32, width=8, style=16):
    torch.manual_seed(1)
    resolutions = size.bit_length() - 2
    return GPENFaceEnhancer(
        sample_size=size,
        encoder_channels=[width] * resolutions,
        mapping_channels=[style, style],
        constant_channels=width,
        decoder_channels=[[width]] + [[width, width]] * (resolutions - 1),
    )


def gfpgan(size=32, width=4, style=8):
    """Its noise features are `width` channels wide."""
    torch.manual_seed(0)
    return GFPGANFaceEnhancer(**gfpgan_config(size, style_dim=style, narrow=2 * width / 512))


class LinearDiscriminator(nn.Module):
    """Its gradient at any face is `direction`."""

    def __init__(self, size=8):
        super().__init__()
        torch.manual_seed(0)
        self.direction = nn.Parameter(torch.randn(3, size, size))

    def forward(self, faces):
        return FaceDiscriminatorOutput(logits=F.linear(faces.flatten(1), self.direction.flatten()[None]))


def discriminator(size=32):
    torch.manual_seed(0)
    blocks = [(4, 4)] * (size.bit_length() - 3)
    return FaceDiscriminator(sample_size=size, stem_channels=4, block_channels=blocks, head_channels=[4, 4])


def mobilenet():
    """With features of about 1, as a trained one has them; transformers' own initial weights let them vanish."""
    torch.manual_seed(0)
    network = MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.25, image_size=64))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return network


def projected(seed=0, **changes):
    backbone = mobilenet()
    torch.manual_seed(seed)
    return ProjectedDiscriminator(backbone, **{"width": 8} | changes)
