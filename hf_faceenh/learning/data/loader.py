"""Training batches from a table of faces or a stream of them."""

import itertools
import logging
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from datasets import Dataset, IterableDataset
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset as TorchIterableDataset

from hf_faceenh.learning.data.coefficients import Coefficients
from hf_faceenh.learning.data.pairs import FacePairs
from hf_faceenh.learning.data.reader import Reader
from hf_faceenh.learning.data.sources import WEIGHT, checksum_of, undecoded

logger = logging.getLogger(__name__)

SHUFFLE_BUFFER = 512  # encoded pictures of a stream that a worker holds, to draw from
NO_PICTURES = "None of the dataset's pictures can be used: give square pictures that Pillow can open."


class TrainingLoader:
    """Training batches, from `training_loader`; iterating starts (again) at its first batch.

    Each batch is a dict of tensors: "hq" and "lq" `[B, S, S, 3]` uint8, of which a fourth goes from process to process
    of what floats would need, "tags" `[B, len(TYPES)]` float32, and "side" `[B]` int64.
    """

    def __init__(self, batches: DataLoader, coefficients: Coefficients, reader: Reader):
        self._batches, self._coefficients, self._reader = batches, coefficients, reader

    @property
    def broken(self) -> int:
        """How many different pictures this process could not use so far; others were put in their place."""
        return self._reader.broken

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        self._coefficients.open()
        try:
            yield from (batch for batch in self._batches if batch is not None)
        finally:
            self._coefficients.close()


def training_loader(
    faces: Dataset | IterableDataset,
    pairs: FacePairs,
    coefficients: Coefficients,
    *,
    batches: int,
    first_batch: int,
    batches_per_round: int,
    batch_size: int,
    rank: int,
    world_size: int,
    seed: int,
    num_workers: int,
) -> TrainingLoader:
    """The batches of one process of a training run.

    A table of faces is a numbered series of draws, every epoch in a new order. Draw k is the same pair whatever the
    number of workers, and batch b of process `rank` holds draws (b · world_size + rank) · batch_size and following:
    the processes together see what one process with the whole batch would see.

    A stream's files are shared out over processes and workers, so the order of its pictures depends on their numbers;
    what is made of a picture in an epoch does not. At `first_batch`, all that came before is read again, but neither
    decoded nor degraded.

    A picture that cannot be used (broken, not square, smaller than the samples) is replaced by the next one.

    Where the faces have weights, some are drawn less often than others. An epoch of a table has as many draws as faces
    all the same; of a stream, each face takes part in an epoch with the probability that is its weight.

    Args:
        faces: with a column "image" and, if wanted, "weight", in (0, 1]: from `load_faces` or `weighed`.
        pairs: makes a pair of each.
        coefficients: of the round that a batch belongs to.
        batches: number of the batch to end before, counted from the start of the run.
        first_batch: number of the batch to begin with; not 0 when a run is resumed.
        batches_per_round: batch b belongs to round b // batches_per_round.
        batch_size: pairs in a batch of this process.
        rank: number of this process.
        world_size: number of processes.
        seed: of orders, crops and damage.
        num_workers: processes that make the batches; with 0 this one does. For a stream, at most one per file.
    """
    reader = Reader(pairs.sample_size)
    weight = [WEIGHT] if WEIGHT in (faces.column_names or ()) else []
    if isinstance(faces, IterableDataset):
        faces = split_dataset_by_node(undecoded(faces, also=weight), rank, world_size)
        workers = _workers_of_stream(faces, world_size, num_workers)
        data = _StreamedBatches(
            faces, pairs, coefficients, reader, batches, first_batch, batches_per_round, batch_size, seed
        )
        batch_size = None  # it gives whole batches
    else:
        workers = num_workers
        span = (batches, first_batch, batches_per_round, batch_size, rank, world_size)
        weights = np.asarray(faces[WEIGHT]) if weight else np.ones(len(faces))
        data = _Draws(undecoded(faces), weights, pairs, coefficients, reader, *span, seed)
    if workers:
        _without_threads(0)  # before the fork: OpenCV's threads do not survive it, and workers would wait for them
    loader = DataLoader(
        data,
        batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=_without_threads,
        pin_memory=torch.cuda.is_available(),
    )
    return TrainingLoader(loader, coefficients, reader)


def _without_threads(_: int) -> None:
    cv2.setNumThreads(0)


@dataclass(eq=False)
class _Draws(TorchDataset):
    """The pairs of this process, batch after batch. Their numbers among all draws of the run are computed one by one:
    a list of them would need gigabytes.

    Args:
        faces: undecoded.
        weights: of each.
    """

    faces: Dataset
    weights: np.ndarray
    pairs: FacePairs
    coefficients: Coefficients
    reader: Reader
    batches: int
    first_batch: int
    batches_per_round: int
    batch_size: int
    rank: int
    world_size: int
    seed: int

    def __post_init__(self):
        self._epoch, self._order = -1, np.empty(0, int)

    def __len__(self) -> int:
        return max(0, self.batches - self.first_batch) * self.batch_size

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        done, place = divmod(index, self.batch_size)
        batch = self.first_batch + done
        draw = (batch * self.world_size + self.rank) * self.batch_size + place
        coefficients = self.coefficients.at(batch // self.batches_per_round)
        return self.pairs(self._face(draw), (self.seed, draw), coefficients)

    def _face(self, draw: int) -> np.ndarray:
        epoch, position = divmod(draw, len(self.faces))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, _drawn(self.weights, np.random.default_rng((self.seed, epoch)))
        for step in range(len(self.faces)):
            index = int(self._order[(position + step) % len(self.faces)])
            face = self.reader(self.faces[index]["image"], index)
            if face is not None:
                return face
        raise ValueError(NO_PICTURES)


def _drawn(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many draws as there are weights: systematic sampling, so that each number comes as often as its share of the
    weights says, rounded up or down; with equal weights once. In random order."""
    numbers = rng.permutation(len(weights))
    ends = np.cumsum(weights[numbers])
    places = (np.arange(len(weights)) + rng.random()) / len(weights) * ends[-1]
    return rng.permutation(numbers[np.searchsorted(ends, places, side="right").clip(max=len(weights) - 1)])


def _workers_of_stream(faces: IterableDataset, world_size: int, num_workers: int) -> int:
    files = faces.num_shards
    files = files // world_size if files % world_size == 0 else files  # as split_dataset_by_node shares them out
    if num_workers > files:
        logger.warning(
            "The stream has %d file(s) per process; only that many workers read it, not %d.", files, num_workers
        )
    return min(num_workers, files)


@dataclass(eq=False)
class _StreamedBatches(TorchIterableDataset):
    """Whole batches from a stream. The DataLoader asks its n workers in turn: worker w's are w, w + n, w + 2n …

    Args:
        faces: undecoded, this process's share.
    """

    faces: IterableDataset
    pairs: FacePairs
    coefficients: Coefficients
    reader: Reader
    batches: int
    first_batch: int
    batches_per_round: int
    batch_size: int
    seed: int

    def __iter__(self) -> Iterator[dict[str, np.ndarray] | None]:
        """Where it does not begin at a worker's first turn, the batches before `first_batch` are `None`."""
        worker = get_worker_info()
        own, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        numbers = range(own, self.batches, workers)
        done = len(range(own, self.first_batch, workers))
        faces = self._faces(done * self.batch_size)
        for number in numbers[self.first_batch // workers :]:
            if number < self.first_batch:
                yield None
                continue
            coefficients = self.coefficients.at(number // self.batches_per_round)
            made = [self.pairs(face, seed, coefficients) for face, seed in itertools.islice(faces, self.batch_size)]
            yield {name: np.stack([pair[name] for pair in made]) for name in made[0]}

    def _faces(self, skipped: int) -> Iterator[tuple[np.ndarray, tuple[int, ...]]]:
        """Faces without end, each with its seed. The place of one that cannot be used goes to the next, which then
        comes twice: so places are the same whether or not what came before them was decoded."""
        owed, since = 0, 0
        for epoch, picture in itertools.islice(self._pictures(), skipped, None):
            face = self.reader(picture)
            if face is None:
                owed, since = owed + 1, since if owed else epoch
                if epoch > since + 1:
                    raise ValueError(NO_PICTURES)
                continue
            checksum = zlib.crc32(np.ascontiguousarray(face))
            for copy in range(owed + 1):
                yield face, (self.seed, epoch, checksum, copy)
            owed = 0

    def _pictures(self) -> Iterator[tuple[int, dict]]:
        """(epoch, undecoded picture), epoch after epoch; some are left out of an epoch, as their weights say."""
        for epoch in itertools.count():
            # Not set_epoch: all workers share that number, and some are an epoch ahead of others.
            rng = np.random.default_rng((self.seed, epoch))
            # One file at a time: reading several of Parquet at once costs five seconds at the end of every epoch.
            shuffled = self.faces.shuffle(generator=rng, buffer_size=SHUFFLE_BUFFER, max_buffer_input_shards=1)
            example = None
            for example in shuffled:
                picture, weight = example["image"], example.get(WEIGHT, 1)
                if weight == 1 or np.random.default_rng((self.seed, epoch, checksum_of(picture))).random() < weight:
                    yield epoch, picture
            if example is None:
                raise ValueError("A worker's share of the stream is empty: use fewer processes or num_workers.")
