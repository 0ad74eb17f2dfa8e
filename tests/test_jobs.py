"""Planning: which pictures are enhanced, into which files. Nothing is opened here."""

from pathlib import Path

import pytest

from hf_faceenh.jobs import Job, expand, plan, refusals


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder in/ with empty files: nothing is opened here."""
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "in/sub/b.JPG", "in/.hidden.png", "in/.folder/c.png", "in/notes.txt", "d[1].png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def paths(source, output="out"):
    return [(str(picture), str(below)) for picture, below in expand(source, Path(output))]


def test_what_a_source_stands_for():
    assert paths("in") == [("in/a.png", "a.png"), ("in/sub/b.JPG", "sub/b.JPG")]
    assert paths("in/*.png") == [("in/a.png", "a.png")]
    assert paths("in/**/*.JPG") == [("in/sub/b.JPG", "b.JPG")]
    assert paths("d[1].png") == [("d[1].png", "d[1].png")]  # a file before a pattern
    assert paths("gone*.png") == [("gone*.png", "gone*.png")]  # to be reported in its turn
    assert paths("HTTPS://host/a/b.jpg?c=d") == [("HTTPS://host/a/b.jpg?c=d", "b.jpg")]
    assert paths("https://host/") == [("https://host/", "picture")]


def test_an_output_inside_the_folder_is_not_an_input():
    assert paths("in", "in/sub") == [("in/a.png", "a.png")]
    assert len(paths("in", "in")) == 2  # over the pictures themselves


def test_the_output_is_a_file_or_a_folder():
    (job,) = plan(["in/a.png"], "new.webp", compare=True, save_faces=True)
    assert job == Job(Path("in/a.png"), Path("new.webp"), Path("new_compare.webp"), Path("faces/new_face"), False)
    (job,) = plan(["in/a.png"], "new")
    assert job == Job(Path("in/a.png"), Path("new/a.png"), None, None, keep_format=True)
    Path("folder.png").mkdir()
    assert plan(["in/a.png"], "folder.png")[0].result == Path("folder.png/a.png")
    assert plan(["in/a.png"], "new.folder")[0].result == Path("new.folder/a.png")
    assert [job.result.suffix for job in plan(["in/a.png"], "new.AVIF")] == [".AVIF"]  # not of the common formats
    assert len(plan(["in/a.png", "in", "in/a.png"], "new")) == 2  # once each


def test_crops_of_an_earlier_run_are_in_the_way():
    (job,) = plan(["d[1].png"], "new", save_faces=True)
    Path("new/faces").mkdir(parents=True)
    Path("new/faces/d1_face_0.png").touch()  # of another picture
    assert job.existing() == []
    Path("new/faces/d[1]_face_0.png").touch()
    assert job.existing() == [Path("new/faces/d[1]_face_0.png")]
    with pytest.raises(FileExistsError, match=r"d\[1\]_face_0.png exists already. Pass --overwrite"):
        job.check(overwrite=False)
    job.check(overwrite=True)


def test_refusals_are_told_if_nothing_can_be_done():
    missing, present, url = plan(["gone.png", "in/a.png", "https://host/b.png"], "new")
    assert {job: str(error) for job, error in refusals([missing], overwrite=True).items()} == {
        missing: "There is no file gone.png. Check the path; a URL starts with http:// or https://."
    }
    assert refusals([missing, present], overwrite=False) == {} == refusals([missing, url], overwrite=False)
    for job in (present, url):
        job.result.parent.mkdir(exist_ok=True)
        job.result.touch()
    assert list(refusals([missing, present, url], overwrite=False)) == [missing, present, url]
    assert refusals([missing, present, url], overwrite=True) == {}
