"""Pictures in and out: PIL, NumPy, torch, files, bytes and URLs ⇄ RGB float32 tensors `[3, H, W]` in [0, 1]."""

import math
import os
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypedDict

import cv2
import numpy as np
import requests
import torch
import torch.nn.functional as F
from diffusers.utils.constants import DIFFUSERS_REQUEST_TIMEOUT
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin, UnidentifiedImageError

# By this name, in this module: diffusers looks here for the base class that tells it how to load the component.
from transformers import ImageProcessingMixin

Picture = Image.Image | np.ndarray | torch.Tensor | str | os.PathLike | bytes

MAX_DOWNLOAD = 256 * 2**20  # bytes
STRIP = 2**18  # px that are converted at once on the way out
TOLERANCE = 1e-3  # of floats beyond [0, 1], which a resampling or a half-precision network leaves
WHITE_LEVEL = {"uint8": 255, "uint16": 65535, "float16": 1, "bfloat16": 1, "float32": 1, "float64": 1}
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, as in `PIL.Image.convert("L")`

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
ALPHA_FORMATS = {"PNG", "WEBP", "TIFF", "GIF", "AVIF", "JPEG2000"}
DEEP_FORMATS = {"PNG", "TIFF"}
LOSSY_FORMATS = {"JPEG", "WEBP", "AVIF"}

# What Pillow's decoders, EXIF reader and encoders raise on what they cannot handle.
DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, RuntimeError)
DAMAGE += (AttributeError, AssertionError)

_TAG, _IFD = ExifTags.Base, ExifTags.IFD
# The tags that describe the photograph; all others of the first directory describe the file that it came in.
KEPT_EXIF = (
    (_TAG.ImageDescription, _TAG.Make, _TAG.Model, _TAG.Software, _TAG.DateTime, _TAG.Artist, _TAG.HostComputer)
    + (_TAG.Copyright, _TAG.XResolution, _TAG.YResolution, _TAG.ResolutionUnit)
)  # fmt: skip
# Untrue after enlargement, or offsets into the old file.
DROPPED_EXIF = {_TAG.ExifImageWidth, _TAG.ExifImageHeight, _TAG.MakerNote, _IFD.Interop}


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What is needed, beside the pixels, to give a picture back in the form it came in.

    Args:
        grey: whether the picture has no colour.
        depth: bits per channel, 8 or 16 (8 for float arrays and tensors).
        format: Pillow's name of the file format, e.g. `"JPEG"`; `None` where there was no file.
        exif: EXIF block (date, camera, place, …) without orientation, thumbnail and size; `None` if there is none.
        icc_profile: the sRGB profile to write with the pixels; `None` if the picture carried no colour profile.
        jpeg: `qtables` and `subsampling` of a JPEG, as Pillow's encoder takes them; `None` for other formats.
    """

    grey: bool = False
    depth: int = 8
    format: str | None = None
    exif: bytes | None = None
    icc_profile: bytes | None = None
    jpeg: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LoadedImage:
    """A decoded picture.

    Args:
        pixels: `[3, H, W]` float32, sRGB, in [0, 1], upright.
        alpha: `[1, H, W]` float32 in [0, 1], not premultiplied; `None` for an opaque picture.
        info: what is needed to give the picture back in the form it came in.
    """

    pixels: torch.Tensor
    alpha: torch.Tensor | None
    info: ImageInfo


class FaceImageProcessorKwargs(TypedDict, total=False):
    max_pixels: int


class FaceImageProcessor(ImageProcessingMixin):
    """Reads pictures of every common kind, and gives results back in the form the picture came in.

    Args:
        max_pixels: a larger picture is refused by its header, before it is decoded: a file of a few kilobytes can
            unpack to gigabytes. Pillow's own limit, 2 × `PIL.Image.MAX_IMAGE_PIXELS` (179 megapixels), stands too.
    """

    valid_kwargs = FaceImageProcessorKwargs

    def __init__(self, max_pixels: int = 100_000_000, **kwargs):
        super().__init__(**kwargs)
        self.max_pixels = max_pixels

    def load(self, picture: Picture | LoadedImage) -> LoadedImage:
        """Reads one picture.

        EXIF orientation is applied. Colours become sRGB: an embedded profile of another space is converted (in 8 bits,
        for that is what Little CMS does in Pillow), a damaged or unfitting one is ignored. Of an animation the first
        frame is read. 16-bit grey and, from files, bytes and URLs, 16-bit colour keep their depth.

        Args:
            picture: `PIL.Image.Image`; NumPy `HxW`, `HxWx1`, `HxWx3` or `HxWx4`, uint8, uint16 or float in [0, 1];
                torch `[1, H, W]`, `[3, H, W]` or `[4, H, W]`, uint8, uint16 or float in [0, 1] (stays on its device);
                a path; the bytes of a file; an http(s) URL; or a `LoadedImage`, which is returned as it is.

        Raises:
            OSError: missing, unreadable, damaged or no picture at all (`FileNotFoundError`, `IsADirectoryError`,
                `PIL.UnidentifiedImageError` among them).
            ValueError: wrong shape or value range, no pixels, more than `max_pixels`, a download that is too large.
            TypeError: none of the types above.
        """
        if isinstance(picture, LoadedImage):
            return picture
        if isinstance(picture, (np.ndarray, torch.Tensor)):
            return _from_planes(_planes(picture))
        if isinstance(picture, Image.Image):
            return self._decode(picture, "The picture")
        if isinstance(picture, (bytes, bytearray, memoryview)):
            return self._read(BytesIO(picture), "The picture")
        if isinstance(picture, str) and picture.lower().startswith(("http://", "https://")):
            return self._read(BytesIO(_download(picture)), picture)
        if isinstance(picture, (str, os.PathLike)):
            with _open_file(Path(picture)) as file:
                return self._read(file, str(picture))
        raise TypeError(
            f"FaceImageProcessor expects a PIL image, NumPy array, torch tensor, path, URL or bytes; "
            f"got {type(picture).__name__}. Pass the picture in one of these forms."
        )

    def load_all(self, images: Picture | LoadedImage | Sequence[Picture | LoadedImage]) -> list[LoadedImage]:
        """Reads one picture, a list or tuple of them, or a batch `[B, C, H, W]` (torch) or `BxHxWxC` (NumPy).

        Raises what `load` raises, and `ValueError` for an empty list.
        """
        batch = isinstance(images, (np.ndarray, torch.Tensor)) and images.ndim == 4
        pictures = list(images) if batch or isinstance(images, (list, tuple)) else [images]
        if not pictures:
            raise ValueError("FaceImageProcessor expects at least one picture; got an empty list. Pass one or more.")
        return [self.load(picture) for picture in pictures]

    def to_output(
        self, pixels: torch.Tensor, loaded: LoadedImage, output_type: Literal["pil", "np", "pt"] = "pil"
    ) -> Image.Image | np.ndarray | torch.Tensor:
        """Gives a result back in the form that its picture came in, with its alpha channel scaled to the new size.

        Args:
            pixels: `[3, H, W]` RGB in [0, 1] (clamped here), on any device, in any float precision, of any size.
            loaded: the picture that `pixels` were made from.
            output_type: `"pil"`: mode L, LA, RGB or RGBA, and I;16 for a 16-bit grey picture (Pillow has no 16-bit
                colour); `"np"`: float32 `HxWx3`, `HxWx4` with alpha, in [0, 1]; `"pt"`: the same as `[3, H, W]` or
                `[4, H, W]`, on the device of `pixels`.
        """
        alpha = _scaled(loaded.alpha, pixels)
        if output_type == "pil":
            return _to_pil(pixels, alpha, loaded.info)
        if output_type not in ("np", "pt"):
            raise ValueError(f'output_type must be "pil", "np" or "pt"; got {output_type!r}. Choose one of these.')
        height, width = pixels.shape[1:]
        channels = 3 if alpha is None else 4
        if output_type == "pt":
            return _fill(pixels.new_empty(channels, height, width, dtype=torch.float32), pixels, alpha)
        array = np.empty((height, width, channels), np.float32)
        _fill(torch.from_numpy(array).permute(2, 0, 1), pixels, alpha)
        return array

    def save(
        self, image: Image.Image, path: str | os.PathLike, info: ImageInfo | None = None, format: str | None = None
    ) -> None:
        """Writes a picture, whole or not at all, in the manner of the one it was made from.

        A JPEG made from a JPEG gets its quantisation tables and subsampling; other JPEG, WebP and AVIF files get
        quality 95. EXIF is kept as `ImageInfo.exif` says; a colour picture that carried a profile gets an sRGB one.
        Where the format holds no alpha, the picture is laid onto white; where it holds no 16 bits, it gets 8.

        Args:
            image: a picture as `to_output` makes it.
            path: where to; an existing file is replaced.
            info: of the picture that `image` was made from.
            format: a Pillow format name or a suffix; by default that of `path`, else that of `info`, else PNG.

        Raises:
            OSError: no such folder, not writable, disk full, or a size that the format cannot hold.
            ValueError: a format that Pillow cannot write.
        """
        path, info = Path(path), info or ImageInfo()
        format = _output_format(path, info, format)
        if not path.parent.is_dir():
            raise FileNotFoundError(f"There is no folder {path.parent} to write {path.name} to. Create it first.")
        partial = path.with_name(f".{os.urandom(8).hex()}.part")
        try:
            image, file = _fit_format(image, format), BytesIO()
            image.save(file, format=format, **_save_options(image, info, format))
            partial.write_bytes(file.getbuffer())  # Pillow itself takes a short write at a disk's end for a whole one
            os.replace(partial, path)
        except DAMAGE as error:
            raise OSError(f"Could not write {path} as {format}: {error}. Check the disk, or try PNG.") from error
        finally:
            partial.unlink(missing_ok=True)

    def _read(self, file: BinaryIO, name: str) -> LoadedImage:
        try:
            with warnings.catch_warnings():  # max_pixels takes the place of Pillow's warning
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = Image.open(file)
        except Image.DecompressionBombError as error:
            raise ValueError(f"{name} is too large: {error} Reduce the picture first.") from error
        except DAMAGE as error:
            raise UnidentifiedImageError(
                f"{name} is not a picture that Pillow can read ({file.seek(0, os.SEEK_END)} bytes); "
                "expected JPEG, PNG, WebP, TIFF or the like. Check the file."
            ) from error
        return self._decode(image, name, file)

    def _decode(self, image: Image.Image, name: str, file: BinaryIO | None = None) -> LoadedImage:
        """`file`: where `image` was opened from, to read 16-bit colour from again, which Pillow reduces to 8 bits."""
        self._check_size(image, name)
        deep_colour = any(";16" in str(tile) for tile in getattr(image, "tile", ())) and image.mode in ("RGB", "RGBA")
        try:
            image.load()
        except DAMAGE as error:
            raise OSError(f"{name} is damaged: {error}. Get an undamaged copy of the picture.") from error
        orientation, exif = _read_exif(image)
        planes, alpha, grey, icc_profile = _srgb_planes(image, name)
        if deep_colour and file is not None:
            planes, alpha = _deeper(planes, alpha, file)
        info = ImageInfo(
            grey=grey,
            depth=16 if planes.dtype == np.uint16 else 8,
            format="JPEG" if image.format == "MPO" else image.format,
            exif=exif,
            icc_profile=icc_profile,
            jpeg=_jpeg_settings(image),
        )
        return _from_planes(_upright(planes, orientation), _upright(alpha, orientation), info, name)

    def _check_size(self, image: Image.Image, name: str) -> None:
        width, height = image.size
        if width * height == 0:
            raise ValueError(f"{name} has no pixels ({width}×{height}). Pass one of at least 1×1 px.")
        if width * height > self.max_pixels:
            raise ValueError(
                f"{name} has {width}×{height} px; at most {self.max_pixels / 1e6:g} megapixels are accepted. "
                "Reduce it, or raise FaceImageProcessor(max_pixels=…)."
            )


def _download(url: str) -> bytes:
    data = bytearray()
    try:
        with requests.get(url, stream=True, timeout=DIFFUSERS_REQUEST_TIMEOUT) as response:
            response.raise_for_status()
            for chunk in response.iter_content(2**20):
                data += chunk
                if len(data) > MAX_DOWNLOAD:
                    raise ValueError(f"{url} is larger than {MAX_DOWNLOAD / 2**20:g} MiB. Pass a smaller picture.")
    except requests.RequestException as error:
        raise OSError(f"Could not fetch {url}: {error}. Check the address, or pass a file.") from error
    return bytes(data)


def _open_file(path: Path) -> BinaryIO:
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected a picture. Pass the files in it one by one.")
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}. Check the path; a URL starts with http:// or https://.")
    return open(path, "rb")


def _read_exif(image: Image.Image) -> tuple[int, bytes | None]:
    """Orientation (1…8) and the EXIF block to keep. A damaged block is no reason to refuse the picture."""
    orientation = 1
    try:
        exif, kept = image.getexif(), Image.Exif()
        orientation = int(exif.get(_TAG.Orientation, 1))
        for tag in KEPT_EXIF:
            if tag in exif:
                kept[tag] = exif[tag]
        for directory in (_IFD.Exif, _IFD.GPSInfo):
            tags = {tag: value for tag, value in exif.get_ifd(directory).items() if tag not in DROPPED_EXIF}
            if tags:
                kept[directory] = tags
        return orientation, kept.tobytes() if len(kept) else None
    except DAMAGE:
        return orientation, None


def _jpeg_settings(image: Image.Image) -> dict[str, Any] | None:
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return None
    return {"qtables": image.quantization, "subsampling": JpegImagePlugin.get_sampling(image)}


def _srgb_planes(image: Image.Image, name: str) -> tuple[np.ndarray, np.ndarray | None, bool, bytes | None]:
    """Colour planes `[1 or 3, H, W]` in sRGB, alpha `[1, H, W]` or `None`, whether the picture is grey, and the sRGB
    profile to keep."""
    deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    grey = deep or image.mode in ("1", "L", "LA", "La")
    profile, icc_profile = _profile(image, grey)
    alpha = None
    if deep:
        array = _deep_grey(image, name)
        if profile is None or array.dtype != np.uint16:
            return array[None], None, True, None
        image = Image.fromarray((array >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("LA" if grey else "RGBA")
        alpha = np.asarray(image.getchannel("A"))[None]
    if profile is not None:
        try:
            source = image if image.mode == "CMYK" else image.convert("L" if grey else "RGB")
            image = ImageCms.profileToProfile(source, profile, SRGB, outputMode="RGB")
        except ImageCms.PyCMSError:  # a profile of another use, or with parts missing
            profile = icc_profile = None
    if profile is None:
        image = image.convert("L" if grey else "RGB")
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1), alpha, grey, icc_profile


def _profile(image: Image.Image, grey: bool) -> tuple[ImageCms.ImageCmsProfile | None, bytes | None]:
    """The embedded profile if the colours must be converted from it, and the sRGB profile to keep."""
    data = image.info.get("icc_profile")
    if not data:
        return None, None
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(data))
        space, description = profile.profile.xcolor_space.strip(), ImageCms.getProfileDescription(profile)
    except (OSError, ImageCms.PyCMSError):
        return None, None
    if space != ("GRAY" if grey else "CMYK" if image.mode == "CMYK" else "RGB"):
        return None, None
    if "sRGB" in description and "linear" not in description.lower():
        return None, data
    return profile, None if grey else SRGB.tobytes()


def _deep_grey(image: Image.Image, name: str) -> np.ndarray:
    """Pillow's I;16 as uint16, I as uint16 (Pillow's older readers give 16 bits so), F as float32: `HxW`."""
    array = np.asarray(image)
    if image.mode == "F":
        return array
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise ValueError(f"{name} holds integers from {low} to {high}; expected 0…65535. Scale it to 16 bits.")
    return array.astype(np.uint16)


def _deeper(planes: np.ndarray, alpha: np.ndarray | None, file: BinaryIO) -> tuple[np.ndarray, np.ndarray | None]:
    """The 16 bits of a colour picture of which Pillow gave the upper 8; those 8 where OpenCV reads something else
    (or where the colours have been converted)."""
    shallow = planes if alpha is None else np.concatenate([planes, alpha])
    file.seek(0)
    deep = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16 or deep.shape != shallow.transpose(1, 2, 0).shape:
        return planes, alpha
    blue_first = deep.transpose(2, 0, 1)
    deep = np.concatenate([blue_first[2::-1], blue_first[3:]])
    if not np.array_equal(deep >> 8, shallow):
        return planes, alpha
    return deep[:3], None if alpha is None else deep[3:]


def _upright(planes: np.ndarray | None, orientation: int) -> np.ndarray | None:
    """Applies EXIF orientation to `[C, H, W]`: a view."""
    if planes is None:
        return None
    if orientation in (5, 6, 7, 8):
        planes = planes.swapaxes(1, 2)
    return np.flip(planes, {2: 2, 3: (1, 2), 4: 1, 6: 2, 7: (1, 2), 8: 1}.get(orientation, ()))


def _planes(array: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
    """Channels first, and checked."""
    planes = array
    if isinstance(array, np.ndarray) and array.ndim in (2, 3):
        planes = np.atleast_3d(array).transpose(2, 0, 1)
    if planes.ndim != 3 or planes.shape[0] not in (1, 3, 4) or 0 in planes.shape:
        raise ValueError(
            "FaceImageProcessor expects NumPy HxW, HxWx1, HxWx3 or HxWx4, or torch [1, H, W], [3, H, W] or [4, H, W]; "
            f"got {list(array.shape)}. Transpose it, or pass a batch to load_all."
        )
    return planes


def _from_planes(
    planes: np.ndarray | torch.Tensor,
    alpha: np.ndarray | None = None,
    info: ImageInfo | None = None,
    name: str = "The picture",
) -> LoadedImage:
    """`planes`: `[1 or 3, H, W]`, or `[4, H, W]` with alpha."""
    if planes.shape[0] == 4:
        planes, alpha = planes[:3], planes[3:]
    if info is None:
        info = ImageInfo(grey=planes.shape[0] == 1, depth=16 if "uint16" in str(planes.dtype) else 8)
    pixels = _to_float(planes, name).expand(3, -1, -1).contiguous()
    return LoadedImage(pixels, None if alpha is None else _to_float(alpha, name), info)


def _to_float(planes: np.ndarray | torch.Tensor, name: str) -> torch.Tensor:
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


def _scaled(alpha: torch.Tensor | None, pixels: torch.Tensor) -> torch.Tensor | None:
    """`alpha` at the size and on the device of `pixels`, bicubic."""
    if alpha is None:
        return None
    alpha = alpha.to(pixels.device)
    if alpha.shape[1:] == pixels.shape[1:]:
        return alpha
    return F.interpolate(alpha[None], size=pixels.shape[1:], mode="bicubic", align_corners=False)[0].clamp_(0, 1)


def _fill(planes: torch.Tensor, pixels: torch.Tensor, alpha: torch.Tensor | None) -> torch.Tensor:
    planes[:3] = pixels
    if alpha is not None:
        planes[3:] = alpha
    return planes.clamp_(0, 1)


def _to_pil(pixels: torch.Tensor, alpha: torch.Tensor | None, info: ImageInfo) -> Image.Image:
    """Strip by strip: beside `pixels` and the picture, memory for one strip only."""
    height, width = pixels.shape[1:]
    deep = info.grey and info.depth == 16 and alpha is None
    mode = "I;16" if deep else ("L" if info.grey else "RGB") + ("" if alpha is None else "A")
    image, rows = Image.new(mode, (width, height)), max(1, STRIP // width)
    for top in range(0, height, rows):
        strip = pixels[:, top : top + rows].float()
        if info.grey:
            strip = torch.tensordot(strip.new_tensor(LUMA), strip, dims=1)[None]
        if alpha is not None:
            strip = torch.cat([strip, alpha[:, top : top + rows]])
        levels = (strip.clamp(0, 1) * (65535 if deep else 255)).round()
        levels = levels.to(torch.uint16 if deep else torch.uint8).permute(1, 2, 0).cpu().numpy()
        image.paste(Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels), (0, top))
    return image


def _output_format(path: Path, info: ImageInfo, format: str | None) -> str:
    suffixes = Image.registered_extensions()
    asked = format or path.suffix.lstrip(".") or info.format or "PNG"
    name = suffixes.get(f".{asked.lower()}", asked.upper())
    if name not in Image.SAVE:
        raise ValueError(f"{path}: Pillow cannot write the format {asked!r}. Choose .jpg, .png, .webp or .tif.")
    return name


def _fit_format(image: Image.Image, format: str) -> Image.Image:
    if image.mode == "I;16" and format not in DEEP_FORMATS:
        return Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("LA", "RGBA") and format not in ALPHA_FORMATS:
        canvas = Image.new(image.mode.removesuffix("A"), image.size, "white")
        canvas.paste(image.convert(canvas.mode), mask=image.getchannel("A"))
        return canvas
    return image


def _save_options(image: Image.Image, info: ImageInfo, format: str) -> dict[str, Any]:
    profile = info.icc_profile if image.mode in ("RGB", "RGBA") else None
    options = {"exif": info.exif, "icc_profile": profile}
    if format in LOSSY_FORMATS:
        options |= info.jpeg if format == "JPEG" and info.jpeg else {"quality": 95}
    return {name: value for name, value in options.items() if value is not None}
