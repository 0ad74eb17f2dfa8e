"""The whole of training/evaluate.py."""

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_enhancer
from transformers import MobileNetV2Config, MobileNetV2Model

from hf_faceenh import GPENFaceEnhancer
from hf_faceenh.learning.metrics import face_metrics
from hf_faceenh.learning.tables import model_index_results
from hf_faceenh.models import FaceRecognizer, FaceRecognizerConfig

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "training" / "evaluate.py"
SIZE = 64
POINTS = [[24, 30], [40, 30], [32, 39], [25, 46], [39, 46]]


@pytest.fixture(scope="module")
def evaluate():
    """`main` of the script, in this process."""
    return runpy.run_path(str(SCRIPT))["main"]


@pytest.fixture(scope="module")
def data(tmp_path_factory, astronaut):
    """sharp/: a real face and two gradients, 128 px, with landmarks; weak/ and strong/: the same degraded."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "sharp").mkdir()
    face = Image.open(astronaut).convert("RGB").crop((128, 16, 320, 208)).resize((128, 128))
    y, x = np.mgrid[:128, :128].astype(np.uint8)
    pictures = {"a.png": face, "b.png": Image.fromarray(np.stack([x * 2, y, x], 2))}
    pictures["c.png"] = Image.fromarray(np.stack([y, x * 2, y * 2], 2))
    lines = []
    for name, picture in pictures.items():
        picture.save(folder / "sharp" / name)
        lines.append(json.dumps({"file_name": name, "landmarks": (2 * np.array(POINTS)).tolist()}))
    (folder / "sharp" / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    for level, side in {"weak": 48, "strong": 12}.items():
        (folder / level).mkdir()
        for name, picture in pictures.items():
            picture.resize((side, side), Image.Resampling.BOX).save(folder / level / name)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Of each kind one, small and untrained: pipeline/enhancer, gpen (32 px), recognizer, backbone."""
    folder = tmp_path_factory.mktemp("models")
    tiny_enhancer(SIZE).save_pretrained(folder / "pipeline" / "enhancer")
    torch.manual_seed(0)
    gpen = {"encoder_channels": [4] * 4, "mapping_channels": [8, 8], "constant_channels": 4}
    GPENFaceEnhancer(32, **gpen, decoder_channels=[[4], [4, 4], [4, 4], [4, 4]]).save_pretrained(folder / "gpen")
    config = FaceRecognizerConfig(image_size=40, stem_channels=4, stage_channels=[4, 8], stage_blocks=[1, 1])
    FaceRecognizer(config).save_pretrained(folder / "recognizer")
    MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.25, image_size=64)).save_pretrained(folder / "backbone")
    return folder


@pytest.fixture(scope="module")
def results(evaluate, data, models, tmp_path_factory):
    """Of one run over all there is: results.json, the folder it is in, and what was printed."""
    out = tmp_path_factory.mktemp("results")
    (out / "groups.json").write_text('{"faces": ["a"], "gradients": ["b", "c"]}')
    arguments = [
        *("--hq", data / "sharp", "--lq", data / "weak", data / "strong", "--device", "cpu"),
        *("--model", models / "pipeline", models / "gpen", "--batch_size", 2, "--output_dir", out),
        *("--recognizer", models / "recognizer", "--backbone", models / "backbone"),
        *("--groups", out / "groups.json"),
    ]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        evaluate(list(map(str, arguments)))
    return json.loads((out / "results.json").read_text()), out, printed.getvalue()


def row(results, model, level):
    (found,) = (row for row in results[0]["rows"] if Path(row["model"]).name == model and row["level"] == level)
    return found


def test_every_model_at_every_level_and_all_of_them(results):
    rows = results[0]["rows"]
    assert [(Path(row["model"]).name, row["level"], row["pictures"]) for row in rows] == [
        (model, level, pictures)
        for level, pictures in (("weak", 3), ("strong", 3), ("overall", 6))
        for model in ("input", "pipeline", "gpen")
    ]
    assert all(
        row["metrics"].keys() == {"psnr", "ssim", "noise", "identity", "landmarks", "perceptual"} for row in rows
    )
    for model in ("input", "pipeline", "gpen"):
        weak, strong, overall = (row(results, model, level)["metrics"] for level in ("weak", "strong", "overall"))
        for name in ("psnr", "identity"):
            assert overall[name]["mean"] == pytest.approx((weak[name]["mean"] + strong[name]["mean"]) / 2)
            assert overall[name]["interval"][0] < overall[name]["mean"] < overall[name]["interval"][1]


def test_gains_of_everybody_and_of_each_group(results):
    gains = {(Path(row["model"]).name, row["group"], row["level"]): row for row in results[0]["gains"]}
    assert len(gains) == 2 * 3 * 2
    everybody, gradients = gains["gpen", "everybody", "weak"], gains["gpen", "gradients", "weak"]
    metrics, before = row(results, "gpen", "weak"), row(results, "input", "weak")
    assert everybody["psnr"]["mean"] == pytest.approx(metrics["metrics"]["psnr"]["difference"]["mean"])
    factor = metrics["metrics"]["identity"]["mean"] / before["metrics"]["identity"]["mean"]
    assert everybody["identity"] == pytest.approx(factor)
    each = [metrics["by_face"][face]["psnr"] - before["by_face"][face]["psnr"] for face in ("b.png", "c.png")]
    assert (gradients["faces"], gradients["worse"]) == (2, sum(gain < 0 for gain in each))
    assert gradients["psnr"]["mean"] == pytest.approx(sum(each) / 2)
    assert f"| gradients | 2 | weak | {gradients['psnr']['mean']:+.2f} [" in results[2]


@pytest.mark.parametrize(
    ("groups", "complaint"),
    [("[]", "expected a JSON object"), ('{"old": 3}', "expected a JSON object"), ('{"old": ["z"]}', "group 'old'")],
)
def test_groups_that_say_nothing_about_the_faces_are_refused(evaluate, data, models, tmp_path, groups, complaint):
    (tmp_path / "groups.json").write_text(groups)
    arguments = {
        "hq": data / "sharp",
        "lq": data / "weak",
        "model": models / "gpen",
        "groups": tmp_path / "groups.json",
    }
    with pytest.raises(ValueError, match=complaint):
        evaluate([text for name, value in arguments.items() for text in (f"--{name}", str(value))])


def test_the_input_is_the_upscaled_degraded_face_and_the_zero_line(results, data):
    assert (
        row(results, "input", "weak")["metrics"]["psnr"]["mean"]
        > row(results, "input", "strong")["metrics"]["psnr"]["mean"]
    )
    assert row(results, "input", "overall")["metrics"]["ssim"]["difference"]["mean"] == 0
    enhanced, before = row(results, "gpen", "weak"), row(results, "input", "weak")
    for name in ("psnr", "ssim", "identity", "perceptual"):
        change = enhanced["metrics"][name]["difference"]
        assert change["mean"] == pytest.approx(enhanced["metrics"][name]["mean"] - before["metrics"][name]["mean"])
        assert change["interval"][0] <= change["mean"] <= change["interval"][1]
        assert before["by_face"]["a.png"][name] != before["by_face"]["b.png"][name]
    # the same as on these files by hand
    reduced = Image.open(data / "sharp" / "b.png").resize((SIZE, SIZE), Image.Resampling.BOX)
    with Image.open(results[1] / "weak.png") as sheet:
        upscaled = np.asarray(sheet)[-2 * SIZE : -SIZE, :SIZE]
    by_hand = face_metrics([upscaled], [np.asarray(reduced)])
    assert before["by_face"]["b.png"]["psnr"] == pytest.approx(by_hand["psnr"][0], abs=0.05)


def test_faces_that_are_not_found_are_counted(results):
    """The two gradients, at both levels; in the real face something is, if the picture is not too damaged."""
    weak, overall = (row(results, "input", level)["metrics"]["landmarks"] for level in ("weak", "overall"))
    assert weak["missing"] == 2 and weak["mean"] > 0
    assert overall["missing"] >= 4
    by_face = row(results, "input", "weak")["by_face"]
    assert by_face["a.png"]["landmarks"] == weak["mean"] and by_face["b.png"]["landmarks"] is None


def test_extremes_are_the_faces_that_gain_most_middling_and_least(results, data):
    _, out, _ = results
    with Image.open(out / "extremes.png") as sheet:
        rows = np.asarray(sheet)[-6 * SIZE :].reshape(6, SIZE, -1, SIZE, 3)
    assert rows.shape[2] == 4  # input, two models, sharp
    found = {
        (model, level): row(results, model, level)["by_face"] for model in ("input", "pipeline") for level in ("weak",)
    }
    gains = {
        face: found["pipeline", "weak"][face]["psnr"] - found["input", "weak"][face]["psnr"]
        for face in ("a.png", "b.png", "c.png")
    }
    for shown, face in zip(rows[:3, :, -1], sorted(gains, key=gains.get, reverse=True), strict=True):
        sharp = Image.open(data / "sharp" / face).resize((SIZE, SIZE), Image.Resampling.BOX)
        assert np.abs(shown.astype(int) - np.asarray(sharp)).mean() < 2


def test_the_contact_sheets_show_input_models_and_sharp_faces(results, data):
    with Image.open(results[1] / "strong.png") as sheet:
        header = sheet.height - 3 * SIZE
        assert sheet.width == 4 * SIZE and header > 0
        sharp = sheet.crop((3 * SIZE, header, 4 * SIZE, header + SIZE))
    with Image.open(data / "sharp" / "a.png") as original:
        reduced = original.resize((SIZE, SIZE), Image.Resampling.BOX)
    assert np.abs(np.asarray(sharp).astype(int) - np.asarray(reduced)).max() <= 1


def test_a_contact_sheet_shows_at_most_eight_faces(evaluate, data, models, tmp_path):
    for folder in ("many", "many_degraded"):
        (tmp_path / folder).mkdir()
        for index in range(11):
            Image.new("RGB", (32, 32), (20 * index, 0, 0)).save(tmp_path / folder / f"{index:02d}.png")
    arguments = ["--hq", tmp_path / "many", "--lq", tmp_path / "many_degraded", "--model", models / "gpen"]
    evaluate([*map(str, arguments), "--device", "cpu", "--batch_size", "3", "--output_dir", str(tmp_path)])
    with Image.open(tmp_path / "many_degraded.png") as sheet:
        assert sheet.height - 8 * 32 < 32
        reds = [sheet.getpixel((16, sheet.height - 32 * (8 - row) + 16))[0] for row in range(8)]
    assert reds == [20 * row for row in range(8)]


def test_the_tables_hold_models_means_and_differences(results, models):
    printed = (results[1] / "results.md").read_text()
    assert printed in results[2]
    assert f"| {models}/gpen | 0.00 M | 0.00 |" in printed
    mean = row(results, "input", "weak")["metrics"]["psnr"]["mean"]
    assert f"| input | weak | {mean:.2f} [" in printed and ", 2 not found" in printed
    change = row(results, "gpen", "overall")["metrics"]["ssim"]["difference"]["mean"]
    assert f"| {change:+.3f} [" in printed
    assert "features of the MobileNetV2Model" in printed and "not LPIPS" in printed
    sizes = results[0]["models"][f"{models}/gpen"]
    assert 0 < sizes["parameters"] < 20_000 and sizes["macs"] > 0 and sizes["seconds_per_face"] > 0


def test_the_rows_make_a_model_cards_results(results):
    entries = model_index_results(results[0]["rows"])
    assert {entry.dataset_name for entry in entries} == {
        f"poor faces, {name}" for name in ("weak", "strong", "overall")
    }


def test_faces_that_another_program_made_are_measured_as_well(evaluate, data, models, tmp_path):
    for level in ("weak", "strong"):
        (tmp_path / "other" / level).mkdir(parents=True)
        for path in (data / level).glob("*.png"):
            with Image.open(data / "sharp" / path.name) as sharp:
                sharp.save(tmp_path / "other" / level / f"{path.stem}.bmp")
    arguments = ["--hq", data / "sharp", "--lq", data / "weak", data / "strong", "--model", models / "gpen"]
    arguments += ["--made", tmp_path / "other", "--output_dir", tmp_path / "out"]
    evaluate(list(map(str, arguments)))
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    other = [row for row in rows if row["model"] == str(tmp_path / "other")]
    assert [row["level"] for row in other] == ["weak", "strong", "overall"]
    assert all(row["metrics"]["psnr"]["mean"] == 100 for row in other)  # the sharp faces themselves
    (tmp_path / "other" / "strong" / "b.bmp").unlink()
    with pytest.raises(ValueError, match=r"expected an enhanced b.png in .*strong"):
        evaluate(list(map(str, arguments)))


def test_without_instruments_only_pixels_are_compared(evaluate, data, models, tmp_path, capsys):
    (tmp_path / "sharp").mkdir()
    for path in (data / "sharp").glob("*.png"):
        (tmp_path / "sharp" / path.name).write_bytes(path.read_bytes())
    levels = ["--lq", str(data / "weak"), "--model", str(models / "gpen"), "--device", "cpu"]
    evaluate(["--hq", str(tmp_path / "sharp"), *levels])
    printed = capsys.readouterr().out
    assert (
        "| model | faces | PSNR in dB ↑ | SSIM ↑ | noise in flat places, of 255 ↓ |\n" in printed
        and "overall" not in printed
    )
    assert "Measured at 32 px" in printed  # GPEN's size
    (tmp_path / "sharp" / "metadata.jsonl").write_text('{"file_name": "a.png"}\n')  # any imagefolder may have one
    evaluate(["--hq", str(tmp_path / "sharp"), *levels])
    out, err = capsys.readouterr()
    assert "landmark" not in out and "no landmarks for 3 faces, such as a.png: no landmark errors" in err


@pytest.fixture(scope="module")
def wrong(tmp_path_factory, data):
    """Folders for the mistakes below."""
    folder = tmp_path_factory.mktemp("wrong")
    for name in ("empty", "stranger", "oblong", "overall"):
        (folder / name).mkdir()
    for name in ("stranger", "overall"):
        Image.new("RGB", (8, 8)).save(folder / name / "x.png")
    Image.new("RGB", (8, 6)).save(folder / "oblong" / "a.png")
    (folder / "few.jsonl").write_text(json.dumps({"file_name": "a.png", "landmarks": POINTS}) + "\n")
    (folder / "four.jsonl").write_text(json.dumps({"file_name": "a.png", "landmarks": POINTS[:4]}) + "\n")
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lq", "{wrong}/empty"], "empty holds no pictures"),
        (["--lq", "{wrong}/none"], "none is not a folder"),
        (["--lq", "{wrong}/stranger"], "x.png is missing or not a picture"),
        (["--lq", "{wrong}/oblong"], "a.png is 8×6 px"),
        (["--lq", "{wrong}/overall"], "called overall already"),
        (["--lq", "{data}/weak", "{data}/weak"], "called weak already"),
        (["--model", "{models}/backbone"], "expected FaceEnhancer or GPENFaceEnhancer"),
        (["--model", "input"], r"write \./input"),
        (["--recognizer", "{models}/backbone"], "MobileNetV2Model is no face recognizer"),
        (["--recognizer", "{models}/gpen"], "gpen holds no face recognizer that can be loaded"),
        (["--backbone", "{models}/recognizer"], "FaceRecognizer is no perceptual backbone"),
        (["--metadata", "{wrong}/few.jsonl"], "no landmarks for 2 faces, such as b.png"),
        (["--metadata", "{wrong}/four.jsonl"], "line 1: expected a JSON object with file_name and five landmarks"),
        (["--metadata", "{wrong}/none.jsonl"], "none.jsonl"),
        (["--device", "abacus"], "--device abacus is not available"),
        (["--batch_size", "0"], "--batch_size must be at least 1"),
    ],
)
def test_a_mistake_is_one_clear_line(evaluate, data, models, wrong, arguments, message):
    given = ["--hq", data / "sharp", "--lq", data / "weak", "--model", models / "gpen", "--device", "cpu"]
    arguments = [argument.format(data=data, models=models, wrong=wrong) for argument in arguments]
    with pytest.raises((ValueError, OSError), match=message):
        evaluate([*map(str, given), *arguments])


def test_a_mistake_ends_the_process_with_one_line_and_status_1(data, models):
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    arguments = ["--hq", data / "weak", "--lq", data / "sharp" / "none", "--model", models / "gpen"]
    process = subprocess.run([sys.executable, SCRIPT, *arguments], env=environment, capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr.strip() == f"evaluate.py: --lq {data / 'sharp' / 'none'} is not a folder."
