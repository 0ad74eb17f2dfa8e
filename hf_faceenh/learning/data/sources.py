"""Pictures from anywhere: found, loaded without decoding them, their sizes checked, and decoded."""

import contextlib
import logging
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import fsspec
import PIL.Image
import PIL.ImageOps
from datasets import Dataset, Features, Image, IterableDataset, Value, config, load_dataset
from datasets.exceptions import DatasetGenerationError

from hf_faceenh.errors import explained, one_line
from hf_faceenh.pictures.reading import Limits, check_size, identified

logger = logging.getLogger(__name__)

BUILDERS = {  # of `datasets`, by the files that a folder holds; the first that fits
    "parquet": {".parquet"},
    "webdataset": {".tar"},
    "imagefolder": {*PIL.Image.registered_extensions(), ".zip"},
}
NOT_UTF_8 = re.compile("[\ud800-\udfff]")  # as what Python has such bytes in a file's name
WEIGHT = "weight"  # name of a column
NUMBERS = ("float32", "float64", "int32", "int64")
# What `weight` looks at: column → types that it may have.
WEIGHING = {"source_crop_px": NUMBERS, "inside": NUMBERS, "kind": ("string",)}
GENERATED, MIRRORED, LEAST_INSIDE = 0.6, 0.5, 0.9
LEAST_WEIGHT = 0.01  # a stream in which all weigh nothing would never give a face
LIMITS = Limits()
DETAIL = 4  # times the side that is wanted are decoded: what lies above has no part in a good reduction
HEADERS = {Dataset: 1000, IterableDataset: 100}  # pictures that check_sizes looks at; a stream brings them whole

# Found and loaded


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
    return _with_image_column(load_pictures(name, split, streaming), name)


def load_pictures(
    name: str, split: str = "train", streaming: bool = False, columns: Sequence[str] = (), labels: bool = False
) -> Dataset | IterableDataset:
    """As `load_faces`, with the columns as they are.

    Args:
        columns: those that must be there and hold pictures.
        labels: whether the names of sub-folders become a column, where `datasets` takes them for labels.

    Raises:
        ValueError: also where one of `columns` is missing.
    """
    builder, where = source_of(name)
    if labels:
        where.pop("drop_labels", None)
    with loading(f"The pictures of {name}"):
        pictures = load_dataset(builder, split=split, streaming=streaming, **where)
        first = next(iter(pictures.take(1).with_format("arrow")), None) if streaming else len(pictures) or None
    if first is None:
        raise ValueError(f"{name} is empty: its split {split!r} holds no pictures.")
    features = pictures.features or {}
    if missing := [column for column in columns if not isinstance(features.get(column), Image)]:
        raise ValueError(
            f"{name} needs the image columns {' and '.join(columns)}; {' and '.join(missing)} is none of its "
            f"{', '.join(features) or 'columns'}, or holds no pictures."
        )
    return pictures


@contextlib.contextmanager
def loading(what: str) -> Iterator[None]:
    """Turns whatever `datasets` raises into a `ValueError` of one line: its builders raise a dozen kinds. Nobody is
    told meanwhile: `datasets` would have a server count even what is on this machine."""
    counts, config.HF_UPDATE_DOWNLOAD_COUNTS = config.HF_UPDATE_DOWNLOAD_COUNTS, False
    with explained(f"{what} cannot be loaded"):
        try:
            yield
        except DatasetGenerationError as error:  # says only that there is another error
            raise (error.__cause__ or error) from None
        finally:
            config.HF_UPDATE_DOWNLOAD_COUNTS = counts


def source_of(name: str) -> tuple[str, dict]:
    """The builder and its arguments for `load_dataset`.

    Raises:
        ValueError: in one line, where there is no such folder or file, it holds no pictures, or one whose name no
            column of a dataset can hold.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
        if bad := next((file for file in files if NOT_UTF_8.search(str(file))), None):
            raise ValueError(f"The name of the file {os.fsencode(bad)} is not UTF-8. Rename it.")
        suffixes = {file.suffix.lower() for file in files}
        where = {"data_dir": str(path)}
    elif path.is_file() or "*" in name:
        suffixes = {path.suffix.lower()}
        where = {"data_files": str(path)}
    elif name.count("/") > 1 or name.startswith((".", "/", "~")):  # no name on the Hub
        raise ValueError(
            f"{name} does not exist: give a folder or file of pictures, or the name of a dataset on the Hub."
        )
    else:
        return name, {}
    for builder, known in BUILDERS.items():
        if suffixes & known:
            return builder, where | ({"drop_labels": True} if builder == "imagefolder" else {})
    what = "is empty or" if path.is_dir() else "is not a picture archive,"
    raise ValueError(f"{name} {what} holds no pictures, Parquet or WebDataset (.tar) files.")


def _with_image_column(faces: Dataset | IterableDataset, name: str) -> Dataset | IterableDataset:
    column = picture_column(faces.features or {}, name, "Call the one to train with image.")
    return faces if column == "image" else faces.rename_column(column, "image")


def picture_column(features: Mapping, name: str, remedy: str) -> str:
    """The column that holds pictures: the only one that does, or "image" among several.

    Args:
        features: of a dataset.
        name: of the dataset, for the error.
        remedy: where there are several.

    Raises:
        ValueError: where there is none, or it is not clear which is meant.
    """
    pictures = [column for column, kind in features.items() if isinstance(kind, Image)]
    if "image" in pictures:
        return "image"
    if len(pictures) != 1:
        count = f"{len(pictures)} columns" if pictures else "no column"
        raise ValueError(f"{name} has {count} of pictures among {', '.join(features) or 'none'}. {remedy}")
    return pictures[0]


def picture_files(folder: str | Path, below: bool = False) -> list[Path]:
    """The pictures of a folder by their names' endings, sorted; with those of the folders below it, if wanted."""
    known = PIL.Image.registered_extensions()
    paths = Path(folder).rglob("*") if below else Path(folder).iterdir()
    return sorted(path for path in paths if path.suffix.lower() in known and path.is_file())


def pictures_of(option: str, folder: Path) -> list[Path]:
    """The `picture_files` of a folder that an option names.

    Raises:
        ValueError: where there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{option} {folder} is not a folder.")
    paths = picture_files(folder)
    if not paths:
        raise ValueError(f"{option} {folder} holds no pictures.")
    return paths


# How often a face is drawn


def weighed(faces: Dataset | IterableDataset, sample_size: int) -> Dataset | IterableDataset:
    """Faces from `load_faces`: their column "image", as `undecoded` gives it, and "weight", see `weight`."""
    features = faces.features or {}
    known = [name for name, types in WEIGHING.items() if getattr(features.get(name), "dtype", None) in types]
    if isinstance(faces, Dataset):
        columns = (faces.select_columns(name)[:][name] for name in known)
        rows = (dict(zip(known, values, strict=True)) for values in zip(*columns, strict=True))
        weights = [weight(row, sample_size) for row in rows] or [1.0] * len(faces)
        return undecoded(faces).add_column(WEIGHT, weights)
    return undecoded(faces, also=known).map(
        lambda row: {"image": row["image"], WEIGHT: weight(row, sample_size)},
        remove_columns=known,
        features=Features(image=Image(decode=False), weight=Value("float64")),
    )


def weight(row: Mapping, sample_size: int) -> float:
    """How often a face is drawn, in (0, 1]: min(1, source_crop_px / S)² × 0.6 for a kind of "generated" × 0.5 for an
    `inside` below 0.9. So real pixels and real skin decide. What is not known counts as 1.

    Args:
        row: source_crop_px: side in px that the crop had in its photograph; kind: "photo" or "generated"; inside:
            share of the crop that lies inside the photograph, the rest is mirrored. Each may be missing or `None`.
        sample_size: S.
    """
    side, inside = (row.get(name) for name in ("source_crop_px", "inside"))
    share = 1.0 if side is None else min(1.0, side / sample_size) ** 2
    share *= GENERATED if row.get("kind") == "generated" else 1
    share *= MIRRORED if inside is not None and inside < LEAST_INSIDE else 1
    return max(share, LEAST_WEIGHT)


# Looked at and decoded: a picture is {"bytes", "path"}, with None for one of them


def undecoded(
    pictures: Dataset | IterableDataset, columns: Sequence[str] = ("image",), also: Sequence[str] = ()
) -> Dataset | IterableDataset:
    """These columns alone, as `{"bytes", "path"}`; and those of `also`, as they are."""
    pictures = pictures.select_columns([*columns, *also])
    for column in columns:
        pictures = pictures.cast_column(column, Image(decode=False))
    return pictures


def decode(picture: Mapping, mode: str | None = "RGB", reduced_to: int | None = None) -> PIL.Image.Image:
    """`{"bytes", "path"}` → the picture, upright as its EXIF says, in Pillow's `mode`; in the file's own where `None`.

    Args:
        reduced_to: the side in px that it will be reduced to. Of a JPEG that has far more, a half, a quarter or an
            eighth of its pixels along each side is decoded, `DETAIL` times this side at least.

    Raises:
        OSError: with the reason in one line, where it cannot be read, or should not be: see `Limits`.
    """
    try:
        with _opened(picture) as file:
            image = _identified(file, LIMITS)
            if reduced_to:
                image.draft(None, (DETAIL * reduced_to,) * 2)
            image.load()
        image = PIL.ImageOps.exif_transpose(image)
        return image if mode in (None, image.mode) else image.convert(mode)
    except Exception as error:  # Pillow's readers raise almost anything on broken files
        raise OSError(one_line(error)) from error


def _opened(picture: Mapping) -> AbstractContextManager[BinaryIO]:
    """`{"bytes", "path"}` → a file. A path may lead into an archive or to the Hub."""
    if content := picture.get("bytes"):
        return BytesIO(content)
    return fsspec.open(picture["path"]) if "://" in picture["path"] else open(picture["path"], "rb")


def _identified(file: BinaryIO, limits: Limits) -> PIL.Image.Image:
    """The picture in a file, of which only the header has been read: of a format that is opened and a size that is
    decoded."""
    image = identified(file, "The file", limits)
    check_size(image, "The picture", limits.max_pixels)
    return image


def check_sizes(faces: Dataset | IterableDataset, sample_size: int) -> None:
    """Looks at the first 1000 pictures' headers (100 of a stream); says in one line where their sizes differ.

    Args:
        faces: with a column "image". Pictures that cannot be read are left to the loader, which counts them.
        sample_size: smallest side allowed, in px.

    Raises:
        ValueError: in one line, for a picture that is not square or smaller, or where none can be read.
    """
    count = next(number for kind, number in HEADERS.items() if isinstance(faces, kind))
    faces = undecoded(faces.take(count))
    sides = set()
    for index, example in enumerate(faces):
        size = size_in_header(example["image"])
        if size is None:
            continue
        if fault := unfit(size, sample_size):
            raise ValueError(
                f"{title(example['image'], index)} {fault}: training at {sample_size} px needs square, aligned faces "
                "of at least that size, as training/prepare_faces.py makes them."
            )
        sides.add(size[0])
    if not sides:
        raise ValueError(f"None of the first {count} pictures can be read: give pictures that Pillow can open.")
    if len(sides) > 1:
        logger.warning(
            "The faces have sides from %d to %d px; all are resized to %d px.", min(sides), max(sides), sample_size
        )


def size_in_header(picture: Mapping, limits: Limits = LIMITS) -> tuple[int, int] | None:
    """(width, height) in px of `{"bytes", "path"}`; `None` where it cannot be read, or should not be."""
    try:
        with _opened(picture) as file:
            return _identified(file, limits).size
    except Exception:  # Pillow's readers raise almost anything on broken files
        return None


def unfit(size: tuple[int, int], sample_size: int) -> str | None:
    """Why a picture of this (width, height) cannot be used, in a few words."""
    described = f"is {size[0]}×{size[1]} px"
    if size[0] != size[1]:
        return f"{described}, not square"
    return f"{described}, too small" if size[0] < sample_size else None


def checksum_of(picture: Mapping) -> int:
    """A number that tells pictures apart that have none."""
    return zlib.crc32(picture["bytes"] or (picture["path"] or "").encode())


def title(picture: Mapping, index: int) -> str:
    """What messages call a picture."""
    return picture["path"] or f"Picture {index}"
