"""Writing a shard: a Parquet file, or a folder of pictures with a metadata.jsonl."""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from datasets import ClassLabel, Features, Image, List, Value
from datasets.arrow_writer import ParquetWriter

from hf_faceenh.batch.collection import Collection, Picture
from hf_faceenh.files import strict_json, untaken
from hf_faceenh.pictures import SUFFIXES, heic
from hf_faceenh.pictures.writing import kept_format, suffix_of

METADATA = "metadata.jsonl"
LONGEST = 200  # bytes of a name without its ending
NUMBER, TEXT = Value("float64"), Value("string")
FACE = {
    "box": List(NUMBER), "landmarks": List(List(NUMBER)), "score": NUMBER, "size": NUMBER, "detail": NUMBER,
    "left_alone": TEXT, "strength": NUMBER, "held_back": TEXT, "identity_distance": NUMBER, "likeness": TEXT,
}  # fmt: skip
# The columns that are added to those of the dataset.
ADDED = Features(source_index=Value("int64"), source_name=TEXT, faces=List(FACE))
ROW_GROUP = 2**26  # bytes of pictures after which a Parquet file gets a new row group


class ParquetShard:
    """A shard as one Parquet file.

    Args:
        folder: to write it into.
        column: that of the pictures.
        features: of all columns.
    """

    def __init__(self, folder: Path, column: str, features: Features):
        self.file, self.column, self.size = folder / "shard.parquet", column, 0
        stream = pa.OSFile(os.fspath(self.file), "wb")
        self.writer = ParquetWriter(stream=stream, features=features, embed_local_files=True)

    def append(self, fields: dict[str, pa.Array], picture: Path) -> None:
        """Adds a row, and removes the picture's file.

        Args:
            fields: all but the picture, each an array of one cell.
            picture: its file, in the folder.
        """
        cell = pa.array([{"bytes": picture.read_bytes(), "path": picture.name}], Image().pa_type)
        picture.unlink()
        row = pa.table(fields | {self.column: cell})
        self.writer.write_row(row)
        self.size += row.nbytes
        if self.size >= ROW_GROUP:
            self.writer.write_rows_on_file()
            self.size = 0

    def close(self) -> Path:
        """What was written."""
        self.writer.finalize()
        return self.file


class FolderShard:
    """A shard as a folder of pictures with a metadata.jsonl; arguments and methods are those of `ParquetShard`."""

    def __init__(self, folder: Path, column: str, features: Features):
        self.folder, self.lines = folder, []
        self.labels = {name: kind for name, kind in features.items() if isinstance(kind, ClassLabel)}
        self.key = "file_name" if column == "image" else f"{column}_file_name"  # which `imagefolder` renames

    def append(self, fields: dict[str, pa.Array], picture: Path) -> None:
        values = {self.key: picture.name} | {name: cell[0].as_py() for name, cell in fields.items()}
        for name, kind in self.labels.items():
            values[name] = None if values[name] is None else kind.int2str(values[name])
        self.lines.append(strict_json(values, ensure_ascii=False, default=str))

    def close(self) -> Path:
        (self.folder / METADATA).write_text("".join(self.lines), encoding="utf-8")
        return self.folder


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
    """Names the pictures of a shard, collects them in a folder, and lists the bad ones.

    Args:
        folder: is made.
        collection: to which the shard belongs.
        format: one of `SHARDS`.
    """

    def __init__(self, folder: Path, collection: Collection, format: str):
        folder.mkdir()
        self.folder, self.failed, self.last = folder, [], True
        self.pictures = self.faces = 0
        self._rows = SHARDS[format](folder, collection.column, output_features(collection, format))
        self._taken = {METADATA}

    def name(self, picture: Picture) -> None:
        """Says where to save a picture: under its own name, made to fit its format and to differ from the others'."""
        stem, suffix = os.path.splitext(PurePosixPath((picture.name or "").replace("\\", "/")).name)
        if suffix.lower() not in SUFFIXES + heic.SUFFIXES:
            stem, suffix = stem + suffix, suffix_of(kept_format(picture.info))
        stem = re.sub(r"[^\w.()+,=@ -]", "_", stem).lstrip("._ ").encode()[:LONGEST].decode(errors="ignore")
        picture.file = self.folder / untaken(PurePosixPath((stem or f"{picture.index:08d}") + suffix), self._taken)

    def add(self, picture: Picture) -> None:
        """Adds a picture that was saved in its file, or lists a bad one, without telling a path of this machine."""
        self.last = picture.last
        if picture.wrong:
            reason = picture.wrong.replace(f"{self.folder}{os.sep}", "").replace(picture.path or "\0", str(picture))
            self.failed.append({"index": picture.index, "name": picture.name, "reason": reason})
            return
        added = {"source_index": picture.index, "source_name": picture.name, "faces": picture.faces}
        cells = {column.name: pa.array([added[column.name]], column.type) for column in ADDED.arrow_schema}
        self._rows.append(picture.fields | cells, picture.file)
        self.pictures += 1
        self.faces += sum(face["left_alone"] is None for face in picture.faces)

    def finish(self, shard: str) -> tuple[Path | None, dict[str, Any]]:
        """The shard's file or folder (`None` if it has no pictures), and its record."""
        made = self._rows.close() if self.pictures else None
        data = f"data/{shard}{made.suffix if made.is_file() else ''}" if made else None
        counts = {"pictures": self.pictures, "faces": self.faces, "failed": self.failed}
        return made, {"data": data, **counts, "last": self.last}
