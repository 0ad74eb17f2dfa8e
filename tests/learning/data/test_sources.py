import io
import json
import logging
import os
import tarfile

import numpy as np
import pytest
from batches import SIDE
from datasets import Dataset, Features, Value, concatenate_datasets
from datasets import Image as Feature
from PIL import Image

from hf_faceenh.learning.data import (
    check_sizes,
    decode,
    load_faces,
    load_pictures,
    picture_files,
    sources,
    undecoded,
    weighed,
)
from hf_faceenh.pictures.reading import Limits


def blues(faces):
    return sorted(int(np.asarray(face["image"])[..., 2].min()) for face in faces)


@pytest.fixture(scope="module")
def archive(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("webdataset") / "faces-0000.tar"
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.iterdir()):
            tar.add(file, file.name)
    return path


@pytest.mark.parametrize("streaming", [False, True])
def test_faces_come_from_folders_parquet_and_webdataset(folder, parquet, archive, streaming):
    sources = [folder, parquet, parquet / "*.parquet", archive, archive.parent]
    for source in sources:
        faces = load_faces(str(source), streaming=streaming)
        assert blues(faces) == [5 * index for index in range(8)], source
    assert blues(load_faces(str(parquet / "0.parquet"), streaming=streaming)) == [0, 5]


def encoded(image, format):
    file = io.BytesIO()
    image.save(file, format)
    return {"bytes": file.getvalue(), "path": None}


def test_only_known_formats_of_a_bounded_size_are_decoded(monkeypatch):
    with pytest.raises(OSError, match="The file is not a picture that is read here"):  # Pillow would run Ghostscript
        decode(encoded(Image.new("RGB", (8, 8)), "EPS"))
    monkeypatch.setattr(sources, "LIMITS", Limits(max_pixels=63))
    with pytest.raises(OSError, match="8×8 px; at most 6.3e-05 megapixels"):
        decode(encoded(Image.new("RGB", (8, 8)), "PNG"))


def test_of_a_far_too_large_jpeg_less_is_decoded():
    y, x = np.mgrid[:1600, :1600]
    large = Image.fromarray(np.stack([x / 7, y / 7, (x + y) / 14], 2).astype(np.uint8))
    less = decode(encoded(large, "JPEG"), reduced_to=100)
    assert less.size == (400, 400)
    np.testing.assert_allclose(np.asarray(less), np.asarray(large.resize((400, 400), Image.Resampling.BOX)), atol=4)
    assert decode(encoded(large, "JPEG"), reduced_to=201).size == (1600, 1600)
    assert decode(encoded(large, "PNG"), reduced_to=100).size == (1600, 1600)


def test_what_holds_no_faces_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.txt").write_text("no picture")
    (tmp_path / "bad.parquet").write_text("no parquet")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / os.fsdecode(b"\xff.png")).touch()
    Dataset.from_dict({"words": ["a", "b"]}).to_parquet(tmp_path / "words.parquet")
    Dataset.from_dict({"image": [], "words": []}, Features(image=Feature(), words=Value("string"))).to_parquet(
        tmp_path / "none.parquet"
    )
    for name, message in {
        "empty": "empty is empty or holds no pictures",
        "words.txt": "words.txt is not a picture archive",
        "bad.parquet": "bad.parquet cannot be loaded: ",
        "words.parquet": "has no column of pictures among words. Call the one to train with image.",
        "none.parquet": "is empty|no data",
        "nowhere": "nowhere does not exist",
        "odd": "is not UTF-8. Rename it",
    }.items():
        for streaming in (False, True):
            with pytest.raises(ValueError, match=message) as error:
                load_faces(str(tmp_path / name), streaming=streaming)
            assert "\n" not in str(error.value)


def test_real_pixels_photographs_and_whole_crops_weigh_more():
    assert (
        sources.weight({}, 512) == sources.weight({"source_crop_px": 600.0, "inside": 0.95, "kind": "photo"}, 512) == 1
    )
    assert sources.weight({"source_crop_px": 256}, 512) == 0.25
    assert sources.weight({"kind": "generated"}, 512) == 0.6
    assert sources.weight({"inside": 0.8, "kind": None, "source_crop_px": None}, 512) == 0.5
    assert sources.weight({"source_crop_px": 256, "inside": 0.5, "kind": "generated"}, 512) == pytest.approx(0.075)
    assert sources.weight({"source_crop_px": 0.0}, 512) == sources.LEAST_WEIGHT


@pytest.mark.parametrize("streaming", [False, True])
def test_several_datasets_become_one_whose_faces_have_weights(folder, tmp_path, streaming):
    """One with columns, of which one holds something else, and one without."""
    columns = {"source_crop_px": [20, 40], "kind": ["photo", "generated"], "inside": ["yes", "no"], "other": [1, 2]}
    for index in range(2):
        Image.new("RGB", (40, 40), (0, 0, 100 + index)).save(tmp_path / f"{index}.png")
    rows = [
        {"file_name": f"{index}.png"} | {name: column[index] for name, column in columns.items()} for index in (0, 1)
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    parts = [load_faces(str(name), streaming=streaming) for name in (tmp_path, folder)]
    faces = concatenate_datasets([weighed(part, 40) for part in parts])
    assert faces.column_names == ["image", "weight"]
    found = [(np.asarray(decode(face["image"]))[0, 0, 2], face["weight"]) for face in faces]
    assert found[:2] == [(100, 0.25), (101, 0.6)]
    assert len(found) == 10 and all(weight == 1 for _, weight in found[2:])


@pytest.mark.parametrize("streaming", [False, True])
def test_sizes_are_checked_by_headers(folder, with_broken, tmp_path, streaming, caplog):
    check_sizes(load_faces(str(folder), streaming=streaming), 40)
    assert not caplog.messages
    with pytest.raises(ValueError, match=r"png is 40×40 px, too small: training at 64 px needs"):
        check_sizes(load_faces(str(folder), streaming=streaming), 64)
    with pytest.raises(ValueError, match=r"oblong\.png is 40×50 px, not square"):
        check_sizes(load_faces(str(with_broken), streaming=streaming), SIDE)
    for index, side in enumerate((40, 48)):
        Image.new("RGB", (side, side)).save(tmp_path / f"{index}.png")
    with caplog.at_level(logging.WARNING):
        check_sizes(load_faces(str(tmp_path), streaming=streaming), SIDE)
    assert caplog.messages == ["The faces have sides from 40 to 48 px; all are resized to 32 px."]


def test_columns_that_are_asked_for_must_hold_pictures(folder, tmp_path):
    paths = [str(path) for path in sorted(folder.glob("*.png"))]
    pairs = Dataset.from_dict({"image": paths, "label": paths}, Features(image=Feature(), label=Feature()))
    pairs.to_parquet(tmp_path / "pairs.parquet")
    table = load_pictures(str(tmp_path / "pairs.parquet"), columns=("image", "label"))
    assert undecoded(table, ("image", "label"))[0]["label"].keys() == {"bytes", "path"}
    with pytest.raises(ValueError, match="needs the image columns image and label; label is none of its image"):
        load_pictures(str(folder), columns=("image", "label"))


def test_the_pictures_of_a_folder_are_its_files_or_those_below_it_too(tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("b.png", "a.JPG", "words.txt", "below/c.webp"):
        (tmp_path / name).touch()
    assert [path.name for path in picture_files(tmp_path)] == ["a.JPG", "b.png"]
    assert [path.name for path in picture_files(tmp_path, below=True)] == ["a.JPG", "b.png", "c.webp"]
