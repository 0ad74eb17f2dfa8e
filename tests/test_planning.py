"""Planning: which pictures are enhanced, into which files. Nothing is opened here."""

from pathlib import Path

import pytest

from hf_faceenh import planning
from hf_faceenh.planning import Job, refusals
from hf_faceenh.sources import expand, find


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder in/ with empty files: nothing is opened here."""
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "in/sub/b.JPG", "in/.hidden.png", "in/.folder/c.png", "in/notes.txt", "d[1].png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def paths(source, output="out"):
    return [(str(picture), str(below)) for picture, below, _ in expand(source, output)[0]]


def plan(sources, output=None, **options):
    return planning.plan(find(sources, output)[0], output, **options)


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


def test_without_an_output_a_result_lies_beside_its_picture():
    results = [str(job.result) for job in plan(["in/a.png", "d[1].png", "https://host/b.jpg?c", "in/*/*.JPG"])]
    assert results == ["in/a_enhanced.png", "d[1]_enhanced.png", "b_enhanced.jpg", "in/sub/b_enhanced.JPG"]
    assert all(job.keep_format for job in plan(["in/a.png", "d[1].png"]))
    (job,) = plan(["in/a.png"], compare=True, save_faces=True)
    assert (job.compare, job.faces) == (Path("in/a_enhanced_compare.png"), Path("in/faces/a_enhanced_face"))


def test_without_an_output_the_results_of_a_folder_lie_in_one_beside_it(tmp_path, monkeypatch):
    assert [str(job.result) for job in plan(["in/"])] == ["in_enhanced/a.png", "in_enhanced/sub/b.JPG"]
    Path("in").rename("scans.2019")
    assert plan(["scans.2019"])[0].result == Path("scans.2019_enhanced/a.png")
    monkeypatch.chdir("scans.2019")
    assert plan(["."])[0].result == tmp_path / "scans.2019_enhanced/a.png"


def test_results_of_a_run_before_are_no_inputs():
    names = "a_enhanced.png a_enhanced_compare.png faces/a_enhanced_face_0.png faces/a_enhanced_face_0_enhanced.png"
    for name in names.split():
        Path("in", name).parent.mkdir(exist_ok=True)
        Path("in", name).touch()
    expected = [("in/a.png", "a.png"), ("in/sub/b.JPG", "sub/b.JPG")]
    assert paths("in") == expected and paths("in/*.png") == expected[:1] == paths("in/**/*.png")
    assert expand("in", None)[1] == [Path("in/notes.txt")]
    # A shell names them too.
    assert [job.result.name for job in plan(["in/a.png", "in/a_enhanced.png"])] == ["a_enhanced.png"]
    assert len(plan(["in/a.png", "in/a_enhanced.png"], "out")) == 2
    assert plan(["in/a_enhanced.png"])[0].result == Path("in/a_enhanced_enhanced.png")  # somebody means it
    Path("in/holiday_enhanced.png").touch()  # of another program: there is no holiday.png
    assert len(paths("in")) == 3


def test_streams():
    (job,) = plan(["-"], "new.png", compare=True)
    assert job == Job("-", Path("new.png"), Path("new_compare.png"), None, keep_format=False)
    assert plan(["-"]) == plan(["-"], "-") == [Job("-", None, None, None, keep_format=True)]
    assert plan(["in/a.png"], "-") == [Job(Path("in/a.png"), None, None, None, keep_format=True)]
    for sources, output, options, reason in (
        (["in"], "-", {}, "takes one picture, but there are 2"),
        (["-", "in/a.png"], None, {}, "takes one picture, but there are 2"),
        (["-"], "folder", {}, "from the standard input has no name"),
        (["in/a.png"], "-", {"compare": True}, "write files beside the result"),
        (["in/a.png"], "-", {"save_faces": True}, "write files beside the result"),
    ):
        with pytest.raises(ValueError, match=reason):
            plan(sources, output, **options)


def test_a_job_is_done_when_all_of_its_files_are_there():
    def done(**options):
        return plan(["in/a.png"], "new", **options)[0].is_done()

    assert not done()
    Path("new/faces").mkdir(parents=True)
    Path("new/a.png").touch()
    assert done() and not done(compare=True) and not done(save_faces=True)
    Path("new/a_compare.png").touch()
    assert done(compare=True) and not done(compare=True, save_faces=True)
    Path("new/faces/a_face_0.png").touch()
    assert done(compare=True, save_faces=True)
    Path("new/a.png").unlink()
    assert not done() and not done(save_faces=True)
