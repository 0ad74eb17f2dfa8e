import numpy as np
import pytest
from batches import picture
from PIL import Image

from hf_faceenh.learning.data import load_faces


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight pictures."""
    path = tmp_path_factory.mktemp("faces")
    for index in range(8):
        Image.fromarray(picture(index)).save(path / f"{index}.png")
    return path


@pytest.fixture(scope="module")
def parquet(folder, tmp_path_factory):
    """The same in four files."""
    path = tmp_path_factory.mktemp("parquet")
    faces = load_faces(str(folder))
    for index in range(4):
        faces.shard(4, index).to_parquet(path / f"{index}.parquet")
    return path


@pytest.fixture(scope="module")
def tables(folder, parquet):
    return {"map": load_faces(str(folder)), "stream": load_faces(str(parquet), streaming=True)}


@pytest.fixture(scope="module")
def with_broken(folder, tmp_path_factory):
    """The eight pictures, one cut off in the middle of its data, one no picture at all, one oblong."""
    path = tmp_path_factory.mktemp("broken")
    for file in folder.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(path / "cut.png")
    (path / "cut.png").write_bytes((path / "cut.png").read_bytes()[:2000])
    (path / "empty.png").write_bytes(b"")
    Image.new("RGB", (40, 50)).save(path / "oblong.png")
    return path
