"""Small pictures and the training batches that are made of them."""

import struct
import zlib

import numpy as np

from hf_faceenh.learning.data import Coefficients, FacePairs, training_loader
from hf_faceenh.learning.degradation import TYPES, Degradation

SIDE = 32


def picture(index):
    """`[40, 40, 3]` uint8 with soft and sharp parts, for every index another."""
    y, x = np.mgrid[:40, :40]
    disc = ((x - 20) ** 2 + (y - 12 - index) ** 2 < (6 + index) ** 2) * 120
    return np.stack([x * 3 + disc, y * 3 + disc // 2, disc + 5 * index], 2).astype(np.uint8)


def loader(faces, coefficients=None, **changes):
    """Published for all rounds, unless the coefficients are given."""
    if coefficients is None:
        coefficients = Coefficients(dict.fromkeys(TYPES, 0.5))
        coefficients.publish(1000, {})
    settings = {"batches": 8, "first_batch": 0, "batches_per_round": 4, "batch_size": 2, "rank": 0, "world_size": 1}
    settings |= {"seed": 5, "num_workers": 0} | changes
    made = training_loader(faces, FacePairs(Degradation(), SIDE), coefficients, **settings)
    made._batches.timeout = 300 if made._batches.num_workers else 0  # a deadlock fails, instead of waiting for ever
    return made


def lq_of(batches):
    return [batch["lq"].numpy() for batch in batches]


def as_set(batches):
    return sorted(lq.tobytes() for batch in lq_of(batches) for lq in batch)


def assert_same(first, second):
    first, second = list(first), list(second)
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys() == {"hq", "lq", "tags", "side"}
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def bomb() -> bytes:
    """A PNG file that says it is 60000×60000 px: Pillow refuses it, and not with an OSError."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0), b"IDAT")
    parts = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
