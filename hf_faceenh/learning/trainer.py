"""The training method: acquisition, first training, adjustment, second training.

`Trainer` is the method and reads from top to bottom. The pieces that it puts together are modules of their own, each
with tests: `acquisition` (samples), `learner` (networks, optimisers), `schedule` (phases, learning rate, end),
`curriculum` (coefficients), `reduction` (channels), `agreement` (between processes), `validation`, `records`,
`checkpoints`.
"""

import sys
import time
from dataclasses import asdict

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from tqdm.auto import tqdm

from hf_faceenh.files import written_whole
from hf_faceenh.learning import schedule
from hf_faceenh.learning.acquisition import Acquisition, Batch
from hf_faceenh.learning.agreement import Agreement
from hf_faceenh.learning.checkpoints import Checkpoints, save_state, spared
from hf_faceenh.learning.curriculum import Curriculum, Decision, DiscriminatorMeans, TypeErrors
from hf_faceenh.learning.data import Coefficients
from hf_faceenh.learning.learner import Learner
from hf_faceenh.learning.options import TrainingOptions, flat
from hf_faceenh.learning.records import Records, described_decision, described_reduction, summary
from hf_faceenh.learning.reduction import Reducer, Reduction, check_target, macs
from hf_faceenh.learning.schedule import Progress
from hf_faceenh.learning.validation import Validation


class TrainingError(ValueError):
    """The run cannot go on; one line says why and what to do."""


class Trainer:
    """One training run.

    Args:
        options: of the run, as `TrainingOptions.in_effect` gives them.
        accelerator: of this process.

    Raises:
        ValueError, OSError: in one line, for options that cannot be used; nothing has been written by then.
    """

    def __init__(self, options: TrainingOptions, accelerator: Accelerator):
        self.options, self.accelerator = options, accelerator
        self.progress = Progress(phase=schedule.first_phase(options))
        self.agreement = Agreement(accelerator)
        self.checkpoints = Checkpoints(options.checkpoint_dir, options.keep_checkpoints)
        self.records = Records(options.output_dir)
        checkpoint = self.checkpoints.chosen(options.resume, self.say)

        self.learner = Learner(options, accelerator, checkpoint)
        self.first_macs = macs(self.learner.model)
        if options.reduction.target < 1 and not checkpoint:  # a resumed network is smaller: its target was checked
            check_target(self.learner.model, options.reduction, self.first_macs)
        self.acquisition = Acquisition(options, self.learner.size, accelerator)
        self.validation = Validation(options, self.learner.size, accelerator, self.learner.recognizer)
        self.curriculum = Curriculum(options.curriculum)
        self.reducer = Reducer(options.reduction, self.first_macs)
        self.type_errors = TypeErrors()
        if checkpoint:
            self.load_state_dict(torch.load(checkpoint / "state.pt", map_location="cpu", weights_only=True))
        elif accelerator.is_main_process:
            self.records.restore(0, [])  # lines of a run that was stopped before its first checkpoint
        self.learner.prepare()

    # The method

    def run(self) -> str:
        """Trains to the end; returns what ended it."""
        self.started = time.monotonic()
        total, quiet = self.options.rounds * self.options.steps_per_round, not self.accelerator.is_main_process
        with self.agreement.listening(), tqdm(total=total, initial=self.progress.step, disable=quiet) as self.bar:
            self.acquisition.begin(self.progress)
            try:
                self.first_training()
                self.second_training()
            finally:
                broken = self.acquisition.end()
        if self.stopping:
            return f"SIGTERM: stopped after step {self.progress.step}; go on with --resume latest"
        if broken:
            self.say(f"{broken} pictures could not be read and were passed over.")
        return schedule.end(self.options, self.progress)

    def first_training(self) -> None:
        """Trains the network that is to be reduced. Every round ends with an adjustment, until the last reduction."""
        while self.progress.phase == "reduce" and self._goes_on():
            self._round()

    def second_training(self) -> None:
        """Trains the reduced network further, at a falling learning rate, until the end condition holds."""
        while self._goes_on():
            self._round()

    def _goes_on(self) -> bool:
        return not self.stopping and not schedule.end(self.options, self.progress)

    def _round(self) -> None:
        """The steps of a round (after a resume, the rest of them), then the round's end."""
        options, progress = self.options, self.progress
        while not self.stopping:
            self.train(self.acquire())
            if progress.step % options.steps_per_round == 0:
                return self._end_round()
            if self.stopping or progress.step % options.checkpoint_every == 0:
                self.save()

    def acquire(self) -> list[Batch]:
        """Acquisition: the next step's samples, sharp faces and the same degraded with this round's coefficients.
        The enhancer restores them in `train`; the round's last ones are held for `assess`."""
        return self.acquisition.samples()

    def train(self, batches: list[Batch]) -> None:
        """One optimiser step of the enhancer, and one of the discriminator."""
        learner, progress, every = self.learner, self.progress, self.options.discriminator_every
        learner.set_rate(self.options.learning_rate * schedule.rate_share(self.options, progress))
        enhanced, decisive, terms = learner.enhancer_gradient(batches, progress.step)
        finite, values = self.agreement.read(decisive, terms)
        learner.step_enhancer(finite)
        for batch, faces in zip(batches, enhanced, strict=True):
            self.type_errors.add(faces, batch["hq"], batch["lq"], batch["tags"])

        if finite and learner.discriminator and progress.step % every == 0:
            decisive, terms = learner.discriminator_gradient(batches, enhanced, progress.step // every)
            sound, others = self.agreement.read(decisive, terms)
            learner.step_discriminator(sound)
            values |= others if sound else {}
            what = "the discriminator's loss or gradient is not finite; its step"
            progress.discriminator_skipped = self._skipped(progress.discriminator_skipped, sound, what)
        progress.skipped = self._skipped(progress.skipped, finite, "a loss or gradient is not finite; the step")

        progress.step += 1
        if finite:
            progress.add_losses(values)
            self.bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()}, refresh=False)
        self.bar.update()

    def assess(self) -> dict[str, float] | None:
        """Acquisition, at the round's end: the enhancer restores the faces held, and the discriminator's means over
        them, over the sharp ones, and over the same at the worst damage are taken; `None` without discriminator."""
        self.type_errors.load(self.agreement.sum(self.type_errors.sums()))
        if self.learner.discriminator is None:
            return None
        means = DiscriminatorMeans()
        for number, batch in enumerate(self.acquisition.held):
            means.add(**self.learner.logits(batch, self.acquisition.worst(batch, number)))
        means.load(self.agreement.sum(means.sums()))
        return means.means()

    def adjust(self, means: dict[str, float] | None) -> tuple[Decision | None, Reduction | None]:
        """Adjustment: the means give the augmentation factor, which decides the next round's coefficients; and where a
        reduction is due, every layer is reduced by as much as the quality after it allows."""
        decision = reduction = None
        if self.options.dynamic:
            coefficients = self.acquisition.coefficients.values()
            decision = self.curriculum.decide(means, self.type_errors.means(), coefficients)
        if schedule.reduction_due(self.options, self.progress):
            reduction = self.reduce()
        return decision, reduction

    def reduce(self) -> Reduction:
        """A ratio per layer, trials, relaxation (see `Reducer.reduce`); the learner continues with what is left."""
        reduction = self.reducer.reduce(
            self.learner.plain,
            list(self.acquisition.held),
            loss=lambda enhanced, batch: (enhanced - batch["hq"]).abs().mean(),
            recognizer=self.learner.recognizer,
            average=lambda values: self.accelerator.reduce(values, "mean"),
        )
        if reduction.macs_after < reduction.macs_before:
            self.learner.follow(reduction)
        return reduction

    # Parts of it

    @property
    def stopping(self) -> bool:
        """Whether the run stops because a process was asked to; the same in all processes."""
        return self.agreement.stopping

    def _skipped(self, before: int, finite: bool, what: str) -> int:
        """Counts the steps skipped in a row, `before` this one and with it; says so, and ends a run with too many."""
        if finite:
            return 0
        self.say(f"step {self.progress.step + 1}: {what} is skipped.")
        if before + 1 >= self.options.max_nonfinite:
            raise TrainingError(
                f"{before + 1} steps in a row were not finite. The last good checkpoint is {self.checkpoints.last()}; "
                "go on from it with a lower learning_rate."
            )
        return before + 1

    def _end_round(self) -> None:
        """The discriminator's means and the adjustment, then what is shown and saved of the round.

        The checkpoint, which holds the round's line too, comes before the records, so that a full disk costs no round.
        """
        progress = self.progress
        torch.manual_seed(self.options.seed + progress.round)  # what a decision draws is the same after a resume
        means = self.assess()
        decision, reduction = self.adjust(means)
        figures, columns = self.validation.assess(self.learner.averaged, self.acquisition.held[-1])
        line = self._line(means, decision, reduction, figures)
        self._keep_best((line["macs"], figures["relative_error"]) if figures else None)
        reduced = reduction and (reduction.macs_before, reduction.macs_after)
        if reason := schedule.reductions_over(self.options, progress, self.first_macs, reduced):
            progress.begin_tuning(reason)
        progress.begin_round()
        self.type_errors = TypeErrors()
        self.acquisition.next_round(progress.round, decision.coefficients if decision else {})
        self.records.add(line)
        self.save()
        if self.accelerator.is_main_process:
            self.say(summary(line))
            self.records.save(line["round"], columns, self.say)
        with spared(f"The trackers' figures of round {line['round']}", self.say):
            numbers = {name: value for name, value in flat(line).items() if isinstance(value, (int, float))}
            self.accelerator.log(numbers, step=line["step"])

    def _line(
        self,
        means: dict[str, float] | None,
        decision: Decision | None,
        reduction: Reduction | None,
        figures: dict[str, float] | None,
    ) -> dict:
        """What rounds.jsonl says about the round that ends here."""
        progress = self.progress
        return {
            "round": progress.round,
            "step": progress.step,
            "phase": progress.phase,
            "means": means,
            "coefficients": self.acquisition.coefficients.values(),
            **described_decision(decision),
            "type_errors": self.type_errors.means(),
            "losses": progress.mean_losses(self.agreement.sum),
            "validation": figures,
            "macs": macs(self.learner.plain),
            "reduction": described_reduction(reduction),
            "seconds": round(time.monotonic() - self.started, 1),
        }

    # What is kept

    def _keep_best(self, rank: schedule.Rank | None) -> None:
        """Saves the averaged weights to OUT/enhancer if they are the best so far of the smallest network so far.

        The relative error decides, as in the loss: a mean PSNR depends on a few almost perfect inputs.
        Without validation faces (`rank` is `None`), the latest are kept.
        """
        if rank and not schedule.is_better(rank, self.progress.best):
            self.progress.stale += 1
            return
        self.progress.stale, written = 0, False
        folder = self.options.output_dir / "enhancer"
        if self.accelerator.is_main_process:
            with spared(folder, self.say), written_whole(folder) as partial:
                self.learner.averaged().save_pretrained(partial)
                written = True
        (written,) = broadcast_object_list([written])
        if rank and written:
            self.progress.best = rank

    def save(self) -> None:
        """A checkpoint, whole or not at all. A full disk does not end the run: the one before it stays."""
        if self.accelerator.is_main_process:
            step, state = self.progress.step, self.state_dict()
            advice = f"The last one is {self.checkpoints.last()}; make room on the disk."
            with spared(f"The checkpoint of step {step}", self.say, advice), self.checkpoints.writing(step) as folder:
                self.learner.plain.save_pretrained(folder / "enhancer")
                save_state(state, folder / "state.pt")
        self.accelerator.wait_for_everyone()

    def state_dict(self) -> dict:
        """What a resumed run needs besides the enhancer's weights. No generators: nothing in a step is random."""
        return self.learner.state_dict() | {
            "progress": asdict(self.progress),
            "first_macs": self.first_macs,
            "coefficients": self.acquisition.coefficients.values(),
            "curriculum": self.curriculum.state_dict(),
            "reducer": self.reducer.state_dict(),
            "type_errors": self.type_errors.sums(),
            "records": list(self.records.pending),
        }

    def load_state_dict(self, state: dict) -> None:
        self.learner.load_state_dict(state)
        self.progress = Progress(**state["progress"])
        self.first_macs = state["first_macs"]
        self.reducer = Reducer(self.options.reduction, self.first_macs)
        self.reducer.load_state_dict(state["reducer"])
        self.acquisition.coefficients = Coefficients(self.acquisition.coefficients.values() | state["coefficients"])
        self.curriculum.load_state_dict(state["curriculum"])
        self.type_errors.load(state["type_errors"])
        if self.accelerator.is_main_process:
            self.records.restore(self.progress.round, state.get("records", []))

    def say(self, line: str) -> None:
        if self.accelerator.is_main_process:
            tqdm.write(line)
            sys.stdout.flush()
