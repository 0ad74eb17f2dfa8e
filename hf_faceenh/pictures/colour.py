"""A decoded picture's levels, of any mode, profile and type → RGB float32 in [0, 1], and the profile of that RGB."""

import math
from io import BytesIO
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageCms

from hf_faceenh.faults import optional

TOLERANCE = 1e-3  # of floats beyond [0, 1], which a resampling or a half-precision network leaves
WHITE_LEVEL = {"uint8": 255, "uint16": 65535, "float16": 1, "bfloat16": 1, "float32": 1, "float64": 1}

FAMILIAR = 32  # levels; gamma 1.8 is 15 away, linear light 60
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


DAMAGED = "its colour profile is damaged and was ignored"


class Planes(NamedTuple):
    """The levels of a picture: colours `[1 or 3, H, W]`, alpha `[1, H, W]` or `None`, whether it is grey, the profile
    of the colours, and what there is to say about the one in the file."""

    colours: np.ndarray
    alpha: np.ndarray | None
    grey: bool
    icc_profile: bytes | None
    remark: str | None


def rgb_planes(image: Image.Image, name: str) -> Planes:
    """The planes stay in the picture's own RGB or grey; CMYK, Lab and linear light become sRGB."""
    deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    grey = deep or image.mode in ("1", "L", "LA", "La")
    profile, icc_profile, remark = _profile(image, grey)
    alpha = None
    if deep:
        array = _deep_grey(image, name)
        if profile is None or array.dtype != np.uint16:
            return Planes(array[None], None, True, icc_profile, remark)
        image = Image.fromarray((array >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("LA" if grey else "RGBA")
        alpha = np.asarray(image.getchannel("A"))[None]
    if profile is not None:
        source = image if image.mode in ("CMYK", "LAB") else image.convert("L" if grey else "RGB")
        try:
            image = ImageCms.profileToProfile(source, profile, SRGB, outputMode="RGB")
        except ImageCms.PyCMSError:  # a profile of another use, or with parts missing
            profile, icc_profile, remark = None, None, DAMAGED
    if profile is None and image.mode != (mode := "L" if grey else "RGB"):
        image = image.convert(mode)
    return Planes(np.atleast_3d(np.asarray(image)).transpose(2, 0, 1), alpha, grey, icc_profile, remark)


def _profile(image: Image.Image, grey: bool) -> tuple[ImageCms.ImageCmsProfile | None, bytes | None, str | None]:
    """The embedded profile if the colours must be converted from it, the profile to keep, and a remark."""
    if image.mode == "LAB":
        return LAB, SRGB.tobytes(), None
    data = image.info.get("icc_profile")
    if not data:
        return None, None, None
    with optional():  # of what is wrong with it, Pillow and Little CMS raise a dozen kinds
        profile = ImageCms.ImageCmsProfile(BytesIO(data))
        space = profile.profile.xcolor_space.strip()
        if space != ("GRAY" if grey else "CMYK" if image.mode == "CMYK" else "RGB"):
            return None, None, None
        if space != "CMYK" and _looks_familiar(profile, "L" if grey else "RGB"):
            return None, data, None
        return profile, None if grey else SRGB.tobytes(), None
    return None, None, DAMAGED


def _looks_familiar(profile: ImageCms.ImageCmsProfile, mode: str) -> bool:
    """Whether the middle of a profile's levels looks about as it would in sRGB. That of linear light does not, and
    networks that have only seen the other kind would take such a picture for an underexposed one."""
    middle = ImageCms.profileToProfile(Image.new(mode, (1, 1), "#808080"), profile, SRGB, outputMode="RGB")
    return abs(np.mean(middle.getpixel((0, 0))) - 128) < FAMILIAR


def _deep_grey(image: Image.Image, name: str) -> np.ndarray:
    """Pillow's I;16 as uint16, I as uint16 (some of its readers give 16 bits as I), F as float32: `HxW`."""
    array = np.asarray(image)
    if image.mode == "F":
        return array
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise ValueError(f"{name} holds integers from {low} to {high}; expected 0…65535. Scale it to 16 bits.")
    return array.astype(np.uint16)


def to_float(planes: np.ndarray | torch.Tensor, name: str) -> torch.Tensor:
    """Integers or floats of any memory layout → a new contiguous float32 tensor in [0, 1]."""
    dtype = getattr(planes.dtype, "name", str(planes.dtype).removeprefix("torch."))
    if dtype not in WHITE_LEVEL:
        raise ValueError(f"{name} is of type {dtype}; expected uint8, uint16, or floats in [0, 1]. Convert it first.")
    white = WHITE_LEVEL[dtype]
    if isinstance(planes, torch.Tensor):
        pixels = planes.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format).div_(white)
    else:
        array = np.empty(planes.shape, np.float32)
        np.divide(planes, white, out=array, dtype=np.float32, casting="same_kind")
        pixels = torch.from_numpy(array)
    return _clamped(pixels, name) if white == 1 else pixels


def _clamped(pixels: torch.Tensor, name: str) -> torch.Tensor:
    low, high = (float(bound) for bound in pixels.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name} holds NaN or infinite values; expected floats in [0, 1]. Repair or drop it.")
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        remedy = "Map [-1, 1] with x / 2 + 0.5" if low < 0 else "Divide 0…255 by 255"
        raise ValueError(f"{name} holds floats from {low:g} to {high:g}; expected [0, 1]. {remedy}, or clip it.")
    return pixels.clamp_(0, 1)
