"""What a picture is in grey."""

import torch

LUMA = (0.299, 0.587, 0.114)  # shares of red, green and blue: ITU-R 601-2, as in `PIL.Image.convert("L")`


def luminance(pictures: torch.Tensor) -> torch.Tensor:
    """`[..., 3, H, W]` → `[..., 1, H, W]`."""
    red, green, blue = pictures.unbind(dim=-3)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2]).unsqueeze(-3)
