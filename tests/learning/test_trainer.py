"""The trainer in this process, with a network of 32 px."""

import errno
import json
import math
import os
import signal

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from PIL import Image
from tiny import SMALL
from training_pieces import resnet

from hf_faceenh.learning.degradation import TYPES
from hf_faceenh.learning.discriminators import DiscriminatorConfig
from hf_faceenh.learning.learner import count_on_host
from hf_faceenh.learning.losses import DiscriminatorLoss, LossConfig
from hf_faceenh.learning.options import TrainingOptions
from hf_faceenh.learning.records import Records
from hf_faceenh.learning.reduction import ReductionConfig
from hf_faceenh.learning.trainer import Trainer, TrainingError


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    y, x = np.mgrid[:32, :32]
    for index in range(4):
        disc = ((x - 16) ** 2 + (y - 14 - index) ** 2 < 40) * 120
        Image.fromarray(np.stack([x * 3 + disc, y * 3, disc + index], 2).astype(np.uint8)).save(
            folder / f"{index}.png"
        )
    return folder


@pytest.fixture
def make(faces, tmp_path):
    """Makes a trainer; by default, of two rounds of three steps, all tuning, with a discriminator."""

    def trainer(**changes):
        AcceleratorState._reset_state(reset_partial_state=True)
        torch.manual_seed(0)
        settings = {
            **{"rounds": 2, "tune_rounds": 2, "steps_per_round": 3, "batch_size": 2, "assessed_faces": 2},
            **{"enhancer": SMALL, "discriminator": DiscriminatorConfig(narrow=0.03), "num_workers": 0},
            **{"reduction": ReductionConfig(target=1), "loss": LossConfig(adversarial_weight=0)},
        }
        options = TrainingOptions(dataset=str(faces), output_dir=tmp_path / "run", **settings | changes)
        options.output_dir.mkdir(exist_ok=True)
        return Trainer(options.in_effect(), Accelerator(cpu=True, mixed_precision=options.mixed_precision))

    yield trainer
    AcceleratorState._reset_state(reset_partial_state=True)


def rounds(folder):
    return [json.loads(line)["round"] for line in (folder / "run" / "rounds.jsonl").read_text().splitlines()]


def spoiled(monkeypatch, steps):
    """Makes the discriminator's loss not a number at these of its steps."""
    forward = DiscriminatorLoss.forward

    def spoil(self, discriminator, hq, enhanced, lq, step=0):
        terms = forward(self, discriminator, hq, enhanced, lq, step)
        return {name: value * math.nan for name, value in terms.items()} if step in steps else terms

    monkeypatch.setattr(DiscriminatorLoss, "forward", spoil)


def test_a_discriminators_loss_that_is_not_finite_costs_one_step(make, monkeypatch, capsys):
    spoiled(monkeypatch, {1})
    trainer = make()
    trainer.run()
    assert (
        "step 2: the discriminator's loss or gradient is not finite; its step is skipped." in capsys.readouterr().out
    )
    assert all(parameter.isfinite().all() for parameter in trainer.learner.discriminator.parameters())
    steps = {int(state["step"]) for state in trainer.learner.discriminator_optimizer.state.values()}
    assert steps == {5} and {int(state["step"]) for state in trainer.learner.optimizer.state.values()} == {6}


def test_a_discriminator_that_stays_so_ends_the_run_though_its_steps_lie_apart(make, monkeypatch):
    spoiled(monkeypatch, range(100))
    with pytest.raises(TrainingError, match="2 steps in a row were not finite"):
        make(discriminator_every=2, max_nonfinite=2).run()


def test_a_full_disk_at_the_records_costs_neither_checkpoint_nor_line(make, monkeypatch, capsys, tmp_path):
    write, full = Records.write, [True]

    def written(self):
        assert (tmp_path / "run" / "checkpoints" / f"step_{3 * (self.pending[-1]['round'] + 1):08d}").is_dir()
        if full.pop() if full else False:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self)

    monkeypatch.setattr(Records, "write", written)
    monkeypatch.setattr(Records, "save_sheet", lambda *_: os.truncate(tmp_path / "none", 0))
    trainer = make()
    trainer.run()
    printed = capsys.readouterr().out
    assert (
        "The line of round 0 could not be written ([Errno 28] No space left on device); training goes on." in printed
    )
    assert printed.count("The samples of round") == 2 and rounds(tmp_path) == [0, 1]


def test_a_stop_between_checkpoint_and_records_neither_loses_nor_doubles_a_line(make, monkeypatch, tmp_path):
    def stop(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Records, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            make().run()
    assert not (tmp_path / "run" / "rounds.jsonl").exists()
    resumed = make(resume="latest")
    assert resumed.progress.step == 3 and rounds(tmp_path) == [0]
    resumed.run()
    assert rounds(tmp_path) == [0, 1]


def test_sigterm_ends_after_the_step_and_is_then_heard_as_before(make, monkeypatch, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    trainer = make()
    train = trainer.train

    def told(batches):
        train(batches)
        if trainer.progress.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            assert trainer.agreement.asked and not trainer.stopping  # not before all have agreed

    monkeypatch.setattr(trainer, "train", told)
    assert trainer.run() == "SIGTERM: stopped after step 2; go on with --resume latest"
    assert (tmp_path / "run" / "checkpoints" / "step_00000002").is_dir()
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_enhancer_that_could_not_be_written_is_not_taken_for_the_best(make, monkeypatch, faces):
    trainer = make(validation=str(faces))
    save, tried = type(trainer.learner.plain).save_pretrained, []

    def saved(self, folder, **options):
        if folder.name.endswith(".part"):
            tried.append(folder)
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, folder, **options)

    monkeypatch.setattr(type(trainer.learner.plain), "save_pretrained", saved)
    trainer._keep_best((1000, -0.5))
    trainer._keep_best((1000, -0.1))
    assert trainer.progress.best is None and len(tried) == 2


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbone")
    torch.manual_seed(0)
    resnet().save_pretrained(folder)
    return str(folder)


PROJECTED = DiscriminatorConfig(kind="projected", layers=(0, 1), width=8, parts=True)


def test_for_the_factor_alone_the_discriminator_is_trained_without_an_adversarial_loss(make, backbone, tmp_path):
    trainer = make(discriminator=PROJECTED, perceptual_backbone=backbone, loss=LossConfig(adversarial_weight=0))
    state = trainer.learner.discriminator.state_dict()
    before = {name: value.clone() for name, value in state.items() if name.endswith("weight.original")}
    trainer.run()
    (line, _) = map(json.loads, (tmp_path / "run" / "rounds.jsonl").read_text().splitlines())
    assert line["losses"].keys() == {"pixel", "discriminator"}
    assert all(math.isfinite(mean) for mean in line["means"].values()) and len(set(line["means"].values())) == 3
    after = trainer.learner.discriminator.state_dict()
    assert all(not torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_resumed_adversarial_run_ends_with_the_same_networks_bit_for_bit(make, backbone, tmp_path, precision):
    loss = LossConfig(adversarial_weight=0.01, matching_weight=0.1, augmentation=0.3, adversarial_by_damage=0.5)
    settings = {"discriminator": PROJECTED, "perceptual_backbone": backbone, "loss": loss, "checkpoint_every": 2}
    settings |= {"mixed_precision": precision, "keep_checkpoints": 9}
    straight = make(**settings)
    straight.run()
    (line, _) = map(json.loads, (tmp_path / "run" / "rounds.jsonl").read_text().splitlines())
    assert {"adversarial", "matching", "discriminator"} <= line["losses"].keys()
    for step in (2, 3):  # within a round, and where its end has just been assessed
        resumed = make(**settings, resume=str(tmp_path / "run" / "checkpoints" / f"step_{step:08d}"))
        assert resumed.progress.step == step
        resumed.run()
        for ours, theirs in (
            (resumed.learner.discriminator.state_dict(), straight.learner.discriminator.state_dict()),
            (resumed.learner.plain.state_dict(), straight.learner.plain.state_dict()),
        ):
            assert all(torch.equal(ours[name], value) for name, value in theirs.items())
        assert resumed.progress == straight.progress


def test_a_checkpoint_holds_the_heads_and_not_the_backbone(make, backbone, tmp_path):
    make(discriminator=PROJECTED, perceptual_backbone=backbone, rounds=1, tune_rounds=1).run()
    state = torch.load(tmp_path / "run" / "checkpoints" / "step_00000003" / "state.pt", weights_only=True)
    assert {name.split(".")[0] for name in state["discriminator"]} == {"face", "eyes", "mouth"}


def test_the_worst_damage_is_the_same_in_every_round_and_no_less_than_the_rounds_own(make):
    trainer = make(coefficients=dict.fromkeys(TYPES, 0.1))
    trainer.acquisition.begin(trainer.progress)
    for _ in range(3):
        trainer.acquire()
    batch = trainer.acquisition.held[-1]
    worst = trainer.acquisition.worst(batch, 0)
    assert worst.shape == batch["hq"].shape and worst.abs().max() <= 1
    assert (worst - batch["hq"]).abs().mean() > 1.5 * (batch["lq"] - batch["hq"]).abs().mean()
    assert torch.equal(worst, trainer.acquisition.worst(batch, 0))
    assert not torch.equal(worst, trainer.acquisition.worst(batch, 1))
    trainer.acquisition.end()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"discriminator": DiscriminatorConfig(kind="projected")}, "there is no perceptual_backbone"),
        ({"loss": LossConfig(matching_weight=1)}, "only the features of discriminator.kind projected are compared"),
    ],
)
def test_a_discriminator_that_cannot_be_made_is_one_clear_line(make, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        make(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="only there counts lie elsewhere than parameters")
def test_steps_are_counted_on_the_host_after_a_resume():
    parameter = torch.nn.Parameter(torch.ones(3, device="cuda"))
    optimizer = torch.optim.Adam([parameter])
    optimizer.state[parameter] = {"step": torch.tensor(3.0, device="cuda")}
    count_on_host(optimizer)
    assert optimizer.state[parameter]["step"].device.type == "cpu"
