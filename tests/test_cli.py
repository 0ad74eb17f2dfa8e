"""The command `hf-faceenh`, in this process and in its own."""

import functools
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms
from processes import process
from tiny import tiny_codeformer, tiny_enhancer
from torch.utils.flop_counter import FlopCounterMode

from hf_faceenh import FaceDiscriminator, FaceEnhancePipeline, SuperResolver, cli
from hf_faceenh.cli import main
from hf_faceenh.convert import ConversionError, convert
from hf_faceenh.loading import load_pipeline

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "data" / "golden"
DATE = "1969:07:16 13:32:00"


@pytest.fixture(scope="module")
def photo(astronaut):
    return Image.open(astronaut).convert("RGB").resize((128, 128), Image.Resampling.LANCZOS)


@pytest.fixture(scope="module")
def load(model):
    """As `load_pipeline`, but loads the tiny pipeline once."""
    tiny, once = model, functools.cache(load_pipeline)

    def load(model=None, *rest, **which):
        return (once if model == tiny else load_pipeline)(model, *rest, **which)

    return load


@pytest.fixture
def run(load, model, capsys, tmp_path, monkeypatch):
    """Runs a command in `tmp_path`, `enhance` with the tiny pipeline: status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "load_pipeline", load)

    def run(*arguments):
        extra = ["--model", model] if arguments[0] == "enhance" and "--model" not in arguments else []
        status = main([*map(str, arguments), *extra])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def refusal(run):
    """The one line of a command that refuses to start."""

    def refusal(*arguments):
        status, out, err = run(*arguments)
        assert (status, out) == (1, "") and err.startswith("hf-faceenh: ") and err.count("\n") == 1
        return err

    return refusal


# One picture


def test_a_result_says_how_it_was_made_unless_told_not_to(run, photo):
    photo.save("old.jpg", quality=71)
    assert run("enhance", "old.jpg", "-o", "new.jpg", "--strength", "0.5")[0] == 0
    said = Image.open("new.jpg").getexif()[ExifTags.Base.Software]
    assert re.match(r"hf-faceenh( [\w.]+)? enhanced the faces: model \w.*, upscale=2, strength=0.5, ", said)
    assert str(Path.cwd()) not in said  # no path of this machine
    assert run("enhance", "old.jpg", "-o", "mute.jpg", "--no-provenance", "--quality", "60", "--compare")[0] == 0
    reference = io.BytesIO()
    photo.save(reference, "JPEG", quality=60)
    for name in ("mute.jpg", "mute_compare.jpg"):
        assert not Image.open(name).getexif() and Image.open(name).quantization == Image.open(reference).quantization


def test_16_bit_colour_stays_16_bit(run, photo):
    deep = np.asarray(photo).astype(np.uint16) * 257 + 20
    cv2.imwrite("deep.png", deep[..., ::-1])
    for suffix in ("png", "tif"):
        assert run("enhance", "deep.png", "-o", f"new.{suffix}", "--compare", "--save-faces", "--overwrite")[0] == 0
        new, both = (cv2.imread(f"new{kind}.{suffix}", cv2.IMREAD_UNCHANGED) for kind in ("", "_compare"))
        assert new.dtype == both.dtype == np.uint16 and new.shape == (256, 256, 3) and (new % 257 != 20).any()
        np.testing.assert_array_equal(both[:, 256:], new)
    assert run("enhance", "deep.png", "-o", "new.jpg")[0] == 0 and Image.open("new.jpg").size == (256, 256)


def test_what_the_format_cannot_hold_is_refused_before_the_work(run, monkeypatch):
    Image.new("RGB", (8200, 8)).save("wide.png")
    monkeypatch.setattr(FaceEnhancePipeline, "__call__", lambda *args, **options: pytest.fail("the work began"))
    for extra, width in (([], 16400), (["--upscale", "1", "--compare"], 16400)):
        status, _, err = run("enhance", "wide.png", "-o", "new.webp", *extra)
        assert status == 1 and re.search(rf"new(_compare)?.webp would have {width}×\d+ px.*PNG or TIFF", err)


def test_a_jpeg_without_its_end_is_enhanced_with_a_remark(run, photo):
    photo.save("whole.jpg")
    data = Path("whole.jpg").read_bytes()
    Path("cut.jpg").write_bytes(data[:-20])
    Path("half.jpg").write_bytes(data[: len(data) // 2])
    status, out, err = run("enhance", "cut.jpg", "-o", "new.jpg", "--json")
    assert status == 0 and "cut.jpg: the file is cut off at its end" in err and "cut off" in json.loads(out)["remark"]
    status, _, err = run("enhance", "half.jpg", "-o", "new2.jpg")
    assert status == 1 and "half.jpg is damaged" in err and not Path("new2.jpg").exists()


def test_a_picture_keeps_date_and_profile(run, photo):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = DATE
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo.save("old.jpg", quality=71, exif=exif, icc_profile=profile)
    status, out, err = run("enhance", "old.jpg", "-o", "made/new.jpg")
    assert (status, out) == (0, "")
    assert err.splitlines()[-1].startswith("1 of 1 pictures written to made/new.jpg")
    old, new = Image.open("old.jpg"), Image.open("made/new.jpg")
    assert (new.size, new.format) == ((256, 256), "JPEG")
    assert all(max(new.quantization[i]) < max(old.quantization[i]) for i in (0, 1)) and new.layer[0][1:3] == (1, 1)
    assert new.info["icc_profile"] == profile
    assert new.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] == DATE
    assert os.listdir("made") == ["new.jpg"]


def test_the_name_of_an_output_file_says_its_format(run, photo):
    photo.save("old.jpg")
    assert run("enhance", "old.jpg", "-o", "new.png", "--upscale", 1)[0] == 0
    new = Image.open("new.png")
    assert (new.size, new.format) == ((128, 128), "PNG")


def test_in_a_folder_the_format_is_the_inputs_whatever_its_name(run, photo):
    photo.save("scan.jpg", "PNG")
    photo.save("scan.old", "JPEG")
    assert run("enhance", "scan.jpg", "scan.old", "-o", "out")[0] == 0
    assert [Image.open(f"out/{name}").format for name in ("scan.jpg", "scan.old")] == ["PNG", "JPEG"]


def test_json_describes_the_faces(run, photo):
    photo.save("old.png")
    status, out, _ = run("enhance", "old.png", "-o", "out", "--json")
    record = json.loads(out)
    assert status == 0 and out.count("\n") == 1
    assert (record["input"], record["output"], record["size"]) == ("old.png", str(Path("out/old.png")), [256, 256])
    (face,) = record["faces"]
    x1, y1, x2, y2 = face["box"]
    assert 40 < x1 < 50 and 12 < y1 < 20 and 62 < x2 < 72 and 40 < y2 < 50
    assert np.shape(face["landmarks"]) == (5, 2) and 0.5 < face["score"] <= 1 and 32 <= face["size"] < 50
    assert face["left_alone"] is None and record["seconds"] > 0


@pytest.mark.parametrize(("option", "reason"), [("--min-face-size=99", "too small"), ("--max-faces=0", "max_faces")])
def test_says_why_a_face_is_left_alone(run, photo, option, reason):
    photo.save("old.png")
    status, out, err = run("enhance", "old.png", "-o", "out", "--json", "--save-faces", option)
    (face,) = json.loads(out)["faces"]
    assert status == 0 and reason in face["left_alone"]
    assert f"hf-faceenh: old.png: 1 of 1 faces left alone ({face['left_alone']})\n" in err
    assert os.listdir("out/faces") == ["old_face_0.png"]


def test_a_picture_without_faces_is_no_error(run):
    Image.new("L", (70, 80), 90).save("wall.png")
    status, out, err = run("enhance", "wall.png", "-o", "out", "--json", "--save-faces")
    assert status == 0 and json.loads(out)["faces"] == []
    assert "hf-faceenh: wall.png: no face found" in err
    assert os.listdir("out") == ["wall.png"] and Image.open("out/wall.png").mode == "L"


def test_fidelity_turns_the_dial_of_an_enhancer_that_has_one(run, photo):
    photo.save("face.png")
    tiny_codeformer().save_pretrained("dialled")
    crop = ("--aligned", "--upscale", 1, "--identity-limit", "inf")
    for fidelity in (0, 1):
        options = (*crop, "--model", "dialled", "--fidelity", fidelity)
        assert run("enhance", "face.png", "-o", f"{fidelity}.png", *options)[0] == 0
    assert Image.open("0.png").tobytes() != Image.open("1.png").tobytes()
    status, _, err = run("enhance", "face.png", "-o", "none.png", *crop[:3], "--fidelity", 0.5)
    assert status == 1 and "has no fidelity to set" in err and not os.path.exists("none.png")


def test_strength_background_and_aligned_reach_the_pipeline(run, photo):
    photo.save("old.png")
    assert run("enhance", "old.png", "-o", "plain.png", "--strength", 0, "--no-background", "--upscale", 1)[0] == 0
    assert np.abs(np.asarray(Image.open("plain.png")) - np.asarray(photo, float)).max() <= 1
    assert run("enhance", "old.png", "-o", "crop.png", "--aligned", "--upscale", 1)[0] == 0
    assert Image.open("crop.png").size == (256, 256)  # the enhancer's sample_size


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "I;16"])
def test_compare_shows_the_upscaled_input_left_of_the_result(run, photo, mode):
    if mode == "I;16":
        old = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    else:
        old = photo.convert(mode)
    old.save("old.png")
    assert run("enhance", "old.png", "-o", "out", "--compare")[0] == 0
    both, result = Image.open("out/old_compare.png"), Image.open("out/old.png")
    assert both.size == (512, 256) and both.mode == result.mode == mode
    left, right = np.split(np.asarray(both, float), 2, axis=1)
    assert np.array_equal(right, np.asarray(result))
    reduced = (left[::2, ::2] + left[1::2, ::2] + left[::2, 1::2] + left[1::2, 1::2]) / 4
    assert np.abs(reduced - np.asarray(old)).mean() < 0.01 * left.max()


def test_save_faces_writes_crops_before_and_after(run, photo):
    photo.save("old.jpg")
    assert run("enhance", "old.jpg", "-o", "out", "--save-faces")[0] == 0
    before, after = (Image.open(f"out/faces/old_face_0{ending}.png") for ending in ("", "_enhanced"))
    assert before.size == after.size == (256, 256) and before.tobytes() != after.tobytes()
    os.remove("out/old.jpg")
    status, _, err = run("enhance", "old.jpg", "-o", "out", "--save-faces")
    assert status == 1 and "old_face_0" in err and "exists already" in err
    assert not os.path.exists("out/old.jpg")


# Animations and pages


@pytest.fixture
def frames(photo):
    """Three, with one face each, in which something moves."""
    frames = [photo.copy() for _ in range(3)]
    for index, frame in enumerate(frames):
        frame.paste((200, 60 * index, 0), (90, 90 + 8 * index, 120, 110 + 8 * index))
    return frames


def test_all_frames_of_an_animation_are_enhanced(run, frames):
    durations = [100, 250, 70]
    frames[0].save("old.gif", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    status, out, err = run("enhance", "old.gif", "-o", "out", "--json", "--compare", "--save-faces")
    record = json.loads(out)
    assert status == 0 and "1 of 1 pictures written to out" in err and "Traceback" not in err
    assert record["size"] == [256, 256] and [len(faces) for faces in record["frames"]] == [1, 1, 1]
    assert record["faces"] == record["frames"][0] and "remark" not in record
    for name, width in (("old.gif", 256), ("old_compare.gif", 512)):
        with Image.open(f"out/{name}") as new:
            assert (new.n_frames, new.size, new.info["loop"]) == (3, (width, 256), 0)
            for index, frame in enumerate(frames):
                new.seek(index)
                assert new.info["duration"] == durations[index]
                seen = new.convert("RGB").crop((0, 0, 256, 256)).resize((128, 128), Image.Resampling.BOX)
                assert np.abs(np.asarray(seen, float) - np.asarray(frame, float)).mean() < 20
    crops = [f"old_face_{frame}_0{ending}.png" for frame in range(3) for ending in ("", "_enhanced")]
    assert sorted(os.listdir("out/faces")) == sorted(crops)
    assert (
        "1 already there" in run("enhance", "old.gif", "-o", "out", "--compare", "--save-faces", "--skip-existing")[2]
    )


def test_every_page_is_enhanced(run, frames):
    pages = [frames[0], frames[1].convert("L").resize((96, 80)), frames[2]]
    pages[0].save("old.tif", save_all=True, append_images=pages[1:])
    assert run("enhance", "old.tif", "--compare")[0] == 0
    with Image.open("old_enhanced.tif") as new, Image.open("old_enhanced_compare.tif") as both:
        for index, page in enumerate(pages):
            new.seek(index), both.seek(index)
            assert new.size == (2 * page.width, 2 * page.height) and new.mode == page.mode == both.mode
            assert both.size == (2 * new.width, new.height)
    assert new.n_frames == both.n_frames == 3


def test_a_format_without_frames_gets_the_first_and_a_remark(run, frames):
    frames[0].save("old.webp", save_all=True, append_images=frames[1:], duration=100)
    status, out, err = run("enhance", "old.webp", "-o", "new.jpg", "--upscale", 1, "--json")
    assert status == 0 and Image.open("new.jpg").size == (128, 128)
    assert "hf-faceenh: old.webp: only the first of 3 frames is written" in err
    assert "only the first of 3" in json.loads(out)["remark"] and "frames" not in json.loads(out)
    assert run("enhance", "old.webp", "-o", "new.png", "--upscale", 1)[0] == 0
    assert Image.open("new.png").n_frames == 3


def test_frames_before_damage_are_written(run, frames):
    frames[0].save("old.gif", save_all=True, append_images=frames[1:], duration=100)
    whole = Path("old.gif").read_bytes()
    frames[0].save("one.gif")
    Path("old.gif").write_bytes(whole[: len(whole) - 200])
    status, _, err = run("enhance", "old.gif", "-o", "new.gif", "--upscale", 1)
    assert status == 0 and "frames could be read" in err and Image.open("new.gif").n_frames == 2


# Many pictures


def test_a_folder_is_walked_and_broken_files_do_not_stop_the_others(run, photo):
    os.makedirs("in/sub/deep")
    photo.save("in/good.png")
    photo.save("in/sub/deep/also good.jpg")
    photo.save("in/.hidden.png")
    Path("in/notes.txt").write_text("no picture")
    Path("in/text.jpg").write_text("no picture either")
    whole = Path("in/good.png").read_bytes()
    Path("in/sub/cut.png").write_bytes(whole[: len(whole) // 2])
    status, out, err = run("enhance", "in", "-o", "in/out", "--json", "--upscale", 1)
    assert status == 1
    written = sorted(str(file.relative_to("in/out")) for file in Path("in/out").rglob("*") if file.is_file())
    assert written == ["good.png", str(Path("sub/deep/also good.jpg"))]
    records = {Path(record["input"]).name: record for record in map(json.loads, out.splitlines())}
    assert records.keys() == {"good.png", "also good.jpg", "text.jpg", "cut.png"}
    assert "not a picture" in records["text.jpg"]["error"] and "damaged" in records["cut.png"]["error"]
    assert "faces" in records["good.png"] and "error" not in records["good.png"]
    reports = [line for line in err.splitlines() if "hf-faceenh: " in line]
    assert len(reports) == 2 and all(record.get("error", "") in err for record in records.values())
    assert "2 of 4 pictures written to in/out" in err and err.endswith("2 failed\n")
    assert "4/4" in err  # the progress bar

    os.remove("in/text.jpg")  # once more, with the results inside the folder: they are not taken for inputs
    _, out, _ = run("enhance", "in", "-o", "in/out", "--json", "--upscale", 1)
    assert len(out.splitlines()) == 3 and out.count('"skipped": true') == 2


def test_a_folder_given_again_gets_what_is_missing(run, photo):
    os.mkdir("in")
    for name in ("a", "b"):
        photo.save(f"in/{name}.png")
    words = ("enhance", "in", "-o", "out", "--upscale", 1, "--compare")
    assert run(*words)[0] == 0
    os.remove("out/b_compare.png")
    before = Path("out/b.png").stat().st_mtime_ns
    status, _, err = run(*words)
    assert status == 0 and err.endswith(" 1 already there, 0 failed\n")
    assert Path("out/b_compare.png").exists() and Path("out/b.png").stat().st_mtime_ns == before


def test_a_name_that_would_be_too_long_is_refused_before_anything_is_written(run, photo):
    os.mkdir("in")
    for name in ("ä" * 125, "short"):
        photo.save(f"in/{name}.png")
    status, _, err = run("enhance", "in", "-o", "out", "--upscale", 1, "--compare")
    assert status == 1 and "has more than 255 bytes. Rename in/ä" in err and "1 of 2 pictures written" in err
    assert sorted(os.listdir("out")) == ["short.png", "short_compare.png"]


def test_a_glob_that_the_shell_left_is_expanded(run, photo):
    for name in ("a1.png", "a2.png", "b1.png", "odd[1].png"):
        photo.save(name)
    assert run("enhance", "a*.png", "odd[1].png", "-o", "out", "--upscale", 1)[0] == 0
    assert sorted(os.listdir("out")) == ["a1.png", "a2.png", "odd[1].png"]


def test_a_missing_file_is_reported_and_the_others_go_on(run, photo):
    photo.save("here.png")
    status, _, err = run("enhance", "gone.png", "*.webp", "here.png", "-o", "out")
    assert status == 1 and "no file gone.png" in err and "no file *.webp" in err
    assert os.listdir("out") == ["here.png"]


def test_a_name_that_would_colour_the_terminal_is_spelled_out(run):
    _, _, err = run("enhance", "\x1b[31mred.png", "-o", "out.png")
    assert err.startswith("hf-faceenh: There is no file \\x1b[31mred.png. Check the path")


def test_what_cannot_be_done_reads_the_same_alone_and_beside_others(run, photo):
    """Alone, it is answered without a pipeline."""

    def said(*pictures):
        status, out, err = run("enhance", *pictures, "-o", "out", "--json", "--upscale", 1)
        assert status == 1
        records = {record["input"]: record for record in map(json.loads, out.splitlines())}
        lines = [line[line.index("hf-faceenh: ") :] for line in err.splitlines() if "hf-faceenh: " in line]
        return [records[name] for name in refused], [line for line in lines if any(name in line for name in refused)]

    refused = ("gone.png", "there.png")
    for name in ("there.png", "new.png"):
        photo.save(name)
    os.mkdir("out")
    photo.save("out/there.png")
    alone = said(*refused)
    assert alone == said(*refused, "new.png") and len(alone[1]) == 2
    assert "no file gone.png" in alone[0][0]["error"] and "out/there.png exists already" in alone[0][1]["error"]


def test_a_url_is_a_picture(run, photo, monkeypatch):
    data = io.BytesIO()
    photo.save(data, "PNG")
    monkeypatch.setattr("hf_faceenh.pictures.reading._download", {"https://host/a/old?x=1": data.getvalue()}.get)
    assert run("enhance", "https://host/a/old?x=1", "-o", "out", "--upscale", 1)[0] == 0
    assert Image.open("out/old").format == "PNG"


def test_what_exists_is_replaced_only_with_overwrite(run, photo):
    photo.save("old.png")
    before = Path("old.png").read_bytes()
    status, out, err = run("enhance", "old.png", "-o", ".", "--json")
    assert status == 1 and "old.png exists already" in json.loads(out)["error"] and "--overwrite" in err
    assert Path("old.png").read_bytes() == before
    assert run("enhance", "old.png", "-o", ".", "--overwrite")[0] == 0
    assert Image.open("old.png").size == (256, 256)


def test_two_pictures_for_one_output_are_refused_before_work_starts(refusal, photo):
    for folder in ("a", "b"):
        os.mkdir(folder)
        photo.save(f"{folder}/same.png")
    assert "a/same.png and b/same.png would both be written to out/same.png" in refusal(
        "enhance", "a", "b", "-o", "out"
    )
    photo.save("a/same_compare.png")
    assert "out/same_compare.png" in refusal("enhance", "a", "-o", "out", "--compare")
    photo.save("a/same.jpg")
    assert "out/faces/same_face" in refusal("enhance", "a", "-o", "out", "--save-faces")
    assert not os.path.exists("out")


def test_outputs_that_cannot_be(refusal, photo):
    photo.save("a.png")
    photo.save("b.png")
    Path("plain").write_text("")
    os.mkdir("empty")
    assert "one picture, but there are 2" in refusal("enhance", "a.png", "b.png", "-o", "c.png")
    assert "neither a picture nor a folder" in refusal("enhance", "a.png", "-o", "plain")
    assert "no picture in the folder empty" in refusal("enhance", "empty", "-o", "out")


def test_without_an_output_each_result_lies_beside_its_picture(run, photo):
    os.makedirs("in/sub")
    for name in ("a.png", "in/b.jpg", "in/sub/c.png"):
        photo.save(name)
    status, _, err = run("enhance", "a.png", "--upscale", 1)
    assert status == 0 and "1 of 1 pictures written to a_enhanced.png in" in err
    assert run("enhance", "a*.png", "--upscale", 1)[0] == 1  # exists already; and not a_enhanced_enhanced.png
    assert run("enhance", "in", "--upscale", 1, "--compare")[0] == 0
    made = [str(file) for file in sorted(Path(".").rglob("*.*g"))]
    assert made == ["a.png", "a_enhanced.png", "in/b.jpg", "in/sub/c.png"] + [
        f"in_enhanced/{name}" for name in ("b.jpg", "b_compare.jpg", "sub/c.png", "sub/c_compare.png")
    ]


def test_what_was_passed_over_is_said(run, photo):
    os.mkdir("in")
    photo.save("in/a.png")
    for name in ("notes.txt", "other.txt", "noending", ".hidden"):
        Path("in", name).touch()
    status, _, err = run("enhance", "in", "-o", "in/out", "--upscale", 1)
    assert status == 0 and err.splitlines()[-2] == "3 files passed over: 2 .txt, 1 without an ending"
    assert run("enhance", "in", "-o", "in/out", "--upscale", 1)[2].count("passed over") == 1  # results do not count


def test_skip_existing_writes_only_what_is_missing(run, photo):
    os.mkdir("out")
    for name in ("a.png", "b.png", "out/a.png", "out/b_compare.png"):
        photo.save(name)
    before = Path("out/a.png").read_bytes()
    words = ("enhance", "a.png", "b.png", "-o", "out", "--upscale", 1, "--skip-existing")
    status, out, err = run(*words, "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert (
        status == 0 and "1 of 2 pictures written to out in" in err and err.endswith(" s, 1 already there, 0 failed\n")
    )
    assert records[0] == {"input": "a.png", "output": "out/a.png", "skipped": True} and "faces" in records[1]
    status, _, err = run(*words, "--compare", "--save-faces")  # what was not asked for then
    assert status == 0 and "2 of 2 pictures written" in err and "already there" not in err
    assert Path("out/a.png").read_bytes() == before and Image.open("out/b_compare.png").size == photo.size  # kept
    assert sorted(os.listdir("out")) == ["a.png", "a_compare.png", "b.png", "b_compare.png", "faces"]
    assert len(os.listdir("out/faces")) == 4
    assert run(*words, "--compare", "--save-faces")[2].endswith(" 2 already there, 0 failed\n")


def test_what_strangers_send_does_not_stop_the_others(run):
    status, out, err = run("enhance", ROOT / "tests" / "data" / "hostile", "-o", "out", "--json", "--upscale", 1)
    records = {Path(record["input"]).name: record for record in map(json.loads, out.splitlines())}
    assert status == 1 and "3 of 4 pictures written" in err
    assert "is damaged" in records["png_decoder_asserts.png"]["error"]
    assert "colour profile is damaged" in records["icc_damaged.webp"]["remark"]


def test_a_fault_of_the_program_is_told_and_does_not_stop_the_others(run, photo, monkeypatch):
    call, calls = FaceEnhancePipeline.__call__, []

    def wrong(self, picture, **options):
        calls.append(picture)
        return call(self, picture, **options) if len(calls) > 1 else {}["no such thing"]

    monkeypatch.setattr(FaceEnhancePipeline, "__call__", wrong)
    os.mkdir("in")
    for name in ("a", "b"):
        photo.save(f"in/{name}.png")
    status, _, err = run("enhance", "in", "-o", "out", "--upscale", 1)
    assert status == 1 and "in/a.png: a fault of the program, please report it: KeyError: 'no such thing' (" in err
    assert "test_cli.py:" in err and "1 of 2 pictures written" in err and os.listdir("out") == ["b.png"]


# Models


def test_models_that_cannot_be_loaded(refusal, photo):
    photo.save("a.png")
    os.mkdir("empty")
    Path("broken").mkdir()
    Path("broken/config.json").write_text('{"_class_name": "FaceEnhancer", "sample_size": 64}')
    Path("weights.pth").write_bytes(b"")
    FaceDiscriminator.from_config({"sample_size": 8, "stem_channels": 4, "block_channels": [[4, 4]],
                                   "head_channels": [4, 4]}).save_pretrained("other")  # fmt: skip
    for model, reason in {
        "empty": "model_index.json",
        "broken": "Could not load broken",
        "weights.pth": "hf-faceenh convert weights.pth",
        "other": "holds a FaceDiscriminator",
        "not/a/folder": "There is no folder not/a/folder",
    }.items():
        assert reason in refusal("enhance", "a.png", "-o", "out", "--model", model)
    assert not os.path.exists("out")


def test_a_hub_that_does_not_answer_is_one_line(refusal, photo, monkeypatch):
    photo.save("a.png")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    err = refusal("enhance", "a.png", "-o", "out", "--model", "nobody/has-this")
    assert "no folder nobody/has-this" in err and len(err) < 400


def test_devices_and_dtypes_that_cannot_be(refusal, photo, capsys):
    photo.save("a.png")
    assert "float16" in refusal("enhance", "a.png", "-o", "out", "--device", "cpu", "--dtype", "float16")
    missing = "mps" if torch.cuda.is_available() else "cuda"
    assert f"no device {missing}" in refusal("enhance", "a.png", "-o", "out", "--device", missing)
    for option in ("--upscale=3", "--strength=1.5", "--strength=nan", "--max-faces=-1", "--dtype=int8"):
        with pytest.raises(SystemExit) as exit:
            main(["enhance", "a.png", "-o", "out", option])
        assert exit.value.code == 2 and f"argument {option.split('=')[0]}" in capsys.readouterr().err


def test_bfloat16_runs(run, photo):
    photo.save("a.png")
    assert run("enhance", "a.png", "-o", "out", "--device", "cpu", "--dtype", "bfloat16", "--upscale", 1)[0] == 0
    assert Image.open("out/a.png").size == (128, 128)


def test_a_single_model_takes_its_place_in_the_bundled_pipeline(tmp_path, bundled):
    tiny_enhancer(64).save_pretrained(tmp_path / "enhancer")
    SuperResolver(num_feat=4, num_conv=1, scale=4).save_pretrained(tmp_path / "resolver")
    pipe = load_pipeline(str(tmp_path / "enhancer"), "cpu")
    assert pipe.enhancer.config.sample_size == 64
    assert pipe.super_resolver.config.scale == bundled.super_resolver.config.scale
    pipe = load_pipeline(str(tmp_path / "resolver"), "cpu", "bfloat16")
    assert pipe.super_resolver.config.scale == 4 and pipe.super_resolver.dtype == torch.bfloat16
    assert pipe.enhancer.config == bundled.enhancer.config
    bundled.recognizer.save_pretrained(tmp_path / "recognizer")
    assert load_pipeline(str(tmp_path / "recognizer"), "cpu").recognizer.config.embedding_size == 128
    bundled.parser.save_pretrained(tmp_path / "parser")
    pipe = load_pipeline(str(tmp_path / "parser"), "cpu")
    assert pipe.parser.config.name_or_path == str(tmp_path / "parser")


def test_convert_then_info(run, refusal):
    source = GOLDEN / "rrdb_x2" / "weights.safetensors"
    status, out, _ = run("convert", source, "made")
    assert status == 0 and "made: SuperResolver" in out and "BSD-3-Clause" in out
    assert "exists already" in refusal("convert", source, "made")
    assert "no such file" in refusal("convert", "gone.pth", "other")
    status, out, _ = run("info", "made")
    header, row = out.splitlines()
    assert status == 0 and header.split() == ["component", "class", "parameters", "GMAC", "licence"]
    assert row.startswith("super_resolver  SuperResolver") and "per megapixel" in row and "BSD-3-Clause" in row


def test_convert_refuses_as_the_library_does(refusal):
    """The command does so before it imports the library."""
    os.mkdir("folder")
    for source, target in (("gone.pth", "new"), ("folder", "new"), ("gone.pth", "folder")):
        with pytest.raises(ConversionError) as raised:
            convert(source, target)
        assert refusal("convert", source, target) == f"hf-faceenh: {raised.value}\n"


def test_info_counts_the_bundled_models(run, bundled):
    status, out, _ = run("info")
    rows = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert status == 0 and rows.keys() == {"enhancer", "parser", "detector", "super_resolver", "recognizer"}
    for role, row in rows.items():
        parameters = sum(parameter.numel() for parameter in getattr(bundled, role).parameters())
        assert f" {parameters / 1e6:.3g} M" in row
    with FlopCounterMode(display=False) as counter:
        bundled.super_resolver(torch.zeros(1, 3, 64, 64))
    per_pixel = counter.get_total_flops() / 2 / 64**2
    assert f" {per_pixel * 1e6 / 1e9:.3g} per megapixel" in rows["super_resolver"]
    assert "per face" in rows["enhancer"] and "MIT" in rows["detector"]
    assert "0.271 per face" in rows["recognizer"] and "CC0-1.0" in rows["recognizer"]


# The process


def test_an_interrupt_ends_quietly(run, photo, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    photo.save("a.png")
    monkeypatch.setattr(FaceEnhancePipeline, "__call__", interrupted)
    status, out, err = run("enhance", "a.png", "-o", "out")
    assert (status, out) == (130, "") and err.splitlines()[-1] == "hf-faceenh: interrupted"


def test_help_does_not_wait_for_torch():
    code = "import sys; from hf_faceenh import cli; cli._parser().format_help(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_command_with_the_bundled_pipeline(astronaut, tmp_path):
    out, err = process("enhance", astronaut, "-o", tmp_path / "out.png", "--json").communicate()
    record = json.loads(out)
    assert Image.open(tmp_path / "out.png").size == (1024, 1024) == tuple(record["size"])
    assert [face["left_alone"] for face in record["faces"]] == [None]
    (face,) = record["faces"]
    assert 0 < face["identity_distance"] < 0.2 and face["likeness"] == "clearly the same person"
    assert face["strength"] == 1 and face["held_back"] is None
    assert "Warning" not in err and "components" not in err and "1 of 1 pictures written" in err


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGINT to send to a process")
def test_ctrl_c_leaves_only_whole_pictures(model, photo, tmp_path):
    (tmp_path / "in").mkdir()
    for index in range(200):
        photo.save(tmp_path / "in" / f"{index:03}.png")
    # A shell starts what runs in the background with this signal ignored, and a child inherits that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    running = process("enhance", tmp_path / "in", "-o", tmp_path / "out", "--model", model, "--json")
    signal.signal(signal.SIGINT, before)
    assert json.loads(running.stdout.readline())["faces"]
    time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate()
    assert running.returncode == 130
    assert "Traceback" not in err and err.endswith("hf-faceenh: interrupted\n")
    written = os.listdir(tmp_path / "out")
    assert 0 < len(written) < 200 and all(name.endswith(".png") for name in written)
    assert {Image.open(tmp_path / "out" / name).convert("RGB").size for name in written} == {(256, 256)}


def test_a_picture_through_pipes(model, photo):
    """Twice through the command; whoever reads the second time goes away too early."""
    data = io.BytesIO()
    photo.save(data, "JPEG")
    command = [sys.executable, "-m", "hf_faceenh.cli", "enhance", "-", "--model", model, "--upscale", "1"]
    result = subprocess.run([*command, "-o", "-"], cwd=ROOT, input=data.getvalue(), capture_output=True)
    image = Image.open(io.BytesIO(result.stdout))
    assert result.returncode == 0 and (image.format, image.size) == ("JPEG", (128, 128))
    assert image.tobytes() and b"1 of 1 pictures written to the standard output in" in result.stderr
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as again:  # -o - may be left out
        again.stdout.close()
        again.stdin.write(result.stdout)
        again.stdin.close()
        err = again.stderr.read().decode()
    assert again.returncode == 141 and "Traceback" not in err and "BrokenPipe" not in err and "written" not in err


def test_the_standard_input_into_a_file(run, photo, monkeypatch):
    data = io.BytesIO()
    photo.save(data, "PNG")
    for given, status, said in (
        (data.getvalue(), 0, "1 of 1 pictures written to new.jpg"),
        (b"", 1, "The standard input is empty; expected a picture."),
        (b"text", 1, "is not a picture that is read here (4 bytes)"),
    ):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
        result = run("enhance", "-", "-o", "new.jpg", "--upscale", 1, "--overwrite")
        assert result[:2] == (status, "") and said in result[2]
    assert Image.open("new.jpg").format == "JPEG"


@pytest.mark.skipif(os.name == "nt", reason="there are no pseudo-terminals")
@pytest.mark.parametrize(
    ("stream", "said"), [("stdin", "No picture is piped in"), ("stdout", "The standard output is a terminal")]
)
def test_a_terminal_is_no_picture(stream, said):
    ours, theirs = os.openpty()
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL} | {stream: theirs}
    command = [sys.executable, "-m", "hf_faceenh.cli", "enhance", "-"]
    result = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, **streams)
    os.close(ours), os.close(theirs)
    assert result.returncode == 1 and said in result.stderr and "Traceback" not in result.stderr
