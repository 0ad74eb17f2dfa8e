"""The colours of an enhanced face come from the photograph: an enhancer guesses them where damage is heavy."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from hf_faceenh.fusion import gaussian_blur
from hf_faceenh.pictures.luminance import luminance

# As shares of the crop's side.
COARSE = 0.094  # standard deviation of what counts as coarse: what is finer has a poor photograph's noise
IRIS = 0.0245  # radius of an iris
EDGE = 0.004  # standard deviation of the iris' soft edge

SMALLEST_EYE = 0.0005  # of the crop's area; what is less open shows no iris

REDUCTION = 4  # coarse colours are worked on at so much smaller a side
OWN = (0.3, 0.7)  # the iris' own share of its colour in a poor photograph, where skin runs into it, lies between these
AGREED = (0.016, 0.047)  # up to the first difference an iris stays as enhanced, from the second on it is the crop's
APART = 0.15  # both irises have one colour, unless those of the photograph are further from their mean than this
EYES = ("l_eye", "r_eye")


def bind_colours(
    faces: torch.Tensor, crops: torch.Tensor, labels: torch.Tensor, id2label: Mapping[int, str]
) -> torch.Tensor:
    """Enhanced faces with the coarse colours of their crops, and irises of the crops' hue; the luminance stays.

    Coarse colours are exchanged as in the colour fix of diffusion restorers: face + blur(crop − face), of what differs
    from the luminance. A crop without colours takes all of the face's.

    Args:
        faces: `[B, 3, S, S]` in [0, 1].
        crops: what they were made from, likewise.
        labels: label ids of the faces' pixels, `[B, S, S]`.
        id2label: the parser's; without the words l_eye and r_eye irises get coarse colours only.

    Returns:
        `[B, 3, S, S]` in [0, 1].
    """
    grey = luminance(faces)
    own, given = faces - grey, crops - luminance(crops)
    side = faces.shape[-1]
    difference = F.avg_pool2d(given - own, REDUCTION)
    coarse = gaussian_blur(difference, COARSE * side / REDUCTION)
    bound = own + F.interpolate(coarse, size=(side, side), mode="bilinear")
    bound = _with_irises(bound, given, grey, labels, [i for i, name in id2label.items() if name.lower() in EYES])
    coloured = given.abs().amax(dim=(1, 2, 3), keepdim=True) > 1e-4
    return (grey + bound * coloured).clamp(0, 1)


def _with_irises(
    own: torch.Tensor, given: torch.Tensor, grey: torch.Tensor, labels: torch.Tensor, eyes: list[int]
) -> torch.Tensor:
    """The colours `own` `[B, 3, S, S]` with those of irises as `given` `[B, 3, S, S]` has them."""
    if not eyes:
        return own
    discs = torch.cat([_irises(grey, labels == eye) for eye in eyes], dim=1)  # [B, E, S, S]
    area = discs.sum(dim=(2, 3))[..., None]  # [B, E, 1]
    seen = area > 0

    def mean_of_both(means: torch.Tensor) -> torch.Tensor:
        return (means * seen).sum(dim=1, keepdim=True) / seen.sum(dim=1, keepdim=True).clamp(min=1)

    photo, made = (torch.einsum("behw,bchw->bec", discs, each) / area.clamp(min=1) for each in (given, own))
    apart = (photo - mean_of_both(photo)).norm(dim=2, keepdim=True) > APART
    photo, made = (torch.where(apart, each, mean_of_both(each)) for each in (photo, made))  # [B, E, 3]
    along = (made * photo).sum(dim=2, keepdim=True) / photo.square().sum(dim=2, keepdim=True).clamp(min=1e-6)
    wrong = ((made - photo).norm(dim=2, keepdim=True) - AGREED[0]) / (AGREED[1] - AGREED[0])
    weights = discs * (wrong.clamp(0, 1) * seen)[..., None]  # [B, E, S, S]
    change = (along.clamp(*OWN) * photo)[..., None, None] - own[:, None]  # [B, E, 3, S, S]: an iris has one hue
    return own + (weights[:, :, None] * change).sum(dim=1)


def _irises(grey: torch.Tensor, eye: torch.Tensor) -> torch.Tensor:
    """The disc around the dark of each eye, `[B, 1, S, S]` in [0, 1]; nothing where an eye is closed or hidden.

    Args:
        grey: luminance, `[B, 1, S, S]`.
        eye: whether a pixel is the eye's, `[B, S, S]`.
    """
    side = grey.shape[-1]
    inside = eye[:, None].to(grey.dtype)
    area = inside.sum(dim=(2, 3), keepdim=True)
    mean = (grey * inside).sum(dim=(2, 3), keepdim=True) / area.clamp(min=1)
    dark = ((mean - grey).clamp(min=0) * inside).square()
    total = dark.sum(dim=(2, 3), keepdim=True)
    at = torch.arange(side, device=grey.device, dtype=grey.dtype)
    x = (dark * at).sum(dim=(2, 3), keepdim=True) / total.clamp(min=1e-12)
    y = (dark * at[:, None]).sum(dim=(2, 3), keepdim=True) / total.clamp(min=1e-12)
    distance = torch.hypot(at - x, at[:, None] - y)
    disc = (IRIS * side - distance + 0.5).clamp(0, 1) * inside
    open_wide = (area > SMALLEST_EYE * side**2) & (total > 0)
    return gaussian_blur(disc, EDGE * side) * open_wide
