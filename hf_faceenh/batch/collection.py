"""The pictures of a dataset, by shards, and reading them."""

import itertools
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, Image, IterableDataset, load_dataset

from hf_faceenh.learning.data import loading, source_of


@dataclass(frozen=True, slots=True)
class Shard:
    """Pictures that are written together.

    Args:
        name: e.g. "train-00003-of-00007" of a table; of a stream "train-00000-00003", its file and the shard in it.
        file: number of the stream's file; 0 for a table.
        number: of the shard, in the file.
    """

    name: str
    file: int
    number: int


@dataclass(frozen=True, slots=True)
class Row:
    """A picture of the dataset.

    Args:
        shard: where it belongs.
        index: its number in the dataset, or in its file of a stream.
        name: of its file, below the dataset's folder where there is one; `None` if it has no name.
        fields: table of this one row, with null for the picture.
        picture: `{"bytes", "path"}` of the encoded picture.
    """

    shard: Shard
    index: int
    name: str | None
    fields: pa.Table
    picture: dict[str, Any]


@dataclass(frozen=True, slots=True)
class End:
    """The end of a shard.

    Args:
        shard: which.
        last: whether it is the last of its file.
    """

    shard: Shard
    last: bool


class Collection:
    """The pictures of a dataset, by shards.

    Args:
        dataset: a table or a stream.
        column: that of the pictures.
        prefix: what the names of shards begin with.
        shard_size: pictures in a shard.
        root: the folder that the dataset was read from, if it was.
    """

    def __init__(
        self, dataset: Dataset | IterableDataset, column: str, prefix: str, shard_size: int, root: Path | None
    ):
        self.dataset = dataset.with_format("arrow")  # rows as they are stored: nothing is decoded
        self.features = dataset.features
        self.column, self.prefix, self.shard_size, self.root = column, prefix, shard_size, root
        self.is_stream = isinstance(dataset, IterableDataset)
        self.files = dataset.num_shards if self.is_stream else 1
        self.shard_count = None if self.is_stream else -(-len(dataset) // shard_size)

    def shard(self, file: int, number: int) -> Shard:
        ending = f"{file:05d}-{number:05d}" if self.is_stream else f"{number:05d}-of-{self.shard_count:05d}"
        return Shard(f"{self.prefix}-{ending}", file, number)

    @property
    def tasks(self) -> int:
        """How many parts can be worked on at once: the shards of a table, the files of a stream."""
        return self.files if self.is_stream else self.shard_count

    def shards(self, task: int) -> Iterator[Shard]:
        """Those of a task; of a stream, nobody knows where they end."""
        if self.is_stream:
            return (self.shard(task, number) for number in itertools.count())
        return iter([self.shard(0, task)])

    def read(self, task: int, record: Callable[[str], Mapping | None]) -> Iterator[Row | End]:
        """The rows of the shards of a task that have still to be made, and after each shard its end.

        Args:
            task: its number.
            record: gives the record of a whole shard by its name, and `None` for one that is to be made.
        """
        rows = iter(self.dataset.shard(self.files, task)) if self.is_stream else self._slice(task)
        following = next(rows, None)
        for shard in self.shards(task):
            wanted = record(shard.name) is None
            for index in range(shard.number * self.shard_size, (shard.number + 1) * self.shard_size):
                if following is None:
                    break
                if wanted:
                    yield self._row(shard, index, following)
                following = next(rows, None)
            if wanted:
                yield End(shard, following is None)
            if following is None:
                return

    def _slice(self, number: int) -> Iterator[pa.Table]:
        first = number * self.shard_size
        return (self.dataset[index] for index in range(first, min(first + self.shard_size, len(self.dataset))))

    def _row(self, shard: Shard, index: int, table: pa.Table) -> Row:
        picture = table.column(self.column)[0].as_py() or {"bytes": None, "path": None}
        position = table.column_names.index(self.column)
        empty = pa.nulls(1, table.schema.field(position).type)
        # A copy: a slice would keep the pictures of its whole batch in memory.
        fields = table.set_column(position, table.schema.field(position), empty).take([0])
        return Row(shard, index, self._name(picture["path"]), fields, picture)

    def _name(self, path: str | None) -> str | None:
        if not path:
            return None
        inner = PurePosixPath(path.split("::")[0])  # of a file in an archive
        if self.root and inner.is_relative_to(self.root.as_posix()):
            return str(inner.relative_to(self.root.as_posix()))
        return inner.name if inner.is_absolute() or "://" in path else str(inner)

    def size(self, task: int) -> int | None:
        """How many pictures a task has; `None` for a stream."""
        return None if self.is_stream else min(self.shard_size, len(self.dataset) - task * self.shard_size)

    def is_whole(self, task: int, record: Callable[[str], Mapping | None]) -> bool:
        """Whether all shards of a task are whole; arguments are those of `read`."""
        for shard in self.shards(task):
            found = record(shard.name)
            if found is None or found["last"]:
                return found is not None
        return True

    def fingerprint(self) -> dict[str, int]:
        """What tells whether a table has changed; empty for a stream, of which nothing is known before it is read."""
        if self.is_stream:
            return {}
        checksum = 0
        for table in self.dataset.select_columns(self.column).iter(10_000):
            for path in pc.struct_field(table.column(self.column), "path").to_pylist():
                checksum = zlib.crc32(f"{self._name(path)}\n".encode(), checksum)
        return {"pictures": len(self.dataset), "names": checksum}


def load_collection(name: str, split: str, streaming: bool, column: str | None, shard_size: int) -> Collection:
    """A dataset from a folder of pictures, Parquet or WebDataset (.tar) files, a folder of those, or the Hub.

    Args:
        name: path of the folder or file (`*` stands for several), or name on the Hub.
        split: which part, as `load_dataset` takes it.
        streaming: whether to read it as it comes, instead of as a table.
        column: the column of the pictures; by default the only one that holds pictures, or "image" among several.
        shard_size: pictures in a shard.

    Raises:
        ValueError: in one line, where there is no such dataset or it holds no pictures.
    """
    _check_names(Path(name))
    builder, where = source_of(name)
    where.pop("drop_labels", None)  # labels are kept
    with loading(f"The pictures of {name}"):
        dataset = load_dataset(builder, split=split, streaming=streaming, **where)
    if not streaming and not len(dataset):
        raise ValueError(f"{name} is empty: its split {split!r} holds no pictures.")
    features = dataset.features or Features()
    column = _picture_column(features, name, column)
    if not isinstance(features[column], Image):
        dataset = dataset.cast_column(column, Image(decode=False))
    root = Path(name).expanduser().resolve()
    return Collection(
        dataset, column, re.match(r"\w*", split)[0] or "train", shard_size, root if root.is_dir() else None
    )


def _check_names(folder: Path) -> None:
    """
    Raises:
        ValueError: for a file whose name no column of a dataset can hold.
    """
    for file in folder.rglob("*"):
        try:
            str(file).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"The name of the file {os.fsencode(file)} is not UTF-8. Rename it.") from error


def _picture_column(features: Features, name: str, wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in features:
            raise ValueError(f"{name} has no column {wanted}; it has {', '.join(features) or 'none'}.")
        return wanted
    pictures = [column for column, kind in features.items() if isinstance(kind, Image)]
    if "image" in pictures:
        return "image"
    if len(pictures) != 1:
        raise ValueError(
            f"{name} has {len(pictures) or 'no'} columns of pictures among {', '.join(features) or 'none'}. "
            "Say with --column which to enhance."
        )
    return pictures[0]
