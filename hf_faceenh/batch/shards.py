"""Writing a shard: a Parquet file, or a folder of pictures with a metadata.jsonl."""

import itertools
import json
import math
import os
import re
import shutil
from concurrent.futures import Future
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features, Image, List, Value
from datasets.table import embed_table_storage, table_cast
from PIL import Image as PillowImage

from hf_faceenh.batch.collection import Collection, Row, Shard
from hf_faceenh.faults import Fault, described, fault_of
from hf_faceenh.pictures import SUFFIXES, heic

METADATA = "metadata.jsonl"
LONGEST = 200  # bytes of a name without its ending
FACES = List(
    {
        "box": List(Value("float64")),
        "landmarks": List(List(Value("float64"))),
        "score": Value("float64"),
        "size": Value("float64"),
        "detail": Value("float64"),
        "left_alone": Value("string"),
        "strength": Value("float64"),
        "held_back": Value("string"),
        "identity_distance": Value("float64"),
        "likeness": Value("string"),
    }
)
# The columns that are added to those of the dataset.
ADDED = {"source_index": Value("int64"), "source_name": Value("string"), "faces": FACES}
ROW_GROUP = 2**26  # bytes of pictures after which a Parquet file gets a new row group


class ParquetShard:
    """A shard as one Parquet file.

    Args:
        folder: to write it into.
        column: that of the pictures.
        features: of all columns.
    """

    def __init__(self, folder: Path, column: str, features: Features):
        self.file, self.column, self.schema = folder / "shard.parquet", column, features.arrow_schema
        self._rows: list[pa.Table] = []
        self._size = 0  # bytes of their pictures
        self._writer: pq.ParquetWriter | None = None

    def append(self, fields: pa.Table, picture: Path) -> None:
        """Adds a row, and removes the picture's file.

        Args:
            fields: table of one row, with null for the picture.
            picture: its file, in the folder.
        """
        content = picture.read_bytes()
        picture.unlink()
        column = self.schema.field(self.column)
        cell = pa.array([{"bytes": content, "path": picture.name}], column.type)
        self._rows.append(fields.set_column(fields.column_names.index(self.column), column, cell))
        self._size += len(content)
        if self._size >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        self._writer = self._writer or pq.ParquetWriter(self.file, self.schema)
        self._writer.write_table(embed_table_storage(table_cast(pa.concat_tables(self._rows), self.schema)))
        self._rows, self._size = [], 0

    def close(self) -> Path:
        """What was written."""
        if self._rows:
            self._flush()
        self._writer.close()
        return self.file


class FolderShard:
    """A shard as a folder of pictures with a metadata.jsonl; arguments and methods are those of `ParquetShard`."""

    def __init__(self, folder: Path, column: str, features: Features):
        self.folder, self.column = folder, column
        self.labels = {name: kind for name, kind in features.items() if isinstance(kind, ClassLabel)}
        self._lines: list[str] = []

    def append(self, fields: pa.Table, picture: Path) -> None:
        (values,) = fields.to_pylist()
        del values[self.column]
        for name, kind in self.labels.items():
            if values[name] is not None:
                values[name] = kind.int2str(values[name])
        key = "file_name" if self.column == "image" else f"{self.column}_file_name"  # which `imagefolder` renames
        self._lines.append(json.dumps({key: picture.name} | _plain(values), ensure_ascii=False) + "\n")

    def close(self) -> Path:
        (self.folder / METADATA).write_text("".join(self._lines), encoding="utf-8")
        return self.folder


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else str(value)


SHARDS = {"parquet": ParquetShard, "imagefolder": FolderShard}


def check_columns(collection: Collection, format: str) -> None:
    """
    Raises:
        ValueError: for a column that the output adds itself, or that a metadata.jsonl cannot hold.
    """
    for column in collection.features.arrow_schema:
        if column.name in ADDED:
            raise ValueError(f"The dataset has a column {column.name}, as the output will. Rename or remove it.")
        if format == "parquet" or column.name == collection.column:
            continue
        if "binary" in str(column.type) or re.fullmatch(r"(.*_)?file_names?", column.name):
            raise ValueError(
                f"A metadata.jsonl cannot hold the column {column.name}. Use --format parquet, or remove the column."
            )


def output_features(collection: Collection, format: str) -> Features:
    """The columns of a shard: the dataset's own and the added ones."""
    features = Features({**collection.features, collection.column: Image(), **ADDED})
    if format == "parquet":
        return features
    simple = ("bool", "int", "uint", "float", "string", "large_string", "null")
    return Features({
        name: Value("string") if isinstance(kind, Value) and not kind.dtype.startswith(simple) else kind
        for name, kind in features.items()
    })  # fmt: skip


class ShardWriter:
    """Names and counts the pictures of a shard, and lists the bad ones.

    Args:
        folder: of its own; what an interrupted process left there is removed.
        shard: which.
        collection: to which it belongs.
        format: one of `SHARDS`.
    """

    def __init__(self, folder: Path, shard: Shard, collection: Collection, format: str):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder, self.shard = folder, shard
        self.failed: list[dict[str, Any]] = []
        self.pictures = self.faces = 0
        self._rows = SHARDS[format](folder, collection.column, output_features(collection, format))
        self._taken = {METADATA}

    def file_for(self, row: Row, format: str) -> Path:
        """Where to save a picture: under its own name, made to fit the format and to differ from the others'."""
        stem, suffix = os.path.splitext(PurePosixPath((row.name or "").replace("\\", "/")).name)
        if suffix.lower() not in SUFFIXES + heic.SUFFIXES:
            stem, suffix = stem + suffix, _suffix(format)
        stem = re.sub(r"[^\w.()+,=@ -]", "_", stem).lstrip("._ ").encode()[:LONGEST].decode(errors="ignore")
        stem = stem or f"{row.index:08d}"
        name, copies = stem + suffix, itertools.count(2)
        while name.lower() in self._taken:
            name = f"{stem} ({next(copies)}){suffix}"
        self._taken.add(name.lower())
        return self.folder / name

    def add(self, row: Row, file: Path, faces: list[dict[str, Any]], saved: Future) -> None:
        """Adds a picture that is being saved.

        Raises:
            OSError: where saving failed for another reason than the picture, such as a full disk.
        """
        try:
            saved.result()
        except Exception as error:
            if fault_of(error) is Fault.ENVIRONMENT:
                raise
            self.fail(row, described(error).replace(str(file), file.name))
            return
        fields = row.fields
        added = {"source_index": row.index, "source_name": row.name, "faces": faces}
        for column in Features(ADDED).arrow_schema:
            fields = fields.append_column(column, pa.array([added[column.name]], column.type))
        self._rows.append(fields, file)
        self.pictures += 1
        self.faces += sum(face["left_alone"] is None for face in faces)

    def fail(self, row: Row, reason: str) -> None:
        self.failed.append({"index": row.index, "name": row.name, "reason": reason})

    def finish(self, last: bool) -> tuple[Path | None, dict[str, Any]]:
        """The shard's file or folder (`None` if it has no pictures), and its record."""
        made = self._rows.close() if self.pictures else None
        data = f"data/{self.shard.name}{made.suffix if made.is_file() else ''}" if made else None
        failed = sorted(self.failed, key=lambda failure: failure["index"])
        counts = {"pictures": self.pictures, "faces": self.faces, "failed": failed}
        return made, {"data": data, **counts, "last": last}


def _suffix(format: str) -> str:
    known = PillowImage.registered_extensions()
    plain = f".{format.lower()}"
    return plain if plain in known else next(suffix for suffix, name in known.items() if name == format)
