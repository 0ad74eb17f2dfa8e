"""Whole collections: what is written is right, and every picture is there once, whatever happened on the way."""

import errno
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import cv2
import datasets
import dill
import fsspec
import numpy as np
import psutil
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value, load_dataset
from fake_hub import TOKEN, FakeHub
from PIL import ExifTags, Image
from tiny import tiny_enhancer, tiny_parser, tiny_pipeline

from hf_faceenh import FaceEnhancePipeline
from hf_faceenh.batch import engines, process, work
from hf_faceenh.batch.__main__ import _parser as batch_parser
from hf_faceenh.batch.__main__ import main
from hf_faceenh.batch.collection import Picture
from hf_faceenh.batch.output import Folder
from hf_faceenh.jobs import described
from hf_faceenh.pictures import FaceImageProcessor

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def quick(bundled, tmp_path_factory):
    """The folder of a pipeline for aligned crops, much quicker still."""
    folder = tmp_path_factory.mktemp("quick")
    parts = {"enhancer": tiny_enhancer(16), "parser": tiny_parser(), "detector": None, "super_resolver": None}
    tiny_pipeline(bundled, **parts).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def portraits(astronaut):
    """Different ones of one person."""
    photo = Image.open(astronaut).convert("RGB").resize((128, 128), Image.Resampling.LANCZOS)
    return [photo.rotate(3 * number) for number in range(4)]


@pytest.fixture(scope="module")
def crops():
    noise = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in noise]


@pytest.fixture
def run(quick, capsys, tmp_path, monkeypatch):
    """Runs the command in `tmp_path` as one of several processes, by default the only one: status, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(process, "PAUSES", (0.01, 0.02, 0.03))

    def run(*arguments, rank=0, world_size=1, **options):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(world_size))
        status = main([*map(str, arguments), *written(quick, **options)])
        out, err = capsys.readouterr()
        assert out == "" and "Traceback" not in err
        return status, err

    return run


def written(quick, **options):
    """Options as the command line has them: those that are not given are for `crops`."""
    options = (
        {"shard_size": 2, "upscale": 1} | ({} if "model" in options else {"model": quick, "aligned": ""}) | options
    )
    return [text for name, value in options.items() for text in (f"--{name}", str(value)) if text]


@pytest.fixture
def folder(crops, tmp_path):
    """in/: seven PNGs, 0.png …"""
    (tmp_path / "in").mkdir()
    for number, crop in enumerate(crops[:7]):
        crop.save(tmp_path / "in" / f"{number}.png")
    return tmp_path / "in"


def encoded(picture):
    """As PNG."""
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


def parquet(file, pictures, names=None):
    """A Parquet file with caption and label."""
    file.parent.mkdir(exist_ok=True)
    cells = []
    for number, picture in enumerate(pictures):
        cells.append({"bytes": encoded(picture), "path": names[number] if names else None})
    features = Features(photo=datasets.Image(), caption=Value("string"), label=ClassLabel(names=["old", "new"]))
    columns = {
        "photo": cells,
        "caption": [f"no. {number}" for number in range(len(pictures))],
        "label": [number % 2 for number in range(len(pictures))],
    }
    Dataset.from_dict(columns, features=features).to_parquet(file)


def read(folder, split="train", **options):
    return load_dataset(str(folder), split=split, cache_dir="read", **options)


def sources(folder="out"):
    return sorted(read(folder)["source_name"])


def shards(folder="out"):
    """What lies in the output's data/ and progress/, with the time it was written."""
    found = [*Path(folder, "data").iterdir(), *Path(folder, "progress").iterdir()]
    return {file.name: file.stat().st_mtime_ns for file in found}


def difference(picture, other):
    return np.abs(np.asarray(picture, int) - np.asarray(other, int)).max()


# Memory


def test_large_pictures_wait_or_go_alone_and_become_the_same(run, crops, tmp_path, monkeypatch):
    sides = [32, 32, 64, 64, 32, 32, 32]
    (tmp_path / "in").mkdir()
    for number, (crop, side) in enumerate(zip(crops, sides, strict=False)):
        crop.resize((side, side)).save(tmp_path / "in" / f"{number}.png")
    assert run("--dataset", "in", "--output", "out", shard_size=7)[0] == 0
    call, together = FaceEnhancePipeline.__call__, []

    def recorded(self, pictures, **options):
        together.append([picture.info.size[0] for picture in pictures])
        return call(self, pictures, **options)

    monkeypatch.setattr(FaceEnhancePipeline, "__call__", recorded)
    monkeypatch.setattr(work, "DECODED", 2 * 32 * 32)
    assert run("--dataset", "in", "--output", "small", shard_size=7)[0] == 0
    assert together == [[32, 32], [64], [64], [32, 32], [32]]
    found, expected = read("small"), read("out")
    assert found["source_name"] == expected["source_name"]
    assert all(difference(*pair) == 0 for pair in zip(found["image"], expected["image"], strict=True))


def test_no_more_pixels_are_decoded_ahead_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(work, "DECODED", 100)
    pictures = [Picture(index, None, {}, None, None, pixels) for index, pixels in enumerate([300, 40, 60, 10, 200, 0])]
    begun, seen = [], []
    with ThreadPoolExecutor(1) as pool:
        for _ in work.ahead(pool, lambda picture: begun.append(picture.index) or picture, pictures, limit=3):
            pool.submit(int).result()  # all that is to be done ahead is done
            seen.append(len(begun))
    assert begun == list(range(6)) and seen == [1, 3, 4, 4, 5, 6]


def test_a_picture_elsewhere_is_fetched_once(run, crops, tmp_path, monkeypatch):
    storage, opened = fsspec.filesystem("memory"), []
    for number, crop in enumerate(crops[:2]):
        storage.pipe(f"/batch/{number}.png", encoded(crop))
    open_one = type(storage)._open

    def counted(self, path, *args, **options):
        opened.append(path)
        return open_one(self, path, *args, **options)

    monkeypatch.setattr(type(storage), "_open", counted)
    cells = [{"bytes": None, "path": f"memory://batch/{number}.png"} for number in (0, 1, 2)]
    (tmp_path / "in").mkdir()
    Dataset.from_dict({"image": cells}).to_parquet(tmp_path / "in" / "0.parquet")
    status, err = run("--dataset", "in", "--output", "out", column="image", shard_size=7)
    assert status == 1 and "2 pictures with 2 enhanced faces, 1 failed" in err
    assert "There is no 2.png." in Path("out/failed.jsonl").read_text()
    assert sources() == ["0.png", "1.png"] and sorted(opened) == [f"/batch/{number}.png" for number in (0, 1, 2)]


def test_an_empty_cell_is_no_file_of_this_machine(run, crops, tmp_path):
    crops[0].save(tmp_path / "0.png")  # where the command is started
    (tmp_path / "in").mkdir()
    Dataset.from_dict({"image": [{"bytes": b"", "path": "0.png"}]}).to_parquet(tmp_path / "in" / "0.parquet")
    assert run("--dataset", "in", "--output", "out", column="image")[0] == 1
    assert "not a picture" in Path("out/failed.jsonl").read_text()


# What is written


def test_parquet_holds_what_the_pipeline_gives_and_all_columns(run, model, tiny, portraits, tmp_path):
    wall = Image.new("RGB", (70, 80), "teal")
    given = [*portraits, wall]
    parquet(tmp_path / "in" / "some.parquet", given, names=["a/x.png", "b/x.png", None, "c", "wall.png"])
    status, err = run("--dataset", "in", "--output", "out", model=model, upscale=2, batch_size=2, shard_size=3)
    assert status == 0 and "complete: 5 pictures with 4 enhanced faces, 0 failed" in err
    assert shards().keys() >= {"train-00000-of-00002.parquet", "train-00001-of-00002.parquet"}
    made = read("out")
    assert list(made.features) == ["photo", "caption", "label", "source_index", "source_name", "faces"]
    assert made.features["label"].names == ["old", "new"] and made.features["photo"] == datasets.Image()
    assert made["source_index"][:] == list(range(5)) and made["label"][:] == [0, 1, 0, 1, 0]
    assert made["source_name"][:] == ["a/x.png", "b/x.png", None, "c", "wall.png"]
    assert made["caption"][:] == [f"no. {number}" for number in range(5)]
    for row, picture in zip(made, given, strict=True):
        (image,), (faces,) = tiny(picture, return_dict=False)
        assert row["photo"].size == image.size == (2 * picture.width, 2 * picture.height)
        assert difference(row["photo"], image) <= 1  # batches may round otherwise
        assert len(row["faces"]) == len(faces)
        for face, expected in zip(row["faces"], map(described, faces), strict=True):
            assert face["left_alone"] is None and face["score"] == pytest.approx(expected["score"], abs=1e-3)
            assert np.allclose(face["box"], expected["box"], atol=0.02)
            assert np.shape(face["landmarks"]) == (5, 2) and face["size"] == pytest.approx(expected["size"], abs=0.02)
    stored = made.cast_column("photo", datasets.Image(decode=False))["photo"][:]
    assert [picture["path"] for picture in stored] == ["x.png", "x (2).png", "00000002.png", "c.png", "wall.png"]


def test_all_frames_are_enhanced(run, model, portraits):
    os.makedirs("in")
    portraits[0].save("in/moving.gif", save_all=True, append_images=portraits[1:3], duration=[100, 200, 300])
    portraits[0].save("in/pages.tif", save_all=True, append_images=[portraits[1].resize((64, 64))])
    portraits[3].save("in/photo.jpg")
    status, err = run("--dataset", "in", "--output", "out", model=model, format="imagefolder", shard_size=9)
    assert status == 0 and "complete: 3 pictures with 3 enhanced faces, 0 failed" in err
    made = Path("out/data/train-00000-of-00001")
    with Image.open(made / "moving.gif") as moving, Image.open(made / "pages.tif") as pages:
        assert moving.n_frames == 3 and pages.n_frames == 2
        assert [(moving.seek(index), moving.info["duration"])[1] for index in range(3)] == [100, 200, 300]
        pages.seek(1)
        assert pages.size == (64, 64)


def test_imagefolder_keeps_names_and_formats(run, model, tiny, portraits):
    os.makedirs("in/b/deep")
    os.makedirs("in/a")
    Image.new("RGB", (70, 80), "teal").save("in/a/X.jpg")  # no face in the first shard, from which types are guessed
    Image.new("RGB", (70, 80), "navy").save("in/a/x.JPG")
    portraits[2].save("in/a/.z.png")
    portraits[0].save("in/b/deep/x.jpg", quality=70)
    portraits[1].save("in/b/deep/y.png", "JPEG")
    options = {"model": model, "format": "imagefolder", "batch_size": 1, "no_provenance": ""}
    assert run("--dataset", "in", "--output", "out", **options)[0] == 0
    made = read("out").sort("source_index")
    assert made["source_name"][:] == ["a/X.jpg", "a/x.JPG", "b/deep/x.jpg", "b/deep/y.png"]
    assert [len(faces) for faces in made["faces"]] == [0, 0, 1, 1]
    assert sorted(os.listdir("out/data")) == ["train-00000-of-00002", "train-00001-of-00002"]
    assert sorted(os.listdir("out/data/train-00000-of-00002")) == ["X.jpg", "metadata.jsonl", "x (2).JPG"]
    assert sorted(os.listdir("out/data/train-00001-of-00002")) == ["metadata.jsonl", "x.jpg", "y.png"]
    for name in ("x.jpg", "y.png"):
        loaded = tiny.image_processor.load(f"in/b/deep/{name}")
        image = tiny(loaded, upscale=1).images[0]
        tiny.image_processor.save(image, name, loaded.info, "JPEG")
        assert Path("out/data/train-00001-of-00002", name).read_bytes() == Path(name).read_bytes()


def test_results_are_written_as_on_the_command_line(run, model, portraits):
    """16 bits stay, a line says what was done, and the quality is what was asked for; what cannot be written, and what
    is cut off, is said."""
    os.mkdir("in")
    cv2.imwrite("in/deep.png", np.asarray(portraits[0]).astype(np.uint16) * 257)
    portraits[0].save("in/fine.jpg")
    Path("in/cut.jpg").write_bytes(Path("in/fine.jpg").read_bytes()[:-20])
    Image.new("RGB", (8200, 8)).save("in/wide.webp")
    options = {"model": model, "format": "imagefolder", "upscale": 2, "shard_size": 9, "quality": 60}
    status, err = run("--dataset", "in", "--output", "out", **options)
    assert status == 1 and "cut.jpg: the file is cut off at its end" in err
    failure = json.loads(Path("out/failed.jsonl").read_text())
    assert failure["name"] == "wide.webp" and failure["reason"].startswith("wide.webp would have 16400×16 px")
    folder, reference = Path("out/data/train-00000-of-00001"), io.BytesIO()
    assert cv2.imread(str(folder / "deep.png"), cv2.IMREAD_UNCHANGED).dtype == np.uint16
    portraits[0].save(reference, "JPEG", quality=60)
    with Image.open(folder / "fine.jpg") as fine, Image.open(folder / "deep.png") as deep:
        assert fine.quantization == Image.open(reference).quantization
        for said in (fine.getexif()[ExifTags.Base.Software], deep.text["Software"]):
            assert said.startswith("hf-faceenh") and "upscale=2, strength=1.0" in said


def test_imagefolder_tells_types_and_labels(run, crops, tmp_path):
    parquet(tmp_path / "in.parquet", crops[:3])
    assert run("--dataset", "in.parquet", "--output", "out", format="imagefolder")[0] == 0
    made = read("out").sort("source_index")
    assert made.features["label"].names == ["old", "new"] and made["label"][:] == [0, 1, 0]
    assert made["photo"][0].size == (16, 16) and made["caption"][2] == "no. 2"
    line = json.loads(Path("out/data/train-00001-of-00002/metadata.jsonl").read_text())
    assert line["photo_file_name"] == "00000002.png" and line["label"] == "old"


def test_split_options_and_column(run, model, portraits, tmp_path):
    pair = Dataset.from_dict({"left": portraits[:3], "right": portraits[1:4]})
    pair = pair.cast(Features(left=datasets.Image(), right=datasets.Image()))
    (tmp_path / "in").mkdir()
    pair.to_parquet(tmp_path / "in" / "validation.parquet")
    options = {"split": "validation[1:]", "column": "right", "max_faces": 0, "model": model}
    status, err = run("--dataset", "in", "--output", "out", "--no_background", **options)
    assert status == 0 and "2 pictures with 0 enhanced faces" in err
    made = read("out", "validation")
    assert "not among the 0 largest" in made[0]["faces"][0]["left_alone"]
    for side, first in (("left", 1), ("right", 2)):
        assert [difference(made[row][side], portraits[first + row]) <= 1 for row in (0, 1)] == [True, True]


def test_bad_pictures_are_listed_and_not_fatal(run, folder, tmp_path):
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    for number in (2, 3):
        (folder / f"{number}.png").write_text("no picture")
    status, err = run("--dataset", "in", "--output", "out", batch_size=3)
    assert status == 1 and "4 pictures with 4 enhanced faces, 3 failed (see " in err
    assert sources() == ["0.png", "4.png", "5.png", "6.png"]
    listed = [json.loads(line) for line in Path("out/failed.jsonl").read_text().splitlines()]
    assert [(failure["index"], failure["name"]) for failure in listed] == [(1, "1.png"), (2, "2.png"), (3, "3.png")]
    assert [failure["shard"][:11] for failure in listed] == ["train-00000", "train-00001", "train-00001"]
    assert "1.png is damaged" in listed[0]["reason"] and "not a picture" in listed[1]["reason"]
    assert str(tmp_path) not in Path("out/failed.jsonl").read_text()
    before = shards()
    assert "train-00001-of-00004.parquet" not in before  # nothing of it could be read
    assert run("--dataset", "in", "--output", "out")[0] == 1 and shards() == before


def test_a_picture_that_fails_does_not_take_its_batch_with_it(run, folder, tmp_path, monkeypatch):
    call, sizes = FaceEnhancePipeline.__call__, []
    Image.new("RGB", (99, 99)).save(folder / "5.png")

    def without_memory(self, pictures, **options):
        sizes.append(len(pictures))
        if any(picture.pixels.shape[2] == 99 for picture in pictures):
            raise RuntimeError("CUDA out of memory. Tried to allocate\n 20 GiB")
        return call(self, pictures, **options)

    monkeypatch.setattr(FaceEnhancePipeline, "__call__", without_memory)
    assert run("--dataset", "in", "--output", "out", batch_size=4, shard_size=8)[0] == 1
    assert sizes == [4, 3, 1, *[1] * 4, 1, 1]  # tried again after every pause, and then a small one
    assert sources() == [f"{number}.png" for number in (0, 1, 2, 3, 4, 6)]
    (line,) = Path("out/failed.jsonl").read_text().splitlines()
    reason = "needs more memory than this machine has: CUDA out of memory. Tried to allocate 20 GiB"
    assert json.loads(line)["reason"] == reason


# Going on


@pytest.mark.parametrize("format", ["parquet", "imagefolder"])
def test_another_number_of_processes_makes_what_is_missing(run, folder, tmp_path, format, monkeypatch):
    arguments = ("--dataset", folder, "--output", "out")
    status, err = run(*arguments, rank=1, world_size=3, format=format)
    assert status == 0 and "process 2 of 3: 3 of 4 parts are not made yet" in err
    before = shards()
    ending = ".parquet" if format == "parquet" else ""
    assert before.keys() == {f"train-00001-of-00004{ending}", "train-00001-of-00004.json"}

    # as a process leaves it that is killed before it has noted that a shard is whole, and another in the middle of one
    stale = tmp_path / "out" / "data" / f"train-00003-of-00004{ending}"
    if format == "parquet":
        stale.write_text("stale")
    else:
        stale.mkdir()
        (stale / "stale.png").touch()
    partial = tmp_path / "out" / ".partial" / "train-00002-of-00004"
    partial.mkdir(parents=True)
    (partial / "4.png").touch()

    status, err = run(*arguments, format=format)
    assert status == 0 and "complete: 7 pictures" in err
    assert sources() == [f"{number}.png" for number in range(7)]
    after = shards()
    assert before.items() <= after.items() and len(after) == 8
    assert not list(Path("out").rglob(".*")) and not list(Path("out").rglob("stale*"))
    monkeypatch.setattr(FaceEnhancePipeline, "__call__", lambda *_, **__: pytest.fail("done twice"))
    assert run(*arguments, format=format, rank=1, world_size=2)[0] == 0 and shards() == after
    os.remove("out/progress/train-00001-of-00004.json")
    monkeypatch.undo()
    os.chdir(tmp_path)
    assert run(*arguments, format=format)[0] == 0
    again = shards()
    assert {name for name in after if after[name] != again[name]} == before.keys()


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_streams(run, crops, tmp_path, world_size):
    for number in range(2):
        names = [f"{number}-{index}.png" for index in range(5 - number)]
        parquet(tmp_path / "in" / f"{number}.parquet", crops[5 * number : 5 * number + len(names)], names)
    arguments = ("--dataset", "in", "--output", "out", "--streaming")
    said = ""
    for rank in range(world_size):
        status, err = run(*arguments, rank=rank, world_size=world_size)
        assert status == 0 and ("complete: 9 pictures" in err) is (rank >= min(world_size, 2) - 1)  # two files
        said += err
    expected = [f"{number}-{index}.png" for number in range(2) for index in range(5 - number)]
    assert sources() == expected
    names = {f"train-00000-0000{number}" for number in range(3)} | {f"train-00001-0000{number}" for number in range(2)}
    before = shards()
    assert before.keys() == {name + ending for name in names for ending in (".json", ".parquet")}
    made = read("out", streaming=True)
    assert [row["source_index"] for row in made] == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    for lost in ("train-00000-00001.parquet", "train-00001-00001.parquet"):
        os.remove(f"out/data/{lost}")
    assert run(*arguments)[0] == 0
    after = shards()
    assert {name[:17] for name in after if after[name] != before[name]} == {"train-00000-00001", "train-00001-00001"}
    assert sources() == expected


def test_a_file_of_a_stream_may_be_empty(run, crops, tmp_path):
    parquet(tmp_path / "in" / "0.parquet", crops[:3])
    parquet(tmp_path / "in" / "1.parquet", [])
    for _ in range(2):
        status, err = run("--dataset", "in", "--output", "out", "--streaming")
        assert status == 0 and "complete: 3 pictures" in err
    assert json.loads(Path("out/progress/train-00001-00000.json").read_text())["data"] is None
    assert {file.name for file in Path("out/data").iterdir()} == {f"train-00000-0000{n}.parquet" for n in range(2)}


@pytest.mark.parametrize(("kind", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_after_the_batch(run, folder, tmp_path, monkeypatch, kind, status):
    call, calls = FaceEnhancePipeline.__call__, []

    def signalled(self, pictures, **options):
        calls.append(len(pictures))
        if len(calls) == 4:
            os.kill(os.getpid(), kind)
        return call(self, pictures, **options)

    with monkeypatch.context() as patch:
        patch.setattr(FaceEnhancePipeline, "__call__", signalled)
        handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        stopped, err = run("--dataset", "in", "--output", "out", shard_size=3, batch_size=1)
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert stopped == status and len(calls) == 4
    assert err.endswith(f"stopped by {kind.name}. Whole shards are kept: to go on, run the same command again.\n")
    assert shards().keys() == {"train-00000-of-00003.parquet", "train-00000-of-00003.json"}
    assert not Path("out", ".partial").exists()
    assert run("--dataset", "in", "--output", "out", shard_size=3)[0] == 0
    assert sources() == [f"{number}.png" for number in range(7)]


@pytest.mark.parametrize("limit", [4_000, 18_000])  # bytes: less than a picture, less than a shard
def test_a_full_disk_is_one_line_and_leaves_nothing_in_the_way(run, folder, tmp_path, limit):
    arguments = ("--dataset", "in", "--output", "out")
    assert run(*arguments, rank=3, world_size=4, upscale=4)[0] == 0  # also has the cache written
    before, limits = shards(), resource.getrlimit(resource.RLIMIT_FSIZE)
    assert 4_000 < Path("out/data/train-00003-of-00004.parquet").stat().st_size < 18_000  # of one picture
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        status, err = run(*arguments, upscale=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    last = err.splitlines()[-1]
    assert status == 1 and last.startswith(f"hf-faceenh: Writing to {tmp_path}/out failed: ") and "too large" in last
    assert "run the same command again" in last
    assert shards() == before and not Path("out", ".partial").exists()
    assert run(*arguments, upscale=4)[0] == 0 and sources() == [f"{number}.png" for number in range(7)]


# Who is to blame


def test_what_strangers_send_is_listed_or_made(run, model, portraits):
    hostile = ROOT / "tests" / "data" / "hostile"
    shutil.copytree(hostile, "in")
    portraits[0].save("in/good.png")
    status, err = run("--dataset", "in", "--output", "out", model=model, shard_size=9)
    assert status == 1 and "complete: 4 pictures" in err and "icc_damaged.webp: its colour profile" in err
    (line,) = Path("out/failed.jsonl").read_text().splitlines()
    assert json.loads(line)["name"] == "png_decoder_asserts.png" and "is damaged" in line
    assert sources() == ["exif_orientation_infinite.jpg", "good.png", "icc_damaged.webp", "icc_damaged_16.tif"]


@pytest.fixture
def hindered(monkeypatch):
    """Reading the pictures whose paths end so raises an error, so many times."""
    load = FaceImageProcessor.load_frames

    def hindered(ending, error, times):
        left = Counter()

        def load_frames(self, picture):
            left[picture] += 1
            if str(picture).endswith(ending) and left[picture] <= times:
                raise error
            return load(self, picture)

        monkeypatch.setattr(FaceImageProcessor, "load_frames", load_frames)

    return hindered


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many files"), FileNotFoundError("gone"), MemoryError()])
def test_what_passes_is_waited_for(run, folder, hindered, error):
    hindered(".png", error, times=3)
    status, err = run("--dataset", "in", "--output", "out", shard_size=4)
    assert status == 0 and "complete: 7 pictures with 7 enhanced faces, 0 failed" in err


def test_a_missing_file_stops_the_run_and_is_not_blamed(run, folder, hindered, monkeypatch):
    hindered("5.png", FileNotFoundError("There is no file 5.png."), times=99)
    status, err = run("--dataset", "in", "--output", "out")
    assert status == 1 and "5.png: There is no file 5.png. Whole shards are kept" in err.splitlines()[-1]
    assert len(shards()) == 4 and not Path("out/.partial").exists()
    hindered("5.png", None, times=0)
    assert run("--dataset", "in", "--output", "out")[0] == 0 and sources() == [f"{number}.png" for number in range(7)]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "There is too little memory: CUDA out of memory."),
        (
            RuntimeError("CUDA error: an illegal memory access was encountered"),
            "Nothing can be enhanced: CUDA error: an illegal",
        ),
    ],
    ids=["memory", "gpu"],
)
def test_what_all_pictures_lack_blames_none(run, folder, monkeypatch, error, told):
    def fails(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(FaceEnhancePipeline, "__call__", fails)
        status, err = run("--dataset", "in", "--output", "out")
    assert status == 1 and told in err.splitlines()[-1]
    assert not Path("out/progress").exists()
    assert run("--dataset", "in", "--output", "out")[0] == 0


def test_a_fault_of_the_program_is_told_with_its_place(run, folder, monkeypatch):
    call = FaceEnhancePipeline.__call__
    Image.new("RGB", (99, 99)).save(folder / "5.png")

    def wrong(self, pictures, **options):
        if any(picture.pixels.shape[2] == 99 for picture in pictures):
            raise KeyError("no such thing")
        return call(self, pictures, **options)

    monkeypatch.setattr(FaceEnhancePipeline, "__call__", wrong)
    status, err = run("--dataset", "in", "--output", "out", shard_size=9)
    assert status == 1 and "complete: 6 pictures" in err
    reason = json.loads(Path("out/failed.jsonl").read_text())["reason"]
    assert reason.startswith("a fault of the program, please report it: KeyError: 'no such thing'")
    assert "test_batch.py" in reason
    assert "Traceback" in Path("out/logs/logs/task_00000.log").read_text()


def test_failed_pictures_are_tried_again_when_asked(run, folder, crops):
    (folder / "1.png").write_text("no picture")
    assert run("--dataset", "in", "--output", "out")[0] == 1
    before = shards()
    crops[1].save(folder / "1.png")
    assert run("--dataset", "in", "--output", "out")[0] == 1 and shards() == before
    status, err = run("--dataset", "in", "--output", "out", "--retry-failed")
    assert status == 0 and "complete: 7 pictures with 7 enhanced faces, 0 failed" in err
    assert Path("out/failed.jsonl").read_text() == "" and sources() == [f"{number}.png" for number in range(7)]
    after = shards()
    assert {name for name in after if after[name] != before[name]} == {
        "train-00000-of-00004.parquet", "train-00000-of-00004.json"
    }  # fmt: skip


# Mistakes


@pytest.fixture
def refusal(run, tmp_path):
    """The one line of a command that refuses to start, and writes nothing."""

    def refusal(*arguments, **options):
        before = set(tmp_path.rglob("*"))
        status, err = run(*arguments, **options)
        (*bars, line) = err.splitlines()
        assert status == 1 and line.startswith("hf-faceenh: ") and not any("hf-faceenh" in bar for bar in bars)
        assert {path for path in set(tmp_path.rglob("*")) - before if "cache" not in str(path)} == set()
        return line

    return refusal


def test_other_options_are_refused(run, refusal, folder, crops):
    arguments = ("--dataset", "in", "--output", "out")
    assert run(*arguments)[0] == 0
    for options, message in (
        ({"shard_size": 3}, "out was begun with other options: shard_size was 2, and is 3 now"),
        ({"strength": 0.5}, "strength was 1.0, and is 0.5 now"),
        ({"min_face_size": 8}, "min_face_size was None, and is 8.0 now"),
        ({"format": "imagefolder"}, "format was 'parquet', and is 'imagefolder' now"),
        ({"streaming": ""}, "streaming was False, and is True now"),
    ):
        assert message in refusal(*arguments, **options)
    os.rename(folder / "6.png", folder / "7.png")
    assert "had 7 pictures, this has 7, or others by name" in refusal(*arguments)
    crops[7].save(folder / "6.png")
    assert "had 7 pictures, this has 8" in refusal(*arguments)
    os.remove(folder / "7.png")
    os.rename(folder, folder.with_name("moved"))
    assert "dataset was 'in', and is 'moved' now" in refusal("--dataset", "moved", "--output", "out")
    os.makedirs("other")
    os.rename("moved", "other/in")
    assert run("--dataset", "other/in", "--output", "out", batch_size=1, num_workers=1)[0] == 0


def test_other_weights_are_refused(run, refusal, folder, quick, bundled, tmp_path):
    parts = {"enhancer": tiny_enhancer(16), "parser": tiny_parser(), "detector": None, "super_resolver": None}
    parts["enhancer"].requires_grad_(False)
    next(parts["enhancer"].parameters()).add_(1)
    name = Path(quick).name
    tiny_pipeline(bundled, **parts).save_pretrained(tmp_path / name)
    arguments = ("--dataset", "in", "--output", "out", "--aligned")
    assert run(*arguments, model=quick)[0] == 0
    assert "weights was" in refusal(*arguments, model=name)


def test_datasets_that_cannot_be(refusal, crops, tmp_path):
    (tmp_path / "empty").mkdir()
    parquet(tmp_path / "two" / "0.parquet", crops[:2])
    pair = Dataset.from_dict({"left": crops[:2], "right": crops[2:4], "faces": [0, 1]})
    pair.to_parquet(tmp_path / "pair.parquet")
    Dataset.from_dict({"image": crops[:1], "file_name": ["x"]}).to_parquet(tmp_path / "named.parquet")
    for dataset, options, message in (
        ("gone/really/so", {}, "gone/really/so does not exist"),
        ("empty", {}, "empty is empty"),
        ("two", {"split": "test"}, "Unknown split"),
        ("two", {"column": "picture"}, "two has no column picture; it has photo, caption, label"),
        ("pair.parquet", {}, "2 columns of pictures among left, right, faces. Say with --column"),
        ("pair.parquet", {"column": "left"}, "a column faces, as the output will"),
        ("named.parquet", {"format": "imagefolder"}, "cannot hold the column file_name"),
    ):
        assert message in refusal("--dataset", dataset, "--output", "out", **options)


def test_outputs_that_cannot_be(refusal, run, folder, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    for output, message in (
        ("user/name", "Write ./user/name or hf://datasets/user/name"),
        ("s3://bucket/name", "neither a folder nor hf://datasets/ACCOUNT/NAME"),
        ("full", "holds something that is no run of this program"),
        ("full/notes.txt", "is no folder"),
        ("in/out", "lies in the dataset's folder"),
        ("in", "lies in the dataset's folder"),
        ("hf://datasets/a/b/c", "a/b/c"),
    ):
        assert message in refusal("--dataset", "in", "--output", output)
    assert "--private is for a repository" in refusal("--dataset", "in", "--output", "out", "--private")
    (tmp_path / "full" / "notes.txt").rename(tmp_path / "full" / ".notes")
    assert run("--dataset", "in", "--output", "full")[0] == 0


def test_a_name_that_is_not_utf_8_is_told(refusal, folder, crops):
    os.rename(folder / "3.png", os.fsencode(folder) + b"/\xff.png")
    assert r"in/\xff.png' is not UTF-8. Rename it." in refusal("--dataset", "in", "--output", "out")


# Side by side


def test_two_processes_share_an_output(tmp_path):
    output = Folder(tmp_path)
    record = {"data": "data/a.parquet", "pictures": 1, "faces": 0, "failed": [], "last": True}
    with output.staging() as first, output.staging() as second:
        left = first.parent / "0123"  # of a process that was killed
        left.mkdir()
        with output.staging():
            assert first.is_dir() and second.is_dir() and not left.exists()
        for folder, content in ((first, "first"), (second, "second")):
            (folder / "shard").write_text(content)
        worse = record | {"failed": [{"index": 0}], "pictures": 0}
        assert output.publish("a", first / "shard", worse)
        assert not output.publish("a", second / "shard", worse)
        assert (tmp_path / "data" / "a.parquet").read_text() == "first"
        assert output.publish("a", second / "shard", record) and output.record("a") == record
        assert (tmp_path / "data" / "a.parquet").read_text() == "second"
    assert not (tmp_path / ".partial").exists()


def test_many_publish_at_once(tmp_path):
    output = Folder(tmp_path)

    def publish(_):
        for number in range(30):
            with output.staging() as staging:
                (staging / "shard").write_text("whole")
                record = {"data": f"data/{number % 3}.parquet", "failed": [None] * (30 - number)}
                output.publish(str(number % 3), staging / "shard", record)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(publish, range(4)))
    assert [len(output.record(str(number))["failed"]) for number in range(3)] == [3, 2, 1]
    assert {path.name for path in tmp_path.iterdir()} == {"data", "progress"}


WITHOUT_SOCKETS = """
import socket, sys
def refuse(*_): raise AssertionError("a connection")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
from hf_faceenh.batch.__main__ import main
from hf_faceenh.batch.collection import Picture
from hf_faceenh.batch.output import Folder
sys.exit(main(sys.argv[1:]))
"""


def test_nobody_is_told(quick, folder, tmp_path):
    home = {"HF_HUB_OFFLINE": "0", "HF_UPDATE_DOWNLOAD_COUNTS": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    arguments = ["--dataset", str(folder), "--output", str(tmp_path / "out"), *written(quick)]
    command = [sys.executable, "-c", WITHOUT_SOCKETS, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | home, capture_output=True, text=True)
    assert done.returncode == 0 and "complete: 7 pictures" in done.stderr, done.stderr


# Engines


@pytest.mark.parametrize(
    "words",
    [("--executor", "slurm"), ("--executor", "local", "--partition", "gpu"), ("--workers", "two"), ("--nonsense",)],
)
def test_an_engine_takes_its_own_options(run, folder, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("--dataset", "in", "--output", "out", *words)
    assert not Path("out").exists() and "error:" in capsys.readouterr().err


def test_jobs_need_the_hub(refusal, folder):
    assert "Jobs see nothing of this machine" in refusal("--dataset", "in", "--output", "out", "--executor", "jobs")


def test_jobs_make_the_shards(run, folder, quick, tmp_path, monkeypatch):
    """With Jobs that are done at once, here."""
    words = ["--dataset", str(folder), "--output", str(tmp_path / "out"), *written(quick)]
    options = vars(batch_parser().parse_args(words))
    begun = []

    def run_uv_job(script, script_args, env, **options):
        begun.append(options["flavor"])
        with monkeypatch.context() as patch, fsspec.open(script_args[0], "rb") as file:
            patch.setenv("DATATROVE_JOB_ARRAY_INDEX", env["DATATROVE_JOB_ARRAY_INDEX"])
            dill.load(file).run()
        return SimpleNamespace(id="1", url="")

    done = SimpleNamespace(status=SimpleNamespace(stage="COMPLETED"))
    monkeypatch.setattr("huggingface_hub.run_uv_job", run_uv_job)
    monkeypatch.setattr("huggingface_hub.inspect_job", lambda **_: done)
    words = ["--flavor", "a10g-small", "--tasks-per-job", "2", "--poll-interval", "0"]
    chosen = engines.engine_options("jobs", words) | {"logging_dir": "memory://logs", "token": "a token"}
    run = engines.opened(**options)
    run.settle()
    engines.JobsExecutor([engines.MakeShards(options)], run.collection.tasks, **chosen).run()
    assert begun == ["a10g-small"] * 2 and run.conclude() == 0
    assert sources() == [f"{number}.png" for number in range(7)]


PROGRAMS = {  # of SLURM
    "sbatch": 'for file; do :; done; cp "$file" "$HERE/submitted.$(ls $HERE | wc -l)"; echo Submitted batch job 17',
    "srun": 'while [ "${1#-}" != "$1" ]; do [ "$1" = -n ] && shift; shift; done; exec "$@"',
    "scontrol": "echo here",
}


def test_slurm_gets_a_script_that_makes_the_shards(run, folder, tmp_path, monkeypatch):
    for name, text in PROGRAMS.items():
        (tmp_path / "bin" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "scripts").mkdir()
    monkeypatch.setenv("HERE", str(tmp_path / "scripts"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=os.pathsep)
    engine = ("--executor", "slurm", "--partition", "gpu", "--time", "1:00:00", "--gpus-per-task", 1, "--workers", 9)
    engine += ("--sbatch-args", '{"account": "faces"}', "--tasks-per-job", 2)
    status, err = run("--dataset", "in", "--output", "out", *engine)
    assert status == 0 and "submitted" in err and not Path("out/progress").exists()
    script = (tmp_path / "scripts" / "submitted.0").read_text()
    for line in ("partition=gpu", "time=1:00:00", "gpus=1", "array=0-1%9", "account=faces"):
        assert f"#SBATCH --{line}\n" in script
    assert f"launch_pickled_pipeline {tmp_path}/out/logs/executor.pik" in script

    environment = {"SLURM_NODELIST": "here", "HF_DATASETS_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    for index in (0, 1):
        job = os.environ | environment | {"SLURM_ARRAY_TASK_ID": str(index)}
        subprocess.run(
            ["bash", tmp_path / "scripts" / "submitted.0"], check=True, env=job, cwd="/", capture_output=True
        )
    status, err = run("--dataset", "in", "--output", "out", *engine)
    assert status == 0 and "complete: 7 pictures with 7 enhanced faces" in err
    assert sources() == [f"{number}.png" for number in range(7)]


def test_a_job_of_ray_is_killed_when_its_time_is_up():
    done = []

    def remaining():
        return signal.getitimer(signal.ITIMER_REAL)[0]

    def run_for_rank(rank, local_rank):
        done.append((rank, local_rank, remaining() > 50))

    for seconds, log_first in ((60, False), (None, True)):
        engines._run_job(SimpleNamespace(time=seconds, log_first=log_first, _run_for_rank=run_for_rank), [3, 5])
        assert remaining() == 0
    assert done == [(3, 1, True), (5, 2, True), (3, 0, False), (5, 1, False)]


# Real processes


def launch(arguments, **options):
    """Two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "hf_faceenh.batch", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.slow
def test_one_of_two_processes_is_killed_and_both_are_started_again(quick, crops, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for number in range(600):
        crops[number % 10].save(tmp_path / "in" / f"{number:03}.png")
    (tmp_path / "in" / "123.png").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    environment = os.environ | {"HF_DATASETS_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    arguments = ["--dataset", f"{tmp_path}/in", "--output", f"{tmp_path}/out", *written(quick, batch_size=2)]
    running = launch(arguments, env=environment)
    progress, made = tmp_path / "out" / "progress", []
    while len(made) < 6:
        assert running.poll() is None
        time.sleep(0.01)
        made = sorted(progress.glob("*.json"))
    rank = Counter(int(file.name[6:11]) % 2 for file in made).most_common(1)[0][0]  # one may still be starting
    (worker,) = (
        worker for worker in psutil.Process(running.pid).children() if worker.environ().get("RANK") == str(rank)
    )
    worker.send_signal(signal.SIGKILL)
    running.communicate()
    assert running.returncode == 1
    before = shards()
    assert 12 <= len(before) < 600

    running = launch(arguments, env=environment)
    _, err = running.communicate()
    assert running.returncode == 1 and "of 2: complete: 599 pictures with 599 enhanced faces, 1 failed" in err
    assert before.items() <= shards().items()
    made = read("out")
    assert sorted(made["source_name"]) == [f"{number:03}.png" for number in range(600) if number != 123]
    assert [json.loads(line)["name"] for line in Path("out/failed.jsonl").read_text().splitlines()] == ["123.png"]
    assert {path.name for path in Path("out").iterdir()} == {
        "README.md", "data", "failed.jsonl", "logs", "options.json", "progress"
    }  # fmt: skip
    assert not list(Path("out").rglob(".*"))


@pytest.fixture
def many(crops, tmp_path, monkeypatch):
    """in/: sixty pictures, one of them bad."""
    (tmp_path / "in").mkdir()
    for number in range(60):
        crops[number % 10].save(tmp_path / "in" / f"{number:02}.png")
    (tmp_path / "in" / "23.png").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "in"


def begun(quick, tmp_path, *arguments, shard_size=3, **options):
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "hf_faceenh.batch", "--dataset", f"{tmp_path}/in", "--output", f"{tmp_path}/out"]
    environment = {"HF_DATASETS_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment["RAY_worker_niceness"] = "0"  # by default, whatever else the machine does goes before
    command += [*map(str, arguments), *written(quick, shard_size=shard_size, batch_size=1)]
    return subprocess.Popen(
        command, cwd="/", stderr=subprocess.PIPE, text=True, env=os.environ | environment, **options
    )


def wait_for_shards(running, tmp_path, count):
    while len(list((tmp_path / "out" / "progress").glob("*.json"))) < count:
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.01)


def whole(tmp_path, err):
    assert "complete: 59 pictures with 59 enhanced faces, 1 failed" in err
    assert sources() == [f"{number:02}.png" for number in range(60) if number != 23]
    assert [json.loads(line)["name"] for line in Path("out/failed.jsonl").read_text().splitlines()] == ["23.png"]
    return not list(Path("out").rglob(".*"))


@pytest.mark.slow
def test_one_of_two_workers_is_killed_and_another_takes_its_place(quick, many, tmp_path):
    running = begun(quick, tmp_path, "--executor", "local", "--workers", 2)
    wait_for_shards(running, tmp_path, 3)
    workers = [child for child in psutil.Process(running.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    assert len(workers) == 2
    workers[0].send_signal(signal.SIGKILL)
    _, err = running.communicate()
    assert running.returncode == 1 and "a worker was killed; another takes its place" in err
    assert whole(tmp_path, err)


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(quick, many, tmp_path):
    running = begun(quick, tmp_path, "--executor", "local", "--workers", 2)
    wait_for_shards(running, tmp_path, 1)
    workers = psutil.Process(running.pid).children()
    running.kill()
    running.communicate()
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    _, err = begun(quick, tmp_path).communicate()
    assert whole(tmp_path, err)


@pytest.mark.slow
def test_an_interrupt_ends_the_workers_too(quick, many, tmp_path):
    running = begun(quick, tmp_path, "--executor", "local", "--workers", 2)
    wait_for_shards(running, tmp_path, 1)
    workers = psutil.Process(running.pid).children()
    running.send_signal(signal.SIGINT)
    _, err = running.communicate()
    assert running.returncode == 130 and "Traceback" not in err
    assert err.endswith("stopped by SIGINT. Whole shards are kept: to go on, run the same command again.\n")
    assert psutil.wait_procs(workers, timeout=10)[1] == [] and not list(Path("out").rglob(".*"))


@pytest.mark.slow
def test_two_runs_at_once_harm_neither_the_other_nor_a_picture(quick, many, tmp_path):
    runs = [begun(quick, tmp_path) for _ in range(2)]
    said = [running.communicate()[1] for running in runs]
    assert [running.returncode for running in runs] == [1, 1]
    assert all(whole(tmp_path, err) for err in said)


@pytest.mark.slow
def test_ray_has_the_task_of_a_killed_worker_done_by_another(quick, many, tmp_path):
    pytest.importorskip("ray")
    engine = ("--executor", "ray", "--workers", 2, "--mem-per-cpu-gb", 0.5)
    running = begun(quick, tmp_path, *engine, shard_size=15, stdout=subprocess.DEVNULL)
    wait_for_shards(running, tmp_path, 1)
    processes = psutil.Process(running.pid).children(recursive=True)
    next(process for process in processes if "ray::_run_job" in " ".join(process.cmdline())).kill()
    _, err = running.communicate()
    assert running.returncode == 1 and whole(tmp_path, err)


HUB_RUN = """
import json, os, sys
from hf_faceenh.batch import engines, process, work
from hf_faceenh.batch.__main__ import _parser as batch_parser
from hf_faceenh.batch.__main__ import main
from hf_faceenh.batch.collection import Picture
from hf_faceenh.batch.output import Folder
said = []
for rank, world_size, *arguments in json.loads(sys.argv[1]):
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world_size)}
    said.append(main(arguments))
print(json.dumps(said))
"""


def test_a_repository_gets_every_shard_in_one_commit(quick, folder, tmp_path, monkeypatch):
    (folder / "4.png").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    hub, runs = FakeHub(), []
    hub.conflicts = 1
    for repository, format in (("org/tables", "parquet"), ("org/folders", "imagefolder")):
        arguments = ["--dataset", "in", "--output", f"hf://datasets/{repository}", "--private"]
        arguments += written(quick, format=format)
        runs += [[1, 3, *arguments], [0, 1, *arguments], [0, 1, *arguments], [0, 1, *arguments, "--strength", "0"]]
    home = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
    home |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", HUB_RUN, json.dumps(runs)]
    done = subprocess.run(command, env=os.environ | home, capture_output=True, text=True)
    hub.close()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0, 1, 1, 1] * 2 and done.stderr.count("strength was 1.0, and is 0.0 now") == 2
    assert hub.private == {"org/tables", "org/folders"} and hub.conflicts == 0

    commits = [set(files) for files in hub.commits.values()]
    added = [later - earlier for earlier, later in zip(commits, commits[1:], strict=False)]
    of_shards = [sorted(names) for names in added if any("train-" in name for name in names)]
    assert [names[-1] for names in of_shards] == 2 * [f"progress/train-0000{n}-of-00004.json" for n in (1, 0, 2, 3)]
    assert all({name.split("train-")[1][:5] for name in names} == {names[-1][15:20]} for names in of_shards)
    for repository in hub.private:
        for name, content in hub.files(repository).items():
            file = tmp_path / repository / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            assert str(tmp_path).encode() not in content
        assert sources(repository) == [f"{number}.png" for number in (0, 1, 2, 3, 5, 6)]
        assert json.loads((tmp_path / repository / "failed.jsonl").read_text())["name"] == "4.png"
