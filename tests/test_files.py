"""Writing whole or not at all."""

import pytest

from hf_faceenh.files import written_whole


def test_a_file_takes_its_place_when_it_is_whole(tmp_path):
    target = tmp_path / "figures.json"
    target.write_text("old")
    with written_whole(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_replaces_one_that_is_not_empty(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").touch()
    with written_whole(target) as partial:
        partial.mkdir()
        (partial / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_fails_leaves_the_old_and_nothing_else(tmp_path, kind):
    target = tmp_path / "target"
    target.mkdir()
    (target / "old").touch()

    def write():
        with written_whole(target) as partial:
            partial.write_text("half") if kind == "file" else partial.mkdir()
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert [path.name for path in target.iterdir()] == ["old"]
