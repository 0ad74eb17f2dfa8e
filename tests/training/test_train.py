"""The whole of training/train.py: in this process, and in its own where it is killed, signalled, or one of two."""

import contextlib
import io
import json
import math
import os
import re
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from fake_hub import TOKEN, FakeHub
from PIL import Image
from safetensors.torch import load_file
from tiny import SMALL, tiny_codeformer
from training_pieces import gfpgan, random_faces
from transformers import MobileNetV2Config, MobileNetV2Model, ResNetConfig, ResNetModel

from hf_faceenh import FaceEnhancer
from hf_faceenh.learning.reduction import macs
from hf_faceenh.learning.trainer import Trainer
from hf_faceenh.models import load_enhancer

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "training" / "train.py"
# Three rounds; each of the first two ends with a reduction and, because the band is so narrow, a coefficient decision.
QUICK = [
    *("--enhancer", json.dumps(SMALL), "--rounds", "3", "--steps_per_round", "4", "--first_reduction", "1"),
    *("--tune_rounds", "1", "--batch_size", "2", "--assessed_faces", "4", "--warmup_steps", "2"),
    *("--checkpoint_every", "2", "--keep_checkpoints", "20", "--curriculum.dead_band", "0.0001"),
    *("--reduction.target", "0.5", "--reduction.rounds", "2", "--reduction.multiple", "1"),
    *("--reduction.index_psnr", "20", "--reduction.total_psnr", "20", "--reduction.index_features", "20"),
    *("--loss.adversarial_weight", "0.01"),
]
ONE_ROUND = [*QUICK, "--num_workers", 0, "--rounds", 1, "--reduction.target", 1]
REDUCED_ONCE = [*QUICK, "--num_workers", 0, "--rounds", 2, "--reduction.rounds", 1, "--reduction.target", 0.8]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Eight pictures with soft and hard edges, 48×48 px."""
    folder = tmp_path_factory.mktemp("faces")
    y, x = np.mgrid[:48, :48]
    for index in range(8):
        disc = ((x - 24) ** 2 + (y - 20 - index) ** 2 < (8 + index) ** 2) * 120
        pixels = np.stack([x * 2 + disc, y * 2 + disc // 2, disc + index], 2).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def command(faces, out, *arguments):
    return [sys.executable, str(SCRIPT), "--dataset", str(faces), "--output_dir", str(out), *map(str, arguments)]


def run(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(arguments, env=ENVIRONMENT, capture_output=True, text=True, cwd=ROOT, timeout=300)


@pytest.fixture(scope="module")
def train():
    """The script's main function in this process, which has torch imported already: `train(faces, out, *options)`."""
    script, threads = runpy.run_path(str(SCRIPT)), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:  # as in the processes: the last bits depend on it
        patch.setenv("ACCELERATE_USE_CPU", "true")
        AcceleratorState._reset_state(reset_partial_state=True)
        torch.set_num_threads(1)
        yield lambda faces, out, *arguments: script["main"](command(faces, out, *arguments)[2:])
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(reset_partial_state=True)


def weights(out):
    return load_file(out / "enhancer" / "diffusion_pytorch_model.safetensors")


def rounds(out):
    return [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()]


def last_line(process):
    assert "Traceback" not in process.stderr, process.stderr
    return process.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def straight(train, faces, tmp_path_factory):
    """A run that nothing disturbed: its output folder and what it printed."""
    out, printed = tmp_path_factory.mktemp("straight"), io.StringIO()
    with contextlib.redirect_stdout(printed):
        train(faces, out, *QUICK, "--validation", faces, "--report_to", '["tensorboard"]')
    return out, printed.getvalue()


def test_a_run_leaves_records_pictures_checkpoints_and_a_smaller_enhancer(straight):
    out, printed = straight
    lines = rounds(out)
    assert [line["round"] for line in lines] == [0, 1, 2] and [line["step"] for line in lines] == [4, 8, 12]
    assert lines[0]["phase"] == "reduce" and lines[2]["phase"] == "tune"
    assert {"pixel", "adversarial", "discriminator"} <= lines[0]["losses"].keys()
    assert lines[0]["means"].keys() == {"lq", "hq", "enhanced"}
    # reductions are real, and what is saved is the reduced network
    assert lines[0]["reduction"]["layers"] and lines[2]["macs"] < lines[0]["reduction"]["macs_before"]
    saved = FaceEnhancer.from_pretrained(out / "enhancer")
    assert sum(map(sum, saved.config.encoder_channels)) < sum(map(sum, SMALL["encoder_channels"]))
    # the next round degrades with what was decided
    changed = [line for line in lines if line["direction"]]
    assert changed and all(line["changed"] for line in changed)
    for line, following in zip(lines, lines[1:], strict=False):
        different = {name for name, value in line["coefficients"].items() if following["coefficients"][name] != value}
        assert different == set(line["changed"])
    assert lines[0]["validation"]["input_psnr"] == pytest.approx(lines[2]["validation"]["input_psnr"])
    with Image.open(out / "samples" / "round_0000.png") as picture:
        assert picture.size == (3 * 32, 8 * 32)
    assert (out / "checkpoints" / "step_00000012").is_dir() and list(out.rglob("events.out.tfevents*"))
    assert "rounds: 3" in printed and "rounds: 3" in (out / "options.yaml").read_text()
    assert len(re.findall("^round ", printed, re.M)) == 3
    assert re.search("^Ended: .*(multiply-accumulates|no layer|rounds)", printed, re.M)


def test_the_best_is_the_smallest_with_the_least_relative_error(straight):
    out, _ = straight
    last = torch.load(max((out / "checkpoints").glob("step_*")) / "state.pt", weights_only=True)["progress"]
    ranks = [(line["macs"], line["validation"]["relative_error"]) for line in rounds(out)]
    assert tuple(last["best"]) == min(ranks) and all(math.isfinite(error) for _, error in ranks)


def test_killed_and_resumed_it_ends_with_the_same_weights_bit_for_bit(train, faces, straight, tmp_path):
    arguments = (faces, tmp_path, *QUICK, "--validation", faces)
    process = subprocess.Popen(
        command(*arguments), env=ENVIRONMENT, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    wanted = tmp_path / "checkpoints" / "step_00000006"  # after the first reduction, in the middle of a round
    while not wanted.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    process.kill()
    process.wait()
    for later in sorted((tmp_path / "checkpoints").glob("step_*")):
        if later.name > wanted.name:  # written before the signal arrived: damage it, so that it is not taken
            (later / "state.pt").write_bytes(b"")
    train(*arguments, "--resume", "latest")
    expected, found = weights(straight[0]), weights(tmp_path)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())

    def decisions(out):
        return [{name: line[name] for name in ("round", "means", "coefficients", "macs")} for line in rounds(out)]

    assert decisions(tmp_path) == decisions(straight[0])


def test_stopped_before_its_first_checkpoint_it_starts_anew(train, faces, straight, tmp_path, monkeypatch, capsys):
    def killed(self):
        raise KeyboardInterrupt

    arguments = (faces, tmp_path, *ONE_ROUND)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "run", killed)
        train(*arguments)
    assert os.listdir(tmp_path) == ["options.yaml"]
    shutil.copy(straight[0] / "rounds.jsonl", tmp_path)  # as if the disk had had room for the lines alone
    with pytest.raises(ValueError, match="holds a run. Pass --resume latest"):
        train(*arguments)
    train(*arguments, "--resume", "latest")
    assert "There is no checkpoint" in capsys.readouterr().out
    assert [line["round"] for line in rounds(tmp_path)] == [0]
    (tmp_path / "rounds.jsonl").unlink()  # killed between its first checkpoint and its first line
    with pytest.raises(ValueError, match="holds a run. Pass --resume latest"):
        train(*arguments)


def test_a_run_that_has_reached_its_target_can_be_resumed(train, faces, tmp_path):
    """The reduced network cannot lose as much again, and need not."""
    reached = [*REDUCED_ONCE, "--reduction.multiple", 8, "--reduction.target", 0.85]
    train(faces, tmp_path, *reached)
    lines = rounds(tmp_path)
    assert lines[-1]["macs"] < 0.86 * lines[0]["reduction"]["macs_before"]
    train(faces, tmp_path, *reached, "--resume", "latest")


@pytest.mark.slow  # learning/test_trainer.py tells its own process, and the next test one of two
def test_sigterm_saves_and_ends_with_0(faces, tmp_path):
    endless = ("--checkpoint_every", 1000, "--rounds", 1000, "--reduction.target", 1)
    arguments = command(faces, tmp_path, *QUICK, *endless)
    process = subprocess.Popen(arguments, env=ENVIRONMENT, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not (tmp_path / "rounds.jsonl").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    stopped = int(re.search(rb"SIGTERM: stopped after step (\d+)", printed)[1])
    assert (tmp_path / "checkpoints" / f"step_{stopped:08d}").is_dir()


# Runs the script; process 1 gets SIGTERM in its second step, after the processes have agreed on that step.
TOLD = """
import os, runpy, signal, sys
from diffusers.training_utils import EMAModel
calls, step = [], EMAModel.step
def told(self, parameters):
    step(self, parameters)
    calls.append(1)
    if os.environ["RANK"] == "1" and len(calls) == 2:
        os.kill(os.getpid(), signal.SIGTERM)
EMAModel.step = told
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("discriminator", [pytest.param("true", marks=pytest.mark.slow), "false"])
def test_sigterm_to_one_of_two_processes_saves_and_ends_both_with_0(faces, tmp_path, discriminator):
    (tmp_path / "told.py").write_text(TOLD)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", str(tmp_path / "told.py")]
    arguments = [*QUICK, "--num_workers", 1, "--rounds", 1000, "--checkpoint_every", 1000, "--dynamic", discriminator]
    arguments += ["--loss.adversarial_weight", 0, "--reduction.target", 1]
    process = run(*launch, *command(faces, tmp_path / "out", *arguments)[1:])
    assert process.returncode == 0, process.stderr
    stopped = int(re.search(r"SIGTERM: stopped after step (\d+)", process.stdout)[1])
    assert stopped in (2, 3) and (tmp_path / "out" / "checkpoints" / f"step_{stopped:08d}").is_dir()


def test_two_processes_prune_and_agree_and_give_the_gradient_of_the_double_batch(train, faces, tmp_path):
    """Without a discriminator, whose minibatch deviation sees only its own process's faces."""
    same = [*REDUCED_ONCE, "--dynamic", "false", "--loss.adversarial_weight", 0, "--seed", 3]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", str(SCRIPT)]
    two = run(*launch, *command(faces, tmp_path / "two", *same)[2:])
    assert two.returncode == 0, two.stderr
    train(faces, tmp_path / "one", *same, "--batch_size", 4, "--assessed_faces", 8)
    first, second = rounds(tmp_path / "one"), rounds(tmp_path / "two")
    assert first[0]["losses"]["pixel"] == pytest.approx(second[0]["losses"]["pixel"], abs=1e-3)
    assert [line["macs"] for line in first] == [line["macs"] for line in second]
    assert second[-1]["macs"] < second[0]["reduction"]["macs_before"]
    for name, value in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], value, atol=2e-3, rtol=0)


@pytest.mark.slow
def test_two_processes_train_a_projected_discriminator_on_the_double_batch(train, faces, tmp_path):
    """Unlike GPEN's it has no minibatch deviation: the mean of both gradients is that of all faces."""
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(tmp_path / "backbone")
    same = [*ONE_ROUND, "--seed", 3]
    same += ["--perceptual_backbone", tmp_path / "backbone", "--discriminator.kind", "projected"]
    same += ["--discriminator.layers", "[0, 1]", "--loss.matching_weight", 0.1]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", str(SCRIPT)]
    two = run(*launch, *command(faces, tmp_path / "two", *same)[2:])
    assert two.returncode == 0, two.stderr
    train(faces, tmp_path / "one", *same, "--batch_size", 4, "--assessed_faces", 8)
    heads = []
    for name in ("one", "two"):
        (checkpoint,) = (tmp_path / name / "checkpoints").glob("step_*4")
        heads.append(torch.load(checkpoint / "state.pt", weights_only=True)["discriminator"])
    for name, value in heads[0].items():  # on average: Adam makes a step of any gradient, also of one near 0
        assert (heads[1][name] - value).abs().mean() < 2e-4, name


def test_accumulated_batches_are_one_large_batch(train, faces, tmp_path):
    same = [*ONE_ROUND, "--dynamic", "false", "--loss.adversarial_weight", 0]
    for name, arguments in {"large": ("--batch_size", 4), "split": ("--gradient_accumulation_steps", 2)}.items():
        train(faces, tmp_path / name, *same, *arguments)
    for name, value in weights(tmp_path / "large").items():
        torch.testing.assert_close(weights(tmp_path / "split")[name], value, atol=1e-4, rtol=0)


def test_the_discriminator_learns_in_every_kth_step(train, faces, tmp_path):
    train(faces, tmp_path, *ONE_ROUND, "--discriminator_every", 3)
    (*_, checkpoint) = sorted((tmp_path / "checkpoints").iterdir(), key=lambda path: path.stat().st_mtime)
    state = torch.load(checkpoint / "state.pt", weights_only=True)
    steps = {
        name: {int(entry["step"]) for entry in state[name]["state"].values()}
        for name in ("optimizer", "discriminator_optimizer")
    }
    assert steps == {"optimizer": {4}, "discriminator_optimizer": {2}}  # in the first and the fourth


def test_what_is_not_finite_is_skipped_counted_and_ends_the_run(train, faces, tmp_path, capsys):
    with pytest.raises(ValueError, match="3 steps in a row were not finite. The last good checkpoint is") as error:
        train(faces, tmp_path, *QUICK, "--num_workers", 0, "--learning_rate", 1e30, "--max_nonfinite", 3)
    assert "\n" not in str(error.value)
    assert capsys.readouterr().out.count("not finite; the step is skipped") == 3


def test_a_full_disk_at_a_checkpoint_costs_only_that_checkpoint(train, faces, tmp_path, capsys):
    """A limit on the size of files stands in for the full disk: the weights fit, the optimiser's state does not."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300 * 1024, unlimited[1]))
    try:
        train(faces, tmp_path, *ONE_ROUND)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    printed = capsys.readouterr().out
    assert re.search(r"checkpoint of step 2 could not be written \(.*\); training goes on", printed)
    assert not list((tmp_path / "checkpoints").glob("*")) and (tmp_path / "enhancer" / "config.json").exists()


def test_prune_only_reduces_an_existing_model(train, faces, tmp_path):
    FaceEnhancer(**SMALL).save_pretrained(tmp_path / "first")
    only = ["--init", tmp_path / "first", "--prune_only", "true", "--loss.distillation_weight", 1]
    train(faces, tmp_path / "out", *REDUCED_ONCE[2:], *only)
    lines = rounds(tmp_path / "out")
    assert lines[-1]["macs"] < lines[0]["reduction"]["macs_before"] and lines[0]["means"] is None
    assert "discriminator" not in lines[0]["losses"] and lines[0]["losses"]["distillation"] > 0


def test_prune_only_reduces_a_published_gfpgan(train, faces, tmp_path):
    """To the target, with its own features to learn from; what is saved is a GFPGAN, with the noise of the first."""
    gfpgan(16, width=8).save_pretrained(tmp_path / "first")
    any_loss = [f"--reduction.{limit}=.inf" for limit in ("index_psnr", "total_psnr", "index_features")]
    arguments = [*REDUCED_ONCE[2:], *any_loss, "--reduction.target", 0.5, "--reduction.multiple", 4]
    train(faces, tmp_path, "--init", tmp_path / "first", "--prune_only", "true", *arguments)
    lines = rounds(tmp_path)
    assert lines[-1]["macs"] <= 0.5 * lines[0]["reduction"]["macs_before"]
    assert "discriminator" not in lines[0]["losses"] and lines[0]["losses"]["distillation"] > 0
    small = load_enhancer(tmp_path / "enhancer")
    assert macs(small) == lines[-1]["macs"]
    before = load_file(tmp_path / "first" / "diffusion_pytorch_model.safetensors")
    noises = {name: value for name, value in weights(tmp_path).items() if name.endswith(".noise")}
    assert noises and all(torch.equal(value, before[name]) for name, value in noises.items())
    with torch.no_grad():
        enhanced = small(random_faces(2, 16)).sample
    assert enhanced.shape == (2, 3, 16, 16) and enhanced.isfinite().all()


def test_push_to_hub_uploads_the_pipeline_with_its_figures(faces, tmp_path):
    hub = FakeHub()
    ours = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
    arguments = [*ONE_ROUND, "--push_to_hub", "org/small"]
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "HF_HUB_OFFLINE"} | ours
    try:
        process = subprocess.run(
            command(faces, tmp_path / "out", *arguments, "--validation", faces),
            env=environment, capture_output=True, text=True, cwd=ROOT, timeout=300,
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
        assert f"Pushed: {hub.url}/org/small/commit/" in process.stdout
        files = hub.files("org/small")
    finally:
        hub.close()
    trained = (tmp_path / "out" / "enhancer" / "diffusion_pytorch_model.safetensors").read_bytes()
    assert files["enhancer/diffusion_pytorch_model.safetensors"] == trained
    assert b"| validation | PSNR in dB" in files["README.md"] and b"model-index" in files["README.md"]


def test_a_broken_picture_is_passed_over_and_counted(train, faces, tmp_path, capsys):
    folder = tmp_path / "some"
    folder.mkdir()
    for path in faces.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
        (folder / f"broken_{path.name}").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    train(folder, tmp_path / "out", *ONE_ROUND, "--num_workers", 1)
    assert re.search(r"^\d+ pictures could not be read and were passed over", capsys.readouterr().out, re.M)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, faces):
    """Folders for the mistakes below."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "empty").mkdir()
    (folder / "oblong").mkdir()
    Image.new("RGB", (64, 64)).save(folder / "oblong" / "a.png")
    Image.new("RGB", (64, 40)).save(folder / "oblong" / "b.png")
    MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.25, image_size=64)).save_pretrained(folder / "backbone")
    tiny_codeformer(32).save_pretrained(folder / "codeformer")
    (folder / "unknown.yaml").write_text("stepz: 3\n")
    return folder


MISTAKES = [
    (["--dataset", "{m}/empty"], "empty"),
    (["--dataset", "{m}/none/at/all"], "none/at/all does not exist"),
    (["--dataset", "{m}/oblong"], r"b\.png is 64×40 px, not square"),
    (["--config", "{m}/unknown.yaml"], "stepz"),
    (["--config", "{m}/none.yaml"], "none.yaml"),
    (["--batch_size", "0"], "--batch_size must be at least 1"),
    (["--prune_only", "true"], "name it with --init"),
    (["--init", "{m}/codeformer"], "is a CodeFormerFaceEnhancer, which can only be a --teacher"),
    (["--coefficients", '{"snow": 1}'], "snow"),
    (["--rounds", "2", "--first_reduction", "2"], "too few"),
    (["--resume", "{m}/backbone"], "holds no run to go on with"),
    (["--teacher", "{m}/backbone", "--loss.distillation_weight", "1"], "expected FaceEnhancer or GPENFaceEnhancer or"),
    (["--recognizer", "{m}/backbone", "--loss.similarity_weight", "1"], "no face recognizer"),
    (["--loss.perceptual_weight", "1"], "perceptual_backbone"),
    (["--reduction.target", "0"], "target"),
    (["--reduction.target", "0.001", "--reduction.multiple", "8"], "cannot be reached"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_one_clear_line_and_leaves_nothing(train, faces, prepared, tmp_path, capsys, arguments, message):
    arguments = [argument.replace("{m}", str(prepared)) for argument in arguments]
    with pytest.raises((SystemExit, ValueError, OSError)) as raised:
        train(faces, tmp_path / "out", *QUICK, *arguments)
    if raised.type is SystemExit:  # of the argument parser: what it says is on the screen
        line = capsys.readouterr().err.strip().split("error: ")[-1]
    else:
        line = str(raised.value)
        assert "\n" not in line
    assert re.search(message, line)
    assert not (tmp_path / "out").exists()


def test_a_mistake_shows_no_traceback(faces, tmp_path):
    process = run(*command(faces, tmp_path / "out", *QUICK, "--batch_size", 0))
    assert process.returncode == 1
    assert last_line(process) == "train.py: --batch_size must be at least 1; got 0."


def test_a_resume_with_other_options_is_refused(train, faces, straight):
    out = straight[0]
    with pytest.raises(ValueError, match=r"other options \(validation: .* → None, learning_rate: 0.001 → 0.5\)"):
        train(faces, out, *QUICK, "--learning_rate", 0.5, "--resume", "latest")
    with pytest.raises(ValueError, match="holds a run. Pass --resume latest"):
        train(faces, out, *QUICK)


def test_a_discriminator_that_is_not_finite_ends_the_run(train, faces, tmp_path, capsys):
    wild = ["--discriminator_learning_rate", 1e30, "--loss.adversarial_weight", 0, "--max_nonfinite", 2]
    with pytest.raises(ValueError, match=r"2 steps in a row were not finite. The last good checkpoint is .*step_"):
        train(faces, tmp_path, *ONE_ROUND, *wild)
    printed = capsys.readouterr().out
    assert printed.count("the discriminator's loss or gradient is not finite; its step is skipped") == 2


def test_patience_begins_with_the_second_phase(train, faces, tmp_path, capsys):
    """Nothing is learned, so no evaluation but the first improves: there is one of them in each phase."""
    arguments = [*ONE_ROUND, "--learning_rate", 0, "--rounds", 5, "--tune_rounds", 3, "--dynamic", "false"]
    arguments += ["--loss.adversarial_weight", 0, "--patience", 1, "--validation", faces]
    train(faces, tmp_path, *arguments)
    assert [line["phase"] for line in rounds(tmp_path)] == ["reduce", "reduce", "tune"]
    assert re.search("^Ended: no improvement in 1 evaluations", capsys.readouterr().out, re.M)


def test_samples_that_cannot_be_written_cost_only_themselves(train, faces, tmp_path, capsys):
    (tmp_path / "samples").write_text("a file in the folder's place")
    train(faces, tmp_path, *ONE_ROUND)
    assert re.search(r"^The samples of round 0 could not be written \(.*\); training", capsys.readouterr().out, re.M)
    assert (tmp_path / "checkpoints" / "step_00000004").is_dir() and len(rounds(tmp_path)) == 1


def test_a_run_goes_on_where_its_folder_was_moved_to(train, faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(faces, "first", *ONE_ROUND)
    (tmp_path / "first").rename(tmp_path / "moved")
    train(faces, tmp_path / "moved", *ONE_ROUND, "--resume", "latest")
    assert [line["round"] for line in rounds(tmp_path / "moved")] == [0]
