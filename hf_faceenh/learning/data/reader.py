"""Decoding faces for training, where some of them cannot be used."""

import logging
from collections.abc import Mapping

import numpy as np
import torch

from hf_faceenh.learning.data.sources import checksum_of, decode, title, unfit

logger = logging.getLogger(__name__)


class Reader:
    """Decodes faces; those that cannot be used are named once and counted, in all workers together.

    Args:
        sample_size: smallest side that can be used, in px.
    """

    def __init__(self, sample_size: int):
        self.sample_size = sample_size
        self._broken = torch.zeros(1 << 16, dtype=torch.bool).share_memory_()  # by the picture's number or checksum

    @property
    def broken(self) -> int:
        """How many different pictures could not be used so far."""
        return int(self._broken.sum())

    def __call__(self, picture: Mapping, number: int | None = None) -> np.ndarray | None:
        """`{"bytes", "path"}` → `[H, H, 3]` uint8 RGB, or `None`; `number` says which picture it is, where known."""
        try:
            face = np.asarray(decode(picture, reduced_to=self.sample_size))
            fault = unfit(face.shape[1::-1], self.sample_size)
        except OSError as error:
            fault = f"cannot be read ({error})"
        if fault is None:
            return face
        if number is None:
            number = checksum_of(picture)
        flag = number % len(self._broken)
        if not self._broken[flag]:
            self._broken[flag] = True
            logger.warning("%s %s; it is passed over.", title(picture, number), fault)
        return None
