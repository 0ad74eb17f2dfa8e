import numpy as np
import pytest
from batches import bomb
from PIL import Image

from hf_faceenh.learning.data import DecodedPictures, decode, decoded


class Pictures(DecodedPictures):
    def __init__(self, arrays):
        self.arrays, self.reads, self.seen = arrays, [], []
        super().__init__(len(arrays))

    def read(self, index):
        self.reads.append(index)
        if self.arrays[index] is None:
            raise OSError("not usable")
        return self.arrays[index]

    def found(self, example):
        self.seen.append(example)


def test_what_cannot_be_used_is_left_out_and_counted():
    arrays = [np.full((2, 2), 0), None, np.full((2, 2), 2)]
    pictures = Pictures(arrays)
    assert len(pictures) == 2 and pictures.skipped == 1
    assert [int(pictures[index][0, 0]) for index in range(2)] == [0, 2]
    assert len(pictures.seen) == 2


def test_what_does_not_fit_in_memory_is_read_again(monkeypatch):
    monkeypatch.setattr(decoded, "CACHE_BYTES", 101)
    pictures = Pictures([np.zeros(100, np.uint8), (np.zeros(60, np.uint8), np.zeros(60, np.uint8))])
    assert pictures.reads == [0, 1]
    assert pictures[0] is pictures.arrays[0] and pictures.reads == [0, 1]
    assert pictures[1] is pictures.arrays[1] and pictures.reads == [0, 1, 1]


@pytest.mark.parametrize("kind", ["missing", "cut", "bomb", "nothing"])
def test_whatever_keeps_a_picture_from_being_decoded_is_an_oserror_of_one_line(kind, tmp_path):
    path = tmp_path / "picture.png"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    if kind == "cut":
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:500])
    if kind == "bomb":
        path.write_bytes(bomb())
    with pytest.raises(OSError) as error:
        decode({} if kind == "nothing" else {"path": str(path)})
    assert str(error.value) and "\n" not in str(error.value)


def test_decoding_turns_a_picture_upright_and_to_its_mode(tmp_path):
    image = Image.new("L", (8, 4), 9)
    image.getexif()[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=image.getexif())
    picture = decode({"bytes": (tmp_path / "turned.png").read_bytes(), "path": None})
    assert picture.size == (4, 8) and picture.mode == "RGB"
    assert decode({"path": str(tmp_path / "turned.png")}, mode=None).mode == "L"
