"""Pictures that are drawn from at random, decoded once where memory allows."""

from typing import Any

import numpy as np
from torch.utils.data import Dataset

CACHE_BYTES = 4 << 30  # decoded examples kept in memory; the others are decoded again every time


class DecodedPictures(Dataset):
    """Those examples of a source that can be used, decoded; a sub-class says how (`read`).

    Every example is read once at the beginning: those for which `read` raises an `OSError` are left out, and `skipped`
    counts them. The first ones stay in memory, `CACHE_BYTES` of them.

    Args:
        count: examples of the source.
    """

    def __init__(self, count: int):
        self._usable: list[int] = []
        self._kept: dict[int, Any] = {}
        room = CACHE_BYTES
        for index in range(count):
            try:
                example = self.read(index)
            except OSError:
                continue
            self._usable.append(index)
            self.found(example)
            size = sum(array.nbytes for array in (example if isinstance(example, tuple) else (example,)))
            if room > size:
                self._kept[index] = example
                room -= size
        self.skipped = count - len(self._usable)

    def read(self, index: int) -> np.ndarray | tuple[np.ndarray, ...]:
        """An example by its number in the source.

        Raises:
            OSError: where it cannot be used.
        """
        raise NotImplementedError

    def found(self, example: np.ndarray | tuple[np.ndarray, ...]) -> None:
        """Called once with each example that can be used."""

    def __len__(self) -> int:
        return len(self._usable)

    def __getitem__(self, index: int) -> np.ndarray | tuple[np.ndarray, ...]:
        index = self._usable[index]
        return self._kept[index] if index in self._kept else self.read(index)
