"""The building blocks of StyleGAN2 (Karras et al. 2020) that GPEN's generator and discriminator, and GFPGAN, share.

All convolutions and linear layers have an *equalised learning rate*: the stored weights are N(0, 1) and are scaled by
1/√fan_in where they are used. The activation is leaky ReLU with slope 0.2, times √2; because it is positively
homogeneous, the √2 is multiplied into the small weights and biases before it instead of into the large maps after it.

In half precision and under autocast the maps are in half precision; what is small and loses by rounding (norms, the
image) is computed in float32.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .precision import at_least_float32, without_autocast

SLOPE = 0.2  # of every leaky ReLU in this package
ACTIVATION_GAIN = math.sqrt(2)


class Blur(nn.Module):
    """`[B, C, H, W]` filtered with the outer product of [1, 3, 3, 1], normalised to the sum `gain`.

    Pads every side with `padding` zeros; gives `[B, C, H', W']` with H' = (H + 2·padding − 4) // stride + 1.
    """

    def __init__(self, padding: int, stride: int = 1, gain: float = 1.0):
        super().__init__()
        self.padding, self.stride = padding, stride
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", gain * torch.outer(taps, taps), persistent=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        channels = int(hidden.shape[1])  # not a traced number: ONNX wants to know a kernel's shape
        kernel = self.kernel.to(hidden.dtype).expand(channels, 1, 4, 4)
        return F.conv2d(hidden, kernel, stride=self.stride, padding=self.padding, groups=channels)


class Upsample(nn.Module):
    """`[B, C, H, W]` → `[B, C, 2H, 2W]`: zero insertion and the [1, 3, 3, 1] filter as one transposed convolution.

    For images: it computes in their own number type, even under autocast.
    """

    def __init__(self):
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(taps, taps), persistent=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        channels = int(hidden.shape[1])  # not a traced number: ONNX wants to know a kernel's shape
        kernel = self.kernel.to(hidden.dtype).expand(channels, 1, 4, 4)
        with without_autocast(hidden):
            return F.conv_transpose2d(hidden, kernel, stride=2, padding=1, groups=channels)


class PixelNorm(nn.Module):
    """`[B, D]` divided by its root mean square over D."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        exact = at_least_float32(hidden)  # squares leave half precision's range
        return (exact * torch.rsqrt(exact.square().mean(1, keepdim=True) + 1e-8)).to(hidden.dtype)


class EqualizedLinear(nn.Module):
    """`[B, in_features]` → `[B, out_features]`.

    Args:
        lr_mul: factor on weights and bias, and so on their learning rate.
        activation: apply the activation.
        bias_init: the bias's first value.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        lr_mul: float = 1.0,
        activation: bool = False,
        bias_init: float = 0.0,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        nn.init.normal_(self.weight, std=1 / lr_mul)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init))
        self.lr_mul, self.activation = lr_mul, activation

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        gain = self.lr_mul * (ACTIVATION_GAIN if self.activation else 1)
        # Scales the input rather than the weights: it is the smaller of the two.
        hidden = F.linear(hidden * (gain / math.sqrt(self.weight.shape[1])), self.weight, self.bias * gain)
        return F.leaky_relu(hidden, SLOPE, inplace=True) if self.activation else hidden


class EqualizedConv2d(nn.Module):
    """`[B, in_channels, H, W]` → `[B, out_channels, H, W]`, or half that size.

    Args:
        kernel_size: 1 or 3.
        downsample: blur, and convolve with stride 2.
        activation: add a bias and apply the activation; without it there is no bias either.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, downsample: bool = False, activation: bool = True
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        nn.init.normal_(self.weight)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if activation else None
        self.stride, self.padding = 1, kernel_size // 2
        self.blur = None
        if downsample and kernel_size == 1:  # a pixel that the convolution would skip need not be blurred
            self.blur = Blur(padding=1, stride=2)
        elif downsample:
            self.blur = Blur(padding=(kernel_size + 1) // 2)
            self.stride, self.padding = 2, 0

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        scale = 1 / math.sqrt(self.weight[0].numel())
        if self.blur is not None:
            hidden = self.blur(hidden)
        if self.bias is None:
            return F.conv2d(hidden, self.weight * scale, None, self.stride, self.padding)
        weight, bias = self.weight * (scale * ACTIVATION_GAIN), self.bias * ACTIVATION_GAIN
        return F.leaky_relu(F.conv2d(hidden, weight, bias, self.stride, self.padding), SLOPE, inplace=True)


def demodulation(weight: torch.Tensor, modulation: torch.Tensor) -> torch.Tensor:
    """Weights `[O, I, 3, 3]`, modulation `[B, I]` → 1/√(Σ(w·s)² + 1e-8) `[B, O]`, in float32: a sum of thousands of
    squares leaves half precision's range. Autocast would compute both products in half precision."""
    with without_autocast(modulation):
        weight = at_least_float32(weight)
        energy = weight.square().sum((2, 3))
        return torch.rsqrt(at_least_float32(modulation).square() @ energy.T + 1e-8)


def modulated_rgb(
    hidden: torch.Tensor, weight: torch.Tensor, modulation: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """`[B, I, r, r]` → `[B, 3, r, r]`, at least float32: a 1×1 convolution with weights `[3, I]`, modulated by
    `[B, I]`."""
    # One small matrix per sample: cheaper than scaling the map. Pixels are the rows, as they lie in memory.
    image = torch.bmm(hidden.flatten(2).mT, (weight * modulation[:, None]).mT)
    image = at_least_float32(image) + at_least_float32(bias)
    return image.mT.unflatten(2, hidden.shape[2:])


def feature_transform(in_channels: int, hidden_channels: int, out_channels: int) -> nn.Sequential:
    """The scale or the shift of a spatial feature transform (Wang et al. 2018): `[B, in_channels, r, r]` →
    `[B, out_channels, r, r]`."""
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden_channels, 3, padding=1),
        nn.LeakyReLU(SLOPE, inplace=True),
        nn.Conv2d(hidden_channels, out_channels, 3, padding=1),
    )


class StyledConv2d(nn.Module):
    """A 3×3 convolution modulated by a style, then GPEN's concatenated noise feature, bias and activation.

    `[B, in_channels, r, r]` → `[B, out_channels + noise_channels, R, R]`, R = 2r with `upsample`, else r.

    Modulation scales the input channels, demodulation the output channels, of one convolution whose weights the whole
    batch shares: the same numbers as StyleGAN2's one set of weights per sample (its equations 1 and 3), without its
    grouped convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, noise_channels: int, style_dim: int, upsample: bool = False
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        nn.init.normal_(self.weight)
        self.modulation = EqualizedLinear(style_dim, in_channels, bias_init=1.0)
        self.noise_weight = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(out_channels + noise_channels))
        self.blur = Blur(padding=1, gain=4.0) if upsample else None

    def forward(self, hidden: torch.Tensor, noise: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        """Without gradients, `hidden` is overwritten: a new map costs more time than the arithmetic on it.

        Args:
            hidden: `[B, in_channels, r, r]`.
            noise: the noise feature, `[B, noise_channels, R, R]`.
            style: `[B, style_dim]`.
        """
        modulation = self.modulation(style) / math.sqrt(self.weight[0].numel())
        gains = demodulation(self.weight, modulation)

        # A compiler fuses the arithmetic itself, and cannot write into a map whose channels are innermost.
        in_place = not torch.is_grad_enabled() and not torch.compiler.is_compiling()
        modulation = modulation[:, :, None, None]
        hidden = hidden.mul_(modulation) if in_place else hidden * modulation
        if self.blur is None:
            hidden = F.conv2d(hidden, self.weight, padding=1)
        else:
            hidden = self.blur(F.conv_transpose2d(hidden, self.weight.transpose(0, 1), stride=2))

        hidden = torch.cat([hidden, noise], dim=1)
        gain = torch.cat([gains, self.noise_weight.expand(style.shape[0], noise.shape[1])], dim=1)
        # In the map's number type: a float32 operand, such as autocast leaves, would make the map float32.
        gain = (ACTIVATION_GAIN * gain[:, :, None, None]).to(hidden.dtype)
        bias = (ACTIVATION_GAIN * self.bias[None, :, None, None]).to(hidden.dtype)
        hidden = torch.addcmul(bias, hidden, gain, out=hidden) if in_place else torch.addcmul(bias, hidden, gain)
        return F.leaky_relu(hidden, SLOPE, inplace=True)


class ToRGB(nn.Module):
    """`[B, in_channels, r, r]` → `[B, 3, r, r]`, at least float32: a 1×1 convolution modulated by a style, without
    demodulation."""

    def __init__(self, in_channels: int, style_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(3, in_channels))
        nn.init.normal_(self.weight)
        self.modulation = EqualizedLinear(style_dim, in_channels, bias_init=1.0)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, hidden: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        modulation = self.modulation(style) / math.sqrt(self.weight.shape[1])
        return modulated_rgb(hidden, self.weight, modulation, self.bias)
