"""All settings of a training run, with their defaults."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml

from hf_faceenh.learning.checkpoints import Checkpoints
from hf_faceenh.learning.curriculum import CurriculumConfig
from hf_faceenh.learning.discriminators import DiscriminatorConfig
from hf_faceenh.learning.losses import LossConfig
from hf_faceenh.learning.reduction import ReductionConfig
from hf_faceenh.learning.scripts import as_list

# Options that may change when a run is resumed.
FREE = {
    *("output_dir", "resume", "rounds", "num_workers", "report_to", "push_to_hub"),
    *("keep_checkpoints", "checkpoint_every"),
}
SAVED = "options.yaml"  # in the folder of a run


@dataclass
class TrainingOptions:
    """Settings of `training/train.py`.

    Args:
        dataset: sharp, aligned faces: a folder, Parquet or WebDataset files, or a name on the Hub; or several of them.
        output_dir: gets rounds.jsonl, samples/, checkpoints/ and enhancer/.
        streaming: read the dataset as a stream instead of as a table.
        validation: other sharp, aligned faces, likewise; degraded once, they give the figures after each round.
        validation_faces: how many of them, at most.
        init: enhancer to start from (folder or Hub name) instead of random weights.
        grow: go on from `init` with faces so many times as large, which it then reads and writes in squares of pixels.
        enhancer: arguments of a new FaceEnhancer.
        teacher: enhancer (folder or Hub name, or one that `hf-faceenh models` lists) whose features the distillation
            loss follows, whose images the imitation loss.
        recognizer: face recognizer (folder or Hub name) for the similarity loss and the quality of a layer.
        perceptual_backbone: transformers vision model (folder or Hub name) for the perceptual loss and the projected
            discriminator.
        coefficients: degradation type → coefficient in [0, 1] of the first round; 0.5 for those not named.
        probabilities: degradation type → probability in [0, 1], where it is not the default.
        super_resolver: the pipeline's (folder or Hub name), if the enhancer is to see what the pipeline shows it: the
            mean of a degraded face and the same super-resolved.
        super_resolved_share: of the degraded faces, which become such means.
        dynamic: adjust the coefficients after each round by the augmentation factor; else they stay.
        prune_only: reduce `init` to the target without discriminator, distilling from the unreduced network.
        rounds: most rounds of the run.
        steps_per_round: optimiser steps of a round.
        first_reduction: rounds before the first reduction, which comes at the end of the last of them; at least 1.
        reduce_every: rounds from one reduction to the next.
        tune_rounds: rounds at the end, after the last reduction, in which the learning rate falls, at least 1.
        patience: evaluations without improvement in those rounds that end the run; 0: none do.
        batch_size: faces per process and backward pass.
        gradient_accumulation_steps: backward passes per optimiser step.
        learning_rate: of the enhancer (Adam).
        discriminator_learning_rate: of the discriminator (Adam).
        discriminator_every: steps from one step of the discriminator to its next; 1: it learns in every step.
        warmup_steps: steps over which the learning rate rises from 0.
        schedule: how the learning rate falls to 0 in the rounds at the end; constant: not at all.
        max_grad_norm: longest gradient; longer ones are shortened to it.
        ema_decay: of the averaged weights, which are the ones that are saved and evaluated.
        mixed_precision: no, fp16 or bf16.
        compile: compile the enhancer (torch.compile).
        assessed_faces: faces per process and round for the discriminator's means and the quality of layers.
        seed: of everything random.
        num_workers: processes per process that make the pairs.
        checkpoint_every: steps from one checkpoint to the next; there is one after each round as well.
        keep_checkpoints: how many of them stay.
        max_nonfinite: steps in a row with a loss or gradient that is not finite that stop the run.
        resume: "latest", or a checkpoint's folder, to go on from; without any checkpoint "latest" starts anew.
        report_to: trackers by name: tensorboard, trackio, wandb.
        push_to_hub: Hub repository that gets the finished pipeline.
        discriminator: which discriminator, and how large.
        loss: weights of the losses.
        curriculum: how the coefficients follow the augmentation factor.
        reduction: how channels are reduced; a target of 1 reduces nothing.
    """

    dataset: list[str] | str
    output_dir: Path
    streaming: bool = False
    validation: str | None = None
    validation_faces: int = 48
    init: str | None = None
    grow: int = 1
    enhancer: dict = field(default_factory=dict)
    teacher: str | None = None
    recognizer: str | None = None
    perceptual_backbone: str | None = None
    coefficients: dict[str, float] = field(default_factory=dict)
    probabilities: dict[str, float] = field(default_factory=dict)
    super_resolver: str | None = None
    super_resolved_share: float = 0.5
    dynamic: bool = True
    prune_only: bool = False
    rounds: int = 40
    steps_per_round: int = 500
    first_reduction: int = 10
    reduce_every: int = 1
    tune_rounds: int = 10
    patience: int = 0
    batch_size: int = 8
    gradient_accumulation_steps: int = 1
    learning_rate: float = 1e-3
    discriminator_learning_rate: float = 1e-3
    discriminator_every: int = 1
    warmup_steps: int = 100
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    compile: bool = False
    assessed_faces: int = 64
    seed: int = 0
    num_workers: int = 1
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    max_nonfinite: int = 10
    resume: str | None = None
    report_to: list[str] = field(default_factory=list)
    push_to_hub: str | None = None
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    reduction: ReductionConfig = field(default_factory=ReductionConfig)

    def __post_init__(self):
        counts = (
            *("rounds", "steps_per_round", "tune_rounds", "reduce_every", "batch_size", "gradient_accumulation_steps"),
            *("discriminator_every", "assessed_faces", "checkpoint_every", "keep_checkpoints", "max_nonfinite"),
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1; got {getattr(self, name)}.")
        if not self.datasets:
            raise ValueError("--dataset names no dataset: give one or several.")
        if not 0 <= self.super_resolved_share <= 1:
            raise ValueError(f"--super_resolved_share must be in [0, 1]; got {self.super_resolved_share}.")
        if self.grow < 1 or (self.grow > 1 and not (self.init or self.resume)):
            raise ValueError("--grow is a whole number from 1 up, and above 1 it needs the enhancer of --init.")
        if self.prune_only and not (self.init or self.resume):
            raise ValueError("--prune_only reduces an existing model: name it with --init.")
        if self.loss.matching_weight and self.discriminator.kind != "projected":
            raise ValueError(
                "loss.matching_weight is above 0, but only the features of discriminator.kind projected are compared; "
                "choose that, or weigh it 0."
            )
        if self.reduction.target < 1 and self.first_reduction + self.tune_rounds > self.rounds:
            raise ValueError(
                f"{self.rounds} rounds are too few for {self.first_reduction} before the first reduction and "
                f"{self.tune_rounds} after the last: raise --rounds, or lower --first_reduction or --tune_rounds."
            )

    @property
    def datasets(self) -> list[str]:
        """Names of the datasets, also where it is only one."""
        return as_list(self.dataset)

    @property
    def checkpoint_dir(self) -> Path:
        """Of the run's checkpoints."""
        return self.output_dir / "checkpoints"

    @property
    def needs_discriminator(self) -> bool:
        """For the augmentation factor, or for a loss."""
        return bool(self.dynamic or self.loss.adversarial_weight or self.loss.matching_weight)

    def in_effect(self) -> "TrainingOptions":
        """The same, with what `prune_only` means: no discriminator, and distillation at any rate."""
        if not self.prune_only:
            return self
        distilled = self.loss.distillation_weight or 1.0
        weights = {"adversarial_weight": 0.0, "matching_weight": 0.0, "distillation_weight": distilled}
        return dataclasses.replace(self, dynamic=False, loss=dataclasses.replace(self.loss, **weights))


def check_run(options: TrainingOptions, text: str) -> None:
    """Looks at the run that `output_dir` holds, before a run begins or goes on there.

    Args:
        options: of the run that begins or goes on.
        text: all of them as YAML.

    Raises:
        ValueError: if there is a run and it is not resumed, or none and its checkpoint is named, or one with other
            options. What was stopped before its first checkpoint and its first line is no run yet, and with
            `resume` "latest" what was stopped before its first checkpoint starts anew.
    """
    saved = options.output_dir / SAVED
    checkpoints = Checkpoints(options.checkpoint_dir).all()
    if options.resume is None:
        if checkpoints or (options.output_dir / "rounds.jsonl").exists():
            raise ValueError(f"{options.output_dir} holds a run. Pass --resume latest, or another --output_dir.")
        return
    if options.resume == "latest" and not checkpoints:
        return
    if not saved.exists():
        raise ValueError(f"{options.output_dir} holds no run to go on with; start without --resume.")
    before, now = (flat(yaml.safe_load(settings)) for settings in (saved.read_text(), text))
    names = [name for name in before | now if name.split(".")[0] not in FREE]
    changed = [name for name in names if before.get(name) != now.get(name)]
    if changed:
        listed = ", ".join(f"{name}: {before.get(name)} → {now.get(name)}" for name in changed)
        raise ValueError(f"The run in {options.output_dir} had other options ({listed}). Use those, or start anew.")


def flat(values: dict, prefix: str = "") -> dict:
    """The values of a nested dictionary, by dotted names."""
    entries = {}
    for name, value in values.items():
        entries |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return entries
