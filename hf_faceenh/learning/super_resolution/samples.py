"""Training samples of a super-resolver: crops of photographs, and what is made of them.

The target is always sharp: a crop of a photograph, now and then a drawing of flat shapes. Some inputs are merely
downscaled, the rest are also blurred, noisy and compressed, as pictures that people have: so the network learns to
sharpen what is there, never to upscale block edges, and not to ring at hard edges. What of an input's noise is wanted
(1 − `denoise`) is in the target as well, upscaled like the picture.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from hf_faceenh.errors import explained
from hf_faceenh.learning.data import DecodedPictures, decode, load_faces, undecoded
from hf_faceenh.learning.super_resolution.damage import compressed, noise_for, soften

UNCHANGED = 0.5  # share of the crops at the photograph's own size
DOWNSCALING = (0.5, 1.0)  # the others are first downscaled by a factor from here, which takes their noise away
FILTERS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
DRAWINGS = 0.05  # share of the targets that are drawings
CLEAN = 0.3  # share of the inputs that are only downscaled
ALL, NONE = 0.6, 0.15  # shares of the inputs of which all noise is to be removed, and none
REAL_PIXELS = "source_crop_px"  # column of a dataset of faces: the side that a crop had before it was enlarged


class Photographs(DecodedPictures):
    """The pictures of folders or datasets (their train splits), as `load_faces` finds them: uint8 `[H, W, 3]` RGB.

    Pictures that cannot be read, or are smaller than `least` px, are left out; `skipped` counts them. Those that were
    enlarged, as a column `source_crop_px` tells, come at the size that they had.

    Raises:
        ValueError: with one line, where nothing usable is found.
    """

    def __init__(self, datasets: str | Sequence[str], least: int):
        self.least = least
        self._places, self._sides, self._pixels = [], [], []
        for dataset in (datasets,) if isinstance(datasets, str) else datasets:
            with explained(f"--dataset {dataset}: no such folder or dataset of photographs"):
                pictures = load_faces(dataset)
                sides = pictures[REAL_PIXELS] if REAL_PIXELS in pictures.column_names else [None] * len(pictures)
                pictures = undecoded(pictures)
            self._places += [(pictures, index) for index in range(len(pictures))]
            self._sides += sides
        super().__init__(len(self._places))
        if not len(self):
            names = datasets if isinstance(datasets, str) else " ".join(datasets)
            raise ValueError(f"--dataset {names}: none of its {self.skipped} pictures can be read and has {least} px.")
        self._until = np.cumsum(self._pixels)

    def read(self, index: int) -> np.ndarray:
        pictures, place = self._places[index]
        picture = decode(pictures[place]["image"])
        side = self._sides[index]
        if side is not None and round(side) < min(picture.size):
            factor = side / min(picture.size)
            picture = picture.resize([round(length * factor) for length in picture.size], Image.Resampling.HAMMING)
        if min(picture.size) < self.least:
            raise OSError(f"expected at least {self.least} px, got {picture.width}×{picture.height}")
        return np.asarray(picture)

    def found(self, example: np.ndarray) -> None:
        self._pixels.append(example.shape[0] * example.shape[1])

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """One of them, the larger the likelier: every pixel is as likely as any other."""
        return self[int(np.searchsorted(self._until, rng.integers(self._until[-1]), side="right"))]


def resample(image: np.ndarray, size: tuple[int, int], resampling: Image.Resampling) -> np.ndarray:
    """uint8 `[H, W, 3]` → the same at `size` (width, height); the filter spans all pixels that it should."""
    return np.asarray(Image.fromarray(image).resize(size, resampling))


def from_float(image: np.ndarray) -> np.ndarray:
    return (image * 255).round().clip(0, 255).astype(np.uint8)


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 `[H, W, 3]` → float32 `[3, H, W]` in [0, 1]."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255


def to_pair(sharp: np.ndarray, scale: int, denoise: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A sharp uint8 crop → a uint8 picture of it as people have them, smaller by `scale`, and what is wanted of that,
    float32 in [0, 1]: the crop, with 1 − `denoise` of the picture's noise."""
    size, wanted = (sharp.shape[1] // scale, sharp.shape[0] // scale), sharp.astype(np.float32) / 255
    resampling = FILTERS[rng.integers(len(FILTERS))]
    if rng.random() < CLEAN:
        return resample(sharp, size, resampling), wanted
    small = resample(from_float(soften(wanted, scale, rng)), size, resampling).astype(np.float32) / 255
    noise = noise_for(small, rng)
    if denoise < 1:
        # Noise is as large in an upscaled picture as the things in it.
        wanted = wanted + (1 - denoise) * cv2.resize(noise, sharp.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return compressed(from_float(small + noise), rng), wanted.clip(0, 1)


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
    """Triples (input `[3, c, c]`, target `[3, sc, sc]`, both in [0, 1], and the wanted amount of denoising, `[]`).
    Item i is the same for every number of workers.

    Args:
        photographs: with sides of at least c times the largest scale.
        length: how many there are.
        input_size: c in px.
        scales: one of them is s, for all items of a batch: ×2 four times as often as ×4, whose targets are four times
            as large.
        batch_size: items of a batch.
        denoising: whether amounts below 1 are wanted.
        seed: of everything random.
    """

    def __init__(
        self,
        photographs: Photographs,
        length: int,
        input_size: int,
        scales: Sequence[int],
        batch_size: int,
        denoising: bool,
        seed: int,
    ):
        self.photographs, self.length, self.input_size = photographs, length, input_size
        self.scales, self.batch_size, self.denoising, self.seed = scales, batch_size, denoising, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        often = np.divide(1, self.scales) ** 2
        batch = np.random.default_rng((self.seed, index // self.batch_size, self.length))
        scale = int(batch.choice(self.scales, p=often / often.sum()))
        rng = np.random.default_rng((self.seed, index))
        denoise = self._amount(rng)
        small, target = to_pair(self._sharp(self.input_size * scale, rng), scale, denoise, rng)
        return to_tensor(small), torch.from_numpy(target).permute(2, 0, 1), torch.tensor(denoise)

    def _amount(self, rng: np.random.Generator) -> float:
        which, amount = rng.random(2)
        if not self.denoising or which < ALL:
            return 1.0
        return 0.0 if which < ALL + NONE else float(amount)

    def _sharp(self, size: int, rng: np.random.Generator) -> np.ndarray:
        if rng.random() < DRAWINGS:
            return drawing(size, rng)
        photograph = self.photographs.draw(rng)
        factor = 1.0 if rng.random() < UNCHANGED else rng.uniform(*DOWNSCALING)
        side = min(round(size / factor), *photograph.shape[:2])
        corners = rng.integers(0, np.subtract(photograph.shape[:2], side) + 1, size=(2, 2))
        places = [photograph[y : y + side, x : x + side] for y, x in corners]
        sharp = max(places, key=lambda pixels: pixels[::4, ::4].std())  # blurred backgrounds teach little
        if side != size:  # a filter without negative weights: what overshoots in the target is learnt as ringing
            sharp = resample(sharp, (size, size), Image.Resampling.HAMMING)
        sharp = sharp[:, :: rng.choice((1, -1))]
        return np.ascontiguousarray(sharp.swapaxes(0, 1) if rng.random() < 0.5 else sharp)
