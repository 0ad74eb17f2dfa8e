"""Small networks whose channels can be removed, and faces that need what is left."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F

from hf_faceenh.models.enhancer import FaceEnhancer
from hf_faceenh.models.gfpgan import GFPGANFaceEnhancer, gfpgan_config
from hf_faceenh.models.gpen import GPENFaceEnhancer


def ours(width=16):
    torch.manual_seed(0)
    model = FaceEnhancer(
        sample_size=16,
        encoder_channels=[[width]] + [[width, width]] * 2,
        mapping_channels=[width, 8],
        constant_channels=width,
        decoder_channels=[[width, width]] * 3,
    )
    with torch.no_grad():
        model.generating_network.to_rgb.weight.mul_(10)  # as if trained: at first it does next to nothing
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) * (parameter.ndim == 1))  # biases
    return model


def gpen():
    torch.manual_seed(0)
    model = GPENFaceEnhancer(
        sample_size=16,
        encoder_channels=[8] * 3,
        mapping_channels=[8] * 2,
        constant_channels=8,
        decoder_channels=[[8], [8, 8], [8, 8]],
    )
    return disturbed(model)


def gfpgan():
    """The convolutional network is 8 channels wide, the generating network 16."""
    torch.manual_seed(0)
    return disturbed(GFPGANFaceEnhancer(**gfpgan_config(16, style_dim=8, narrow=1 / 32)))


@torch.no_grad()
def disturbed(model):
    """With biases and noise weights, which start at 0."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def faces(model, count=4, seed=1):
    """Degraded faces, and as sharp ones what the network makes of them: whatever it still does is needed."""
    size = model.config.sample_size
    lq = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 1.2 - 0.6
    with torch.no_grad():
        return {"lq": lq, "hq": model(lq).sample}


def noisy(batch):
    """The same with other sharp faces, so that the loss has a gradient."""
    shape = batch["hq"].shape
    return batch | {"hq": batch["hq"] + 0.2 * torch.randn(shape, generator=torch.Generator().manual_seed(2))}


def l2_loss(enhanced, batch):
    return (enhanced - batch["hq"]).square().mean()


def groups_of(model):
    return {group.name: group for group in model.channel_groups()}


@torch.no_grad()
def silence(model, name, channels, makers=True):
    """Channels that do nothing: because nothing makes them, or because nothing reads them."""
    group, parameters = groups_of(model)[name], dict(model.named_parameters())
    for where in group.producers if makers else group.consumers:
        if makers or where.dim == 1:
            entries = [where.start + c * where.repeat + i for c in channels for i in range(where.repeat)]
            parameters[where.parameter].index_fill_(where.dim, torch.tensor(entries), 0)


class TinyRecognizer(torch.nn.Module):
    """A recognizer that knows faces by their mean colours in 4×4 fields."""

    dtype = torch.float32

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(
            image_size=32,
            value_range=(0.0, 1.0),
            distance="euclidean",
            template=[[0.38, 0.47], [0.62, 0.47], [0.5, 0.61], [0.39, 0.72], [0.61, 0.72]],
        )

    def forward(self, pixel_values):
        return SimpleNamespace(embeddings=F.adaptive_avg_pool2d(pixel_values, 4).flatten(1))
