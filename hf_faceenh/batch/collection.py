"""The pictures of a dataset, by shards, and reading them."""

import itertools
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Image, IterableDataset
from PIL import Image as PillowImage

from hf_faceenh.batch.process import fatal
from hf_faceenh.learning.data import load_pictures, picture_column
from hf_faceenh.pictures import ImageInfo, LoadedImage
from hf_faceenh.pictures.frames import Frames


@dataclass(slots=True)
class Picture:
    """A picture on its way from the dataset to a shard, and what has been made of it so far.

    Args:
        index: its number in the dataset, or in its file of a stream.
        name: of its file, below the dataset's folder where there is one; `None` if it has no name.
        fields: the other columns, each an array of one cell.
        source: the encoded picture, or where it is; `None` where the dataset has none.
        frames: of the picture, which are decoded as they are asked for.
        pixels: of all frames, as the header says.
        info: of the picture, or of its first frame.
        loaded: until it is enhanced; `None` where there are several frames, which are loaded one by one.
        result: until it is saved.
        file: where it is saved.
        faces: of the picture, or of its first frame.
        remark: what may surprise the user about it.
        wrong: why there is no result; then no more is done.
        last: whether it is the last of its task.
    """

    index: int
    name: str | None
    fields: dict[str, pa.ChunkedArray]
    source: bytes | str | None
    frames: Frames | None = None
    pixels: int = 0
    info: ImageInfo | None = None
    loaded: LoadedImage | None = None
    result: PillowImage.Image | np.ndarray | None = None
    file: Path | None = None
    faces: list[dict[str, Any]] = field(default_factory=list)
    remark: str | None = None
    wrong: str | None = None
    last: bool = False

    def __str__(self) -> str:
        return self.name or f"picture {self.index}"


class Collection:
    """The pictures of a dataset, by shards.

    Args:
        name: path of a folder of pictures, Parquet or WebDataset (.tar) files, of a folder of those, or of a file (`*`
            stands for several); or name on the Hub.
        split: which part, as `load_dataset` takes it.
        streaming: whether to read it as it comes, instead of as a table.
        column: that of the pictures; by default the only one that holds pictures, or "image" among several.
        shard_size: pictures in a shard.

    Attributes:
        tasks: how many parts can be worked on at once: the shards of a table, the files of a stream.

    Raises:
        ValueError: in one line, where there is no such dataset or it holds no pictures.
    """

    def __init__(self, name: str, split: str, streaming: bool, column: str | None, shard_size: int):
        dataset = load_pictures(name, split, streaming, labels=True)
        self.is_stream, self.shard_size = streaming, shard_size
        features = dataset.features or {}
        if column is not None and column not in features:
            raise ValueError(f"{name} has no column {column}; it has {', '.join(features) or 'none'}.")
        self.column = column or picture_column(features, name, "Say with --column which to enhance.")
        if not isinstance(dataset.features[self.column], Image):
            dataset = dataset.cast_column(self.column, Image(decode=False))
        self.features = dataset.features
        self.dataset = dataset.with_format("arrow")  # rows as they are stored: nothing is decoded
        self.tasks = dataset.num_shards if streaming else -(-len(dataset) // shard_size)
        self.prefix = re.match(r"\w*", split)[0] or "train"
        root = Path(name).expanduser().resolve()
        self.root = root if root.is_dir() else None

    def shards(self, task: int) -> Iterator[tuple[str, Iterator[Picture]]]:
        """The shards of a task: their names, and their pictures, which are read as they are asked for. The others are
        passed over."""
        pictures = self._pictures(task)
        for number in itertools.count():
            first = list(itertools.islice(pictures, 1))
            if number and not first:
                return
            shard = itertools.chain(first, itertools.islice(pictures, self.shard_size - 1))
            yield self._shard(task, number), shard
            deque(shard, maxlen=0)

    def _shard(self, task: int, number: int) -> str:
        """Names a task's only shard, e.g. "train-00003-of-00007"; or one of the shards of a stream's file, of which
        nobody knows how many there are, e.g. "train-00003-00000"."""
        return f"{self.prefix}-{task:05d}-" + (f"{number:05d}" if self.is_stream else f"of-{self.tasks:05d}")

    def _part(self, task: int) -> Dataset | IterableDataset:
        if self.is_stream:
            return self.dataset.shard(self.tasks, task)
        first = task * self.shard_size
        return self.dataset.select(range(first, min(first + self.shard_size, len(self.dataset))))

    def _pictures(self, task: int) -> Iterator[Picture]:
        rows = itertools.pairwise(itertools.chain(self._part(task), [None]))
        with fatal(Exception, "The dataset cannot be read"):  # of a dozen libraries that `datasets` reads with
            for index, (row, following) in enumerate(rows, 0 if self.is_stream else task * self.shard_size):
                cell = row[self.column][0].as_py() or {"bytes": None, "path": None}
                # A copy: a slice would keep the pictures of its whole batch in memory.
                fields = {name: row[name].take([0]) for name in row.column_names if name != self.column}
                source = cell["path"] if cell["bytes"] is None else cell["bytes"]
                yield Picture(index, self._name(cell["path"]), fields, source, last=following is None)

    def _name(self, path: str | None) -> str | None:
        if not path:
            return None
        inner = PurePosixPath(path.split("::")[0])  # of a file in an archive
        if self.root and inner.is_relative_to(self.root.as_posix()):
            return str(inner.relative_to(self.root.as_posix()))
        return inner.name if inner.is_absolute() or "://" in path else str(inner)

    def size(self, task: int) -> int | None:
        """How many pictures a task has; `None` for a stream."""
        return None if self.is_stream else len(self._part(task))

    def is_whole(self, task: int, record: Callable[[str], dict | None]) -> bool:
        """Whether all shards of a task are whole. `record` gives the record of a whole shard by its name, and `None`
        for one that is to be made."""
        numbers = itertools.count() if self.is_stream else range(1)
        records = (record(self._shard(task, number)) for number in numbers)
        return any(one["last"] for one in itertools.takewhile(bool, records))

    def fingerprint(self) -> dict[str, int]:
        """What tells whether a table has changed; empty for a stream, of which nothing is known before it is read."""
        if self.is_stream:
            return {}
        checksum = 0
        for table in self.dataset.select_columns(self.column).iter(10_000):
            for path in pc.struct_field(table.column(self.column), "path").to_pylist():
                checksum = zlib.crc32(f"{self._name(path)}\n".encode(), checksum)
        return {"pictures": len(self.dataset), "names": checksum}
