"""Faces from anywhere, and what makes training batches and evaluation sets of them.

`load_faces` and `check_sizes`, then `training_loader`, whose workers follow the `Coefficients` of the round, or
`fixed_pairs` for evaluation.
"""

import contextlib
import inspect
import itertools
import logging
import multiprocessing
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import fsspec
import numpy as np
import PIL.Image
import torch
from datasets import Dataset, Features, Image, IterableDataset, load_dataset
from datasets.distributed import split_dataset_by_node
from datasets.exceptions import DatasetGenerationError
from datasets.fingerprint import Hasher
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data import IterableDataset as TorchIterableDataset

from hf_faceenh.learning.degradation import TYPES, Degradation, FacePairs, checked, resize

logger = logging.getLogger(__name__)

# Faces from anywhere

BUILDERS = {  # of `datasets`, by the files that a folder holds; the first that fits
    "parquet": {".parquet"},
    "webdataset": {".tar"},
    "imagefolder": {*PIL.Image.registered_extensions(), ".zip"},
}
HEADERS = {Dataset: 1000, IterableDataset: 100}  # pictures that check_sizes looks at; a stream brings them whole


def load_faces(name: str, split: str = "train", streaming: bool = False) -> Dataset | IterableDataset:
    """Pictures from a folder of them, Parquet or WebDataset (.tar) files, a folder of those, or the Hub.

    Args:
        name: path of the folder or file (`*` stands for several), or name on the Hub.
        split: which part, where the dataset has several.
        streaming: whether to read it as it comes, instead of as a table.

    Returns:
        the dataset, with the pictures in the column "image".

    Raises:
        ValueError: in one line, where there is no such dataset or it holds no pictures.
    """
    builder, where = source_of(name)
    with loading(f"The faces of {name}"):
        faces = load_dataset(builder, split=split, streaming=streaming, **where)
        first = next(iter(faces.take(1).with_format("arrow")), None) if streaming else len(faces) or None
    if first is None:
        raise ValueError(f"{name} is empty: its split {split!r} holds no pictures.")
    return _with_image_column(faces, name)


@contextlib.contextmanager
def loading(what: str) -> Iterator[None]:
    """Makes one line, a `ValueError`, of what `datasets` raises."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, DatasetGenerationError) as error:
        reason = error.__cause__ if isinstance(error, DatasetGenerationError) and error.__cause__ else error
        raise ValueError(f"{what} cannot be loaded: {' '.join(str(reason).split())}") from error


def source_of(name: str) -> tuple[str, dict]:
    """The builder and its arguments for `load_dataset`."""
    path = Path(name).expanduser()
    if path.is_dir():
        suffixes = {file.suffix.lower() for file in path.rglob("*") if file.is_file()}
        where = {"data_dir": str(path)}
    elif path.is_file() or "*" in name:
        suffixes = {path.suffix.lower()}
        where = {"data_files": str(path)}
    elif name.count("/") > 1 or name.startswith((".", "/", "~")):  # no name on the Hub
        raise ValueError(
            f"{name} does not exist: give a folder or file of faces, or the name of a dataset on the Hub."
        )
    else:
        return name, {}
    for builder, known in BUILDERS.items():
        if suffixes & known:
            return builder, where | ({"drop_labels": True} if builder == "imagefolder" else {})
    what = "is empty or" if path.is_dir() else "is not a picture archive,"
    raise ValueError(f"{name} {what} holds no pictures, Parquet or WebDataset (.tar) files.")


def _with_image_column(faces: Dataset | IterableDataset, name: str) -> Dataset | IterableDataset:
    features = faces.features or {}
    pictures = [column for column, kind in features.items() if isinstance(kind, Image)]
    if "image" in pictures:
        return faces
    if len(pictures) != 1:
        raise ValueError(
            f"{name} needs one column of pictures named image; it has {', '.join(pictures or features) or 'none'}"
            f"{'' if pictures else ', none of them pictures'}."
        )
    return faces.rename_column(pictures[0], "image")


def check_sizes(faces: Dataset | IterableDataset, sample_size: int) -> None:
    """Looks at the first 1000 pictures' headers (100 of a stream); says in one line where their sizes differ.

    Args:
        faces: with a column "image". Pictures that cannot be read are left to the loader, which counts them.
        sample_size: smallest side allowed, in px.

    Raises:
        ValueError: in one line, for a picture that is not square or smaller, or where none can be read.
    """
    count = next(number for kind, number in HEADERS.items() if isinstance(faces, kind))
    faces = _undecoded(faces.take(count))
    sides = set()
    for index, example in enumerate(faces):
        size = _size_in_header(example["image"])
        if size is None:
            continue
        if fault := _unfit(size, sample_size):
            raise ValueError(
                f"{_title(example['image'], index)} {fault}: training at {sample_size} px needs square, aligned faces "
                "of at least that size, as training/prepare_faces.py makes them."
            )
        sides.add(size[0])
    if not sides:
        raise ValueError(f"None of the first {count} pictures can be read: give pictures that Pillow can open.")
    if len(sides) > 1:
        logger.warning(
            "The faces have sides from %d to %d px; all are resized to %d px.", min(sides), max(sides), sample_size
        )


def _undecoded(faces: Dataset | IterableDataset) -> Dataset | IterableDataset:
    """Its column "image" alone, as `{"bytes", "path"}`."""
    return faces.select_columns("image").cast_column("image", Image(decode=False))


def _size_in_header(picture: dict) -> tuple[int, int] | None:
    """(width, height) in px; `None` where it cannot be read."""
    try:
        with (
            BytesIO(picture["bytes"]) if picture["bytes"] else fsspec.open(picture["path"]) as file,
            PIL.Image.open(file) as image,
        ):
            return image.size
    except Exception:  # Pillow's readers raise almost anything on broken files
        return None


def _unfit(size: tuple[int, int], sample_size: int) -> str | None:
    """Why a picture of this (width, height) cannot be used, in a few words."""
    described = f"is {size[0]}×{size[1]} px"
    if size[0] != size[1]:
        return f"{described}, not square"
    return f"{described}, too small" if size[0] < sample_size else None


def _title(picture: dict, index: int) -> str:
    return picture["path"] or f"Picture {index}"


class _Reader:
    """Decodes pictures; those that cannot be used are named once and counted, in all workers together.

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

    def __call__(self, picture: dict, number: int | None = None) -> np.ndarray | None:
        """`{"bytes", "path"}` → `[H, H, 3]` uint8 RGB, or `None`; `number` says which picture it is, where known."""
        try:
            face = np.asarray(Image(mode="RGB").decode_example(picture))
            fault = _unfit(face.shape[1::-1], self.sample_size)
        except Exception as error:  # Pillow's readers raise almost anything on broken files
            fault = f"cannot be read ({' '.join(str(error).split())})"
        if fault is None:
            return face
        if number is None:
            number = zlib.crc32(picture["bytes"] or (picture["path"] or "").encode())
        flag = number % len(self._broken)
        if not self._broken[flag]:
            self._broken[flag] = True
            logger.warning("%s %s; it is passed over.", _title(picture, number), fault)
        return None


# Training batches

SHUFFLE_BUFFER = 512  # encoded pictures of a stream that a worker holds, to draw from
NO_PICTURES = "None of the dataset's pictures can be used: give square pictures that Pillow can open."


class Coefficients:
    """The coefficients of each round, in memory that a process shares with its DataLoader workers.

    A worker is asked for batches of round i+1 while round i is still going on. `at` makes it wait until that round's
    coefficients are published, so that they hold from its first batch on.

    Args:
        values: type → coefficient in [0, 1]; 1 for those not named. Not yet published.

    Raises:
        ValueError: for an unknown type or a value outside [0, 1].
    """

    WAIT = 0.005  # s

    def __init__(self, values: Mapping[str, float] | None = None):
        values = dict.fromkeys(TYPES, 1.0) | checked("coefficients", values)
        self._values = torch.tensor([values[kind] for kind in TYPES], dtype=torch.float64).share_memory_()
        self._round = torch.tensor(-1).share_memory_()  # the last published
        self._closed = torch.tensor(False).share_memory_()

    def values(self) -> dict[str, float]:
        """The last ones: of the newest published round."""
        return dict(zip(TYPES, self._values.tolist(), strict=True))

    def publish(self, round: int, values: Mapping[str, float]) -> None:
        """Gives a round its coefficients, once all batches of the rounds before it have arrived.

        Raises:
            ValueError: for an unknown type or a value outside [0, 1].
        """
        values = self.values() | checked("coefficients", values)
        self._values.copy_(torch.tensor([values[kind] for kind in TYPES], dtype=torch.float64))
        self._round.fill_(round)  # last: workers wait for it

    def at(self, round: int) -> dict[str, float]:
        """A round's coefficients; in a worker, waits until they are published.

        Raises:
            RuntimeError: outside of workers, where waiting would be for ever; or when nobody needs the batch any more.
        """
        while self._round < round:
            if get_worker_info() is None:
                raise RuntimeError(f"Publish the coefficients of round {round} before asking for its first batch.")
            if self._closed:
                raise RuntimeError("Training has ended.")
            if not multiprocessing.parent_process().is_alive():
                os._exit(1)  # killed: whoever could take this worker's results or its excuses is gone
            time.sleep(self.WAIT)
        return self.values()

    def open(self) -> None:
        """From now on, workers wait."""
        self._closed.fill_(False)

    def close(self) -> None:
        """Nobody needs batches any more: lets waiting workers go, so that they can be stopped at once."""
        self._closed.fill_(True)


class TrainingLoader:
    """Training batches, from `training_loader`; iterating starts (again) at its first batch.

    Each batch is a dict of tensors: "hq" and "lq" `[B, 3, S, S]` float32 in [-1, 1], "tags" `[B, len(TYPES)]` float32.
    """

    def __init__(self, batches: DataLoader, coefficients: Coefficients, reader: _Reader):
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

    Args:
        faces: with a column "image", from `load_faces`.
        pairs: makes a pair of each.
        coefficients: of the round that a batch belongs to.
        batches: number of the batch to end before, counted from the start of the run.
        first_batch: number of the batch to begin with; not 0 when a run is resumed.
        batches_per_round: batch b belongs to round b // batches_per_round.
        batch_size: pairs in a batch of this process.
        rank: number of this process.
        world_size: number of processes.
        seed: of orders, crops and damage.
        num_workers: processes that make the batches, 0: none but this one. Of a stream, at most one per file.
    """
    reader = _Reader(pairs.sample_size)
    if isinstance(faces, IterableDataset):
        faces = split_dataset_by_node(_undecoded(faces), rank, world_size)
        workers = _workers_of_stream(faces, world_size, num_workers)
        data = _StreamedBatches(
            faces, pairs, coefficients, reader, batches, first_batch, batches_per_round, batch_size, seed
        )
        batch_size = None  # it gives whole batches
    else:
        workers = num_workers
        numbers = np.arange(first_batch, batches)[:, None] * world_size + rank
        data = Dataset.from_dict({"draw": (numbers * batch_size + np.arange(batch_size)).ravel()})
        data.set_transform(
            _Draws(_undecoded(faces), pairs, coefficients, reader, batch_size * world_size * batches_per_round, seed)
        )
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
class _Draws:
    """Draw numbers → pairs: the transform of the table of a run's draws.

    Args:
        faces: undecoded.
        round_draws: draws in a round, of all processes.
    """

    faces: Dataset
    pairs: FacePairs
    coefficients: Coefficients
    reader: _Reader
    round_draws: int
    seed: int

    def __post_init__(self):
        self._epoch, self._order = -1, np.empty(0, int)

    def __call__(self, rows: dict[str, list[int]]) -> dict[str, list[np.ndarray]]:
        made = []
        for draw in rows["draw"]:
            coefficients = self.coefficients.at(draw // self.round_draws)
            made.append(self.pairs(self._face(draw), (self.seed, draw), coefficients))
        return {name: [pair[name] for pair in made] for name in made[0]}

    def _face(self, draw: int) -> np.ndarray:
        epoch, position = divmod(draw, len(self.faces))
        if epoch != self._epoch:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.faces))
            self._epoch, self._order = epoch, order
        for step in range(len(self.faces)):
            index = int(self._order[(position + step) % len(self.faces)])
            face = self.reader(self.faces[index]["image"], index)
            if face is not None:
                return face
        raise ValueError(NO_PICTURES)


def _workers_of_stream(faces: IterableDataset, world_size: int, num_workers: int) -> int:
    files = faces.num_shards
    files = files // world_size if files % world_size == 0 else files  # as split_dataset_by_node shares them out
    if num_workers > files:
        logger.warning("The stream has %d file(s) per process; so many workers read it, not %d.", files, num_workers)
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
    reader: _Reader
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
        """Faces without end, each with its seed. One that cannot be used leaves its place to the next, which thus
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
        """(epoch, undecoded picture), epoch after epoch."""
        for epoch in itertools.count():
            # Not set_epoch: all workers share that number, and some are an epoch ahead of others.
            rng = np.random.default_rng((self.seed, epoch))
            # One file at a time: reading several of Parquet at once costs five seconds at the end of every epoch.
            shuffled = self.faces.shuffle(generator=rng, buffer_size=SHUFFLE_BUFFER, max_buffer_input_shards=1)
            example = None
            for example in shuffled:
                yield epoch, example["image"]
            if example is None:
                raise ValueError("A worker's share of the stream is empty: use fewer processes or num_workers.")


# Evaluation sets


def fixed_pairs(faces: Dataset, degradation: Degradation, sample_size: int, seed: int) -> Dataset:
    """Every face once, unchanged but for its size, with its poor twin; always the same ones.

    Args:
        faces: with a column "image".
        degradation: makes the poor twins, with its own coefficients.
        sample_size: side of both pictures in px.
        seed: decides the damage, together with the face's number.

    Returns:
        columns "hq" and "lq", pictures (PNG). Kept in the cache of `datasets`; faces that cannot be read are left out.
    """
    arguments = {"reader": _Reader(sample_size), "degradation": degradation, "sample_size": sample_size, "seed": seed}
    # By hand: the library's own fingerprint does not see what changes in this module's code.
    code = (Path(__file__).read_text(), Path(inspect.getfile(Degradation)).read_text(), cv2.__version__)
    fingerprint = Hasher.hash((faces._fingerprint, vars(degradation), sample_size, seed, code))
    return _undecoded(faces).map(
        _fixed_pairs,
        with_indices=True,
        batched=True,
        batch_size=16,
        fn_kwargs=arguments,
        remove_columns="image",
        features=Features(hq=Image(), lq=Image()),
        new_fingerprint=fingerprint,
        desc="Degrading the evaluation set",
    )


def _fixed_pairs(
    rows: dict[str, list[dict]],
    indices: list[int],
    reader: _Reader,
    degradation: Degradation,
    sample_size: int,
    seed: int,
) -> dict[str, list[PIL.Image.Image]]:
    pairs = {"hq": [], "lq": []}
    for picture, index in zip(rows["image"], indices, strict=True):
        face = reader(picture, index)
        if face is not None:
            hq = resize(face, (sample_size, sample_size))
            lq = degradation(hq, np.random.default_rng((seed, index)))
            pairs["hq"].append(PIL.Image.fromarray(hq))
            pairs["lq"].append(PIL.Image.fromarray(lq))
    return pairs
