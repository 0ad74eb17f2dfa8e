"""Training samples of a super-resolver: crops of photographs, and what is made of them.

The target is always sharp: a crop of a photograph, now and then a drawing of flat shapes. Some inputs are merely
downscaled, the rest are also blurred, noisy and JPEG-compressed, as pictures that people have: so the network learns
to sharpen what is there, never to upscale noise or block edges, and not to ring at hard edges.
"""

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from hf_faceenh.errors import explained
from hf_faceenh.learning.data import DecodedPictures, decode, load_faces, undecoded
from hf_faceenh.learning.degradation import WORST_BLUR, WORST_NOISE, blur, jpeg, noise

DOWNSCALING = (0.5, 1.0)  # a photograph is first downscaled by a factor from here, which takes its noise away
FILTERS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
DRAWINGS = 0.05  # share of the targets that are drawings
CLEAN = 0.2  # share of the inputs that are only downscaled
COMPRESSED = 0.7  # share of the other inputs that went through JPEG
# Their worst: blur in px of the sharp crop, noise as a share of white, and the strength of `jpeg`.
BLUR, NOISE, JPEG = 1.0, 0.05, 0.4


class Photographs(DecodedPictures):
    """The pictures of a folder or of a dataset (its train split), as `load_faces` finds them: uint8 `[H, W, 3]` RGB.

    Pictures that cannot be read, or are smaller than `least` px, are left out; `skipped` counts them.

    Raises:
        ValueError: with one line, where nothing usable is found.
    """

    def __init__(self, dataset: str, least: int):
        self.least = least
        with explained(f"--dataset {dataset}: no such folder or dataset of photographs"):
            self._pictures = undecoded(load_faces(dataset))
        super().__init__(len(self._pictures))
        if not len(self):
            raise ValueError(
                f"--dataset {dataset}: none of its {self.skipped} pictures can be read and has {least} px."
            )

    def read(self, index: int) -> np.ndarray:
        picture = np.asarray(decode(self._pictures[index]["image"]))
        if min(picture.shape[:2]) < self.least:
            raise OSError(f"expected at least {self.least} px, got {picture.shape[1]}×{picture.shape[0]}")
        return picture


def resample(image: np.ndarray, size: tuple[int, int], resampling: Image.Resampling) -> np.ndarray:
    """uint8 `[H, W, 3]` → the same at `size` (width, height); the filter spans all pixels that it should."""
    return np.asarray(Image.fromarray(image).resize(size, resampling))


def from_float(image: np.ndarray) -> np.ndarray:
    return (image * 255).round().clip(0, 255).astype(np.uint8)


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 `[H, W, 3]` → float32 `[3, H, W]` in [0, 1]."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255


def to_input(sharp: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
    """A sharp uint8 crop → a picture of it as people have them, smaller by `scale`."""
    size = (sharp.shape[1] // scale, sharp.shape[0] // scale)
    resampling = FILTERS[rng.integers(len(FILTERS))]
    if rng.random() < CLEAN:
        return resample(sharp, size, resampling)
    image = blur(sharp.astype(np.float32) / 255, rng.uniform(0, BLUR / (WORST_BLUR * max(sharp.shape))), rng)
    image = resample(from_float(image), size, resampling).astype(np.float32) / 255
    image = noise(image, rng.uniform() ** 2 * NOISE / WORST_NOISE, rng)  # mostly light
    return from_float(jpeg(image, rng.uniform(0, JPEG), rng) if rng.random() < COMPRESSED else image)


def drawing(side: int, rng: np.random.Generator) -> np.ndarray:
    """Flat polygons and upright rectangles, uint8 `[side, side, 3]`: faces and suits have no such edges, but borders
    and letters do, and a network that never saw one rings beside them."""
    image = np.full((side, side, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(rng.integers(2, 8)):
        colour = rng.integers(0, 256, 3).tolist()
        corners = rng.integers(-side // 4, side + side // 4, (rng.integers(3, 6), 2), dtype=np.int32)
        if rng.random() < 0.5:
            cv2.rectangle(image, corners[0].tolist(), corners[1].tolist(), colour, cv2.FILLED)
        else:
            cv2.fillPoly(image, [corners], colour, cv2.LINE_AA)
    return image


class Crops(Dataset):
    """Pairs (input `[3, c/s, c/s]`, target `[3, c, c]`) in [0, 1]; item i is the same for every number of workers."""

    def __init__(self, photographs: Photographs, length: int, crop_size: int, scale: int, seed: int):
        self.photographs, self.length, self.crop_size = photographs, length, crop_size
        self.scale, self.seed = scale, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((self.seed, index))
        photograph = self.photographs[rng.integers(len(self.photographs))]
        side = min(round(self.crop_size / rng.uniform(*DOWNSCALING)), *photograph.shape[:2])
        corners = rng.integers(0, np.subtract(photograph.shape[:2], side) + 1, size=(2, 2))
        places = [photograph[y : y + side, x : x + side] for y, x in corners]
        place = max(places, key=lambda pixels: pixels[::4, ::4].std())  # blurred backgrounds teach little
        # A filter without negative weights: what overshoots in the target is learnt as ringing.
        sharp = resample(place, (self.crop_size,) * 2, Image.Resampling.HAMMING)
        if rng.random() < DRAWINGS:
            sharp = drawing(self.crop_size, rng)
        sharp = sharp[:, :: rng.choice((1, -1))]
        sharp = np.ascontiguousarray(sharp.swapaxes(0, 1) if rng.random() < 0.5 else sharp)
        return to_tensor(to_input(sharp, self.scale, rng)), to_tensor(sharp)
