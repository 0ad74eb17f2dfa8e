"""Writing a shard: a Parquet file, or a folder of pictures with a metadata.jsonl."""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from datasets import ClassLabel, Features, Image, List, Value
from datasets.arrow_writer import ParquetWriter

from hf_faceenh.batch.collection import Picture
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
ROW_GROUP = 2**26  # bytes after which a Parquet file gets a new row group


class Shard:
    """A shard in the making: names its pictures, collects them in a folder, and lists the bad ones.

    Subclasses know a format: `_append` takes a picture, saved in its file, and the added columns; `_close` gives the
    file or folder that the pictures became.

    Args:
        staging: a folder for this shard alone.
        name: of the shard.
        column: that of the pictures.
        features: of all columns.

    Attributes:
        record: what is to be noted of it, see `output.Folder.publish`.
    """

    def __init__(self, staging: Path, name: str, column: str, features: Features):
        self.folder, self.column, self.features = staging / name, column, features
        self.folder.mkdir()
        self.record: dict[str, Any] = {"data": None, "pictures": 0, "faces": 0, "failed": [], "last": True}
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
        self.record["last"] = picture.last
        if picture.wrong:
            reason = picture.wrong.replace(f"{self.folder}{os.sep}", "")
            self.record["failed"].append({"index": picture.index, "name": picture.name, "reason": reason})
            return
        self._append(picture, {"source_index": picture.index, "source_name": picture.name, "faces": picture.faces})
        self.record["pictures"] += 1
        self.record["faces"] += sum(face["left_alone"] is None for face in picture.faces)

    def finish(self) -> Path | None:
        """The shard's file or folder; `None` if it has no pictures."""
        made = self._close() if self.record["pictures"] else None
        self.record["data"] = made and f"data/{made.name}"
        return made


class ParquetShard(Shard):
    """One Parquet file."""

    def __init__(self, staging: Path, name: str, column: str, features: Features):
        super().__init__(staging, name, column, features)
        self._file, self._size = staging / f"{name}.parquet", 0
        stream = pa.OSFile(os.fspath(self._file), "wb")
        self._writer = ParquetWriter(stream=stream, features=features, embed_local_files=True)

    def _append(self, picture: Picture, added: dict[str, Any]) -> None:
        cell = {"bytes": picture.file.read_bytes(), "path": picture.file.name}
        picture.file.unlink()
        self._writer.write(picture.fields | added | {self.column: cell})
        self._size += len(cell["bytes"]) + sum(field.nbytes for field in picture.fields.values())
        if self._size >= ROW_GROUP:
            self._writer.write_examples_on_file()
            self._size = 0

    def _close(self) -> Path:
        self._writer.finalize()
        return self._file


class FolderShard(Shard):
    """A folder of pictures with a metadata.jsonl."""

    def _append(self, picture: Picture, added: dict[str, Any]) -> None:
        key = "file_name" if self.column == "image" else f"{self.column}_file_name"  # which `imagefolder` renames
        values = {key: picture.file.name} | {name: cell[0].as_py() for name, cell in picture.fields.items()} | added
        for name, kind in self.features.items():
            if isinstance(kind, ClassLabel) and values[name] is not None:
                values[name] = kind.int2str(values[name])
        with (self.folder / METADATA).open("a", encoding="utf-8") as lines:
            lines.write(strict_json(values, ensure_ascii=False, default=str))

    def _close(self) -> Path:
        return self.folder


SHARDS = {"parquet": ParquetShard, "imagefolder": FolderShard}


def output_features(features: Features, column: str, format: str) -> Features:
    """The columns of a shard: the dataset's own and the added ones.

    Args:
        features: of the dataset.
        column: that of the pictures.
        format: one of `SHARDS`.

    Raises:
        ValueError: for a column that the output adds itself, or that a metadata.jsonl cannot hold.
    """
    if taken := ADDED.keys() & features.keys():
        raise ValueError(f"The dataset has a column {min(taken)}, as the output will. Rename or remove it.")
    shown = Features({**features, column: Image(), **ADDED})
    if format == "parquet":
        return shown
    for cell in features.arrow_schema:
        if cell.name != column and ("binary" in str(cell.type) or re.fullmatch(r"(.*_)?file_names?", cell.name)):
            raise ValueError(
                f"A metadata.jsonl cannot hold the column {cell.name}. Use --format parquet, or remove the column."
            )
    simple = ("bool", "int", "uint", "float", "string", "large_string", "null")
    return Features({
        name: Value("string") if isinstance(kind, Value) and not kind.dtype.startswith(simple) else kind
        for name, kind in shown.items()
    })  # fmt: skip
