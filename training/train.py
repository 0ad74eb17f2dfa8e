"""Trains a face enhancer by the whole method, in rounds, on any folder of sharp, aligned faces or `datasets` name.

    accelerate launch training/train.py --config training/configs/smoke.yaml --dataset FACES --output_dir OUT

A round: sharp faces are degraded with this round's coefficients, the enhancer restores them and is trained; then the
discriminator's means give the augmentation factor, which decides the next round's coefficients, and every layer's
channels are reduced by as much as the quality after it allows. `hf_faceenh/learning/` holds the pieces; here they are
wired to Accelerate and the command line. `--print_config` shows every setting with its default.

In OUT: rounds.jsonl (one line a round), samples/ (poor | enhanced | sharp), checkpoints/, and enhancer/, the best
averaged weights of the smallest network so far, a `from_pretrained` folder. `--resume latest` goes on after any stop.
"""

import contextlib
import json
import math
import shutil
import signal
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed
from diffusers.training_utils import EMAModel
from jsonargparse import ArgumentParser
from PIL import Image
from safetensors import SafetensorError
from tqdm.auto import tqdm

from hf_faceenh.hub import push_enhancer
from hf_faceenh.learning.allocator import keep_freed_memory
from hf_faceenh.learning.checkpoints import Checkpoints
from hf_faceenh.learning.curriculum import Curriculum, Decision, DiscriminatorMeans, TypeErrors
from hf_faceenh.learning.data import Coefficients, FacePairs, check_sizes, fixed_pairs, load_faces, training_loader
from hf_faceenh.learning.degradation import TYPES, Degradation
from hf_faceenh.learning.identity import load_recognizer
from hf_faceenh.learning.losses import DiscriminatorLoss, EnhancerLoss, relative_l1
from hf_faceenh.learning.metrics import INPUT, as_batch, as_pictures, face_metrics, mean_with_interval
from hf_faceenh.learning.options import TrainingOptions
from hf_faceenh.learning.reduction import Reducer, Reduction, carry_optimizer, check_target, macs, reduce_tensors
from hf_faceenh.models import FaceDiscriminator, FaceEnhancer, FaceEnhancerOutput, load_enhancer, load_transformers
from hf_faceenh.models.discriminator import discriminator_config

BETAS = (0.9, 0.99)  # of Adam
SAMPLE_ROWS = 8  # of a round's picture
START_COEFFICIENT = 0.5
# What a resumed run may set otherwise than the run that it goes on from.
FREE = {"resume", "rounds", "num_workers", "report_to", "push_to_hub", "keep_checkpoints", "checkpoint_every"}
# What a full disk raises, by the library that meets it.
WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)


class TrainingError(ValueError):
    """The run cannot start or go on; one line says why and what to do."""


@dataclass
class Progress:
    """How far a run is; all that a checkpoint needs beside weights and the pieces' own states.

    Args:
        step: optimiser steps done.
        round: rounds done.
        phase: "reduce" until the last reduction, then "tune".
        reason: why the reductions ended; at the end of a run, why that ended.
        tune_from: step at which the second phase began.
        skipped: steps skipped in a row, because something was not finite.
        best: multiply-accumulates and relative error of what is in OUT/enhancer: less is better, the former first.
        stale: evaluations since then.
    """

    step: int = 0
    round: int = 0
    phase: str = "reduce"
    reason: str = ""
    tune_from: int = 0
    skipped: int = 0
    best: tuple[int, float] | None = None
    stale: int = 0
    losses: dict[str, list[float]] = field(default_factory=dict)  # name → sum, count of this round


class Trainer:
    """Everything that a run holds, and the way of one round."""

    def __init__(self, options: TrainingOptions, accelerator: Accelerator):
        self.options, self.accelerator = options, accelerator
        self.out = options.output_dir
        self.checkpoints = Checkpoints(self.out / "checkpoints", options.keep_checkpoints)
        self.progress = Progress(phase="reduce" if options.rounds > options.tune_rounds else "tune")
        self.stopping = False
        checkpoint = self._checkpoint_to_resume()

        if checkpoint:
            self.model = load_enhancer(checkpoint / "enhancer")
        else:
            self.model = load_enhancer(options.init) if options.init else FaceEnhancer(**options.enhancer)
        self.first_macs = macs(self.model)
        self.size = self.model.config.sample_size
        if options.reduction.target < 1 and not checkpoint:  # a resumed network is smaller: its target was checked
            check_target(self.model, options.reduction, self.first_macs)

        self.recognizer = load_recognizer(options.recognizer) if options.recognizer else None
        teacher = options.teacher or (options.init if options.prune_only else None)
        teacher = load_enhancer(teacher) if teacher else None
        self.loss = EnhancerLoss(
            options.loss,
            perceptual=load_transformers("--perceptual_backbone", options.perceptual_backbone),
            recognizer=self.recognizer,
            teacher=teacher,
            student=self.model,
        )
        self.discriminator_loss = DiscriminatorLoss(options.loss)
        self.discriminator = None
        if options.dynamic or options.loss.adversarial_weight:
            self.discriminator = FaceDiscriminator(**discriminator_config(self.size, **options.discriminator))

        self.faces = load_faces(options.dataset, streaming=options.streaming)
        check_sizes(self.faces, self.size)
        start = dict.fromkeys(TYPES, START_COEFFICIENT) | options.coefficients
        self.pairs = FacePairs(Degradation(start, options.probabilities), self.size)
        self.coefficients = Coefficients(start)
        self.validation = self._load_validation()

        self.curriculum = Curriculum(options.curriculum)
        self.reducer = Reducer(options.reduction, self.first_macs)
        self.type_errors = TypeErrors()
        per_process = -(-options.assessed_faces // options.batch_size)
        self.held = deque(maxlen=max(1, min(per_process, self.batches_per_round)))  # of this round's last batches

        self.ema = EMAModel(self.model.parameters(), decay=options.ema_decay, foreach=True)
        self.optimizer = torch.optim.Adam(self._parameters(), lr=options.learning_rate, betas=BETAS)
        self.discriminator_optimizer = None
        if self.discriminator:
            self.discriminator_optimizer = torch.optim.Adam(
                self.discriminator.parameters(), lr=options.discriminator_learning_rate, betas=(0.0, 0.99)
            )
        if checkpoint:
            self._load(checkpoint)
            self._forget_later_rounds()
        self._prepare()

    # Set-up

    @property
    def batches_per_round(self) -> int:
        return self.options.steps_per_round * self.options.gradient_accumulation_steps

    @property
    def plain(self) -> torch.nn.Module:
        """The enhancer without what Accelerate puts around it."""
        return self.accelerator.unwrap_model(self.model)

    def _parameters(self) -> list[torch.nn.Parameter]:
        """The enhancer's, and those of the distillation's adapters."""
        return [*self.model.parameters(), *(p for p in self.loss.parameters() if p.requires_grad)]

    def _load_validation(self):
        if not self.options.validation:
            return None
        faces = load_faces(self.options.validation)
        faces = faces.select(range(min(self.options.validation_faces, len(faces))))
        check_sizes(faces, self.size)
        return fixed_pairs(faces, Degradation(probabilities=self.options.probabilities), self.size, self.options.seed)

    def _prepare(self) -> None:
        """Hands model and optimisers to Accelerate; again after each reduction, which makes new ones.

        The discriminator's gradients are averaged by hand: it runs twice before each backward pass, and R1 goes
        through its gradient, neither of which DistributedDataParallel likes.
        """
        accelerator = self.accelerator
        accelerator.free_memory()
        self.model = self.model.train().to(accelerator.device, memory_format=torch.channels_last)
        if self.options.compile:
            self.model.compile()
        self.model, self.optimizer = accelerator.prepare(self.model, self.optimizer)
        self.loss.to(accelerator.device, memory_format=torch.channels_last)
        self.ema.to(accelerator.device)
        if self.recognizer:
            self.recognizer.to(accelerator.device)
        if self.discriminator:
            self.discriminator.to(accelerator.device)
            self.discriminator_optimizer = accelerator.prepare(self.discriminator_optimizer)

    # The run

    def run(self) -> str:
        """Trains to the end; returns what ended it."""
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopping", True))
        first = self._first_batch()
        loader = training_loader(
            self.faces,
            self.pairs,
            self.coefficients,
            batches=self.options.rounds * self.batches_per_round,
            first_batch=first,
            batches_per_round=self.batches_per_round,
            batch_size=self.options.batch_size,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            seed=self.options.seed,
            num_workers=self.options.num_workers,
        )
        self.coefficients.publish(self.progress.round, {})
        batches = (self._to_device(batch) for batch in loader)
        for _ in range(first, self.progress.step * self.options.gradient_accumulation_steps):
            self.held.append(next(batches))  # seen before the stop: only to be assessed at the round's end
        self.started = time.monotonic()
        total = self.options.rounds * self.options.steps_per_round
        with tqdm(total=total, initial=self.progress.step, disable=not self.accelerator.is_main_process) as self.bar:
            while not self._finished():
                self._step([next(batches) for _ in range(self.options.gradient_accumulation_steps)])
                if self.progress.step % self.options.steps_per_round == 0:
                    self._end_round()
                elif self.stopping or self.progress.step % self.options.checkpoint_every == 0:
                    self.save()
                if self.stopping:
                    return f"SIGTERM: stopped after step {self.progress.step}; go on with --resume latest"
        if broken := loader.broken:
            self.say(f"{broken} pictures could not be read and were passed over.")
        return self.progress.reason or f"the {self.options.rounds} rounds are used up"

    def _finished(self) -> bool:
        progress, options = self.progress, self.options
        if progress.phase == "tune" and progress.step > progress.tune_from:
            if progress.step - progress.tune_from >= self._tune_steps():
                return True
            if options.patience and progress.stale >= options.patience:
                progress.reason = f"no improvement in {progress.stale} evaluations"
                return True
        return progress.round >= options.rounds

    def _tune_steps(self) -> int:
        return min(self.options.tune_rounds, self.options.rounds) * self.options.steps_per_round

    def _first_batch(self) -> int:
        """Where the loader starts: the next batch, or the first of those that the round's end assesses."""
        following = self.progress.step * self.options.gradient_accumulation_steps
        assessed_from = (self.progress.round + 1) * self.batches_per_round - self.held.maxlen
        return min(following, max(assessed_from, self.progress.round * self.batches_per_round))

    def _to_device(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        device = self.accelerator.device
        return {name: values.to(device, non_blocking=True) for name, values in batch.items()}

    # One step

    def _step(self, batches: list[dict[str, torch.Tensor]]) -> None:
        """One optimiser step of the enhancer and one of the discriminator."""
        self._set_learning_rates()
        terms: dict[str, float] = {}
        finite = True
        enhanced = []
        for index, batch in enumerate(batches):
            self.held.append(batch)
            last = index + 1 == len(batches)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                output = self.enhance(batch["lq"], return_features=self.loss.needs_features)
                with self.accelerator.autocast():
                    own = self.loss(output, batch["hq"], batch["lq"], self.discriminator, self.progress.step)
                total = self.loss.total(own)
                self.accelerator.backward(total / len(batches))
            enhanced.append(output.sample.detach())
            self.type_errors.add(enhanced[-1], batch["hq"], batch["lq"], batch["tags"])
            finite = finite and bool(total.isfinite())
            add_terms(terms, own, 1 / len(batches))
        self._average_gradients(self.loss.parameters())  # the adapters'
        norm = self.accelerator.clip_grad_norm_(self._parameters(), self.options.max_grad_norm)
        finite, self.stopping = self._agree(finite and bool(torch.as_tensor(norm).isfinite()), self.stopping)
        if finite or self.accelerator.scaler:  # fp16's scaler itself skips such a step, and learns from it
            self.optimizer.step()
        self.optimizer.zero_grad()
        if finite:
            self.ema.step(self.plain.parameters())
            terms |= self._discriminator_step(batches, enhanced)
        self._count(finite, terms)

    def enhance(self, lq: torch.Tensor, return_features: bool = False) -> FaceEnhancerOutput:
        return FaceEnhancerOutput(*self.model(lq, return_features=return_features, return_dict=False))

    def _discriminator_step(self, batches: list[dict], enhanced: list[torch.Tensor]) -> dict[str, float]:
        number, rest = divmod(self.progress.step, self.options.discriminator_every)
        if self.discriminator is None or rest:
            return {}
        terms: dict[str, float] = {}
        for batch, faces in zip(batches, enhanced, strict=True):
            with self.accelerator.autocast():
                own = self.discriminator_loss(self.discriminator, batch["hq"], faces, batch["lq"], number)
            self.accelerator.backward(self.discriminator_loss.total(own) / len(batches))
            add_terms(terms, own, 1 / len(batches))
        self._average_gradients(self.discriminator.parameters())
        self.accelerator.clip_grad_norm_(self.discriminator.parameters(), self.options.max_grad_norm)
        self.discriminator_optimizer.step()
        self.discriminator_optimizer.zero_grad()
        return terms

    def _set_learning_rates(self) -> None:
        share = self._rate_share()
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * share

    def _rate_share(self) -> float:
        """Share of the learning rate: rises over the warm-up, falls to 0 in the last phase."""
        progress, options = self.progress, self.options
        share = min(1.0, (progress.step + 1) / max(1, options.warmup_steps))
        if progress.phase == "reduce" or options.schedule == "constant":
            return share
        done = min(1.0, (progress.step - progress.tune_from) / self._tune_steps())
        return share * (0.5 + 0.5 * math.cos(math.pi * done) if options.schedule == "cosine" else 1 - done)

    def _average_gradients(self, parameters) -> None:
        if self.accelerator.num_processes > 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, "mean")

    def _agree(self, finite: bool, stopping: bool) -> tuple[bool, bool]:
        """Whether every process's step was finite, and whether any was told to stop."""
        if self.accelerator.num_processes == 1:
            return finite, stopping
        flags = torch.tensor([float(not finite), float(stopping)], device=self.accelerator.device)
        bad, stop = self.accelerator.reduce(flags, "sum").tolist()
        return bad == 0, stop > 0

    def _count(self, finite: bool, terms: dict[str, float]) -> None:
        progress = self.progress
        progress.step += 1
        self.bar.update()
        if not finite:
            progress.skipped += 1
            self.say(f"step {progress.step}: a loss or gradient is not finite; the step is skipped.")
            if progress.skipped >= self.options.max_nonfinite:
                raise TrainingError(
                    f"{progress.skipped} steps in a row were not finite. The last good checkpoint is "
                    f"{(self.checkpoints.all() or ['(none)'])[-1]}; go on from it with a lower learning_rate."
                )
            return
        progress.skipped = 0
        for name, value in terms.items():
            total = progress.losses.setdefault(name, [0.0, 0])
            total[0], total[1] = total[0] + value, total[1] + 1
        self.bar.set_postfix({name: f"{value:.3f}" for name, value in terms.items()})

    # The end of a round

    def _end_round(self) -> None:
        """The decisions, in the order of the method, then the record of the round."""
        options, progress = self.options, self.progress
        torch.manual_seed(options.seed + progress.round)  # what a decision draws is the same after a resume
        means, decision = self._adjust_coefficients()
        reduction = self._reduce()
        validation, rows = self._validate()
        line = {
            "round": progress.round,
            "step": progress.step,
            "phase": progress.phase,
            "means": means,
            "coefficients": self.coefficients.values(),  # of the round that ends here
            **self._described(decision),
            "losses": self._mean_losses(),
            "validation": validation,
            "macs": macs(self.plain),
            "reduction": reduction and describe_reduction(reduction),
            "seconds": round(time.monotonic() - self.started, 1),
        }
        self._choose_phase(reduction)
        progress.round += 1
        progress.losses = {}
        self.type_errors = TypeErrors()
        self.held.clear()
        self.coefficients.publish(progress.round, decision.coefficients if decision else {})
        self._record(line, rows)
        self._keep_best(line)
        self.save()

    def _adjust_coefficients(self) -> tuple[dict[str, float] | None, Decision | None]:
        """Poor, sharp and enhanced samples → the discriminator's means → augmentation factor → coefficients."""
        if self.discriminator is None:
            return None, None
        means = DiscriminatorMeans()
        self.plain.eval()
        with torch.no_grad(), self.accelerator.autocast():
            for batch in self.held:
                enhanced = self.plain(batch["lq"], return_dict=False)[0]
                lq, hq, enhanced = (self.discriminator(x).logits for x in (batch["lq"], batch["hq"], enhanced))
                means.add(lq=lq, hq=hq, enhanced=enhanced)
        self.plain.train()
        device = self.accelerator.device
        means.load(self.accelerator.reduce(means.sums().to(device), "sum").cpu())
        self.type_errors.load(self.accelerator.reduce(self.type_errors.sums().to(device), "sum").cpu())
        if not self.options.dynamic:
            return means.means(), None
        decision = self.curriculum.decide(means.means(), self.type_errors.means(), self.coefficients.values())
        return means.means(), decision

    def _reduce(self) -> Reduction | None:
        """The reduction that is due, made: a smaller network, and optimiser, averages and adapters that follow it."""
        options, trained = self.options, self.progress.round + 1
        since = trained - max(1, options.first_reduction)
        due = options.reduction.target < 1 and self.progress.phase == "reduce"
        if not due or since < 0 or since % options.reduce_every:
            return None
        old, old_optimizer = self.plain, self.optimizer.optimizer
        reduction = self.reducer.reduce(
            old,
            list(self.held),
            loss=lambda enhanced, batch: (enhanced - batch["hq"]).abs().mean(),
            recognizer=self.recognizer,
            average=lambda values: self.accelerator.reduce(values, "mean"),
        )
        if reduction.macs_after == reduction.macs_before:
            return reduction
        names = [name for name, _ in old.named_parameters()]
        averages = dict(zip(names, self.ema.shadow_params, strict=True))
        averages = reduce_tensors(averages, old, reduction.keep)
        self.model = reduction.model
        self.ema.shadow_params = [averages[name] for name, _ in self.model.named_parameters()]
        self.loss.remake_adapters(old, reduction.model, reduction.keep, old_optimizer)
        self.optimizer = torch.optim.Adam(self._parameters(), lr=options.learning_rate, betas=BETAS)
        carry_optimizer(old_optimizer, old, reduction.model, reduction.keep, self.optimizer)
        for adapter in filter(old_optimizer.state.__contains__, self.loss.parameters()):
            self.optimizer.state[adapter] = old_optimizer.state[adapter]
        self._prepare()
        return reduction

    def _mean_losses(self) -> dict[str, float]:
        """Of the round, over its steps and all processes."""
        sums = torch.tensor(list(self.progress.losses.values()), device=self.accelerator.device).reshape(-1, 2)
        means = self.accelerator.reduce(sums, "sum")
        return {name: total / count for name, (total, count) in zip(self.progress.losses, means.tolist(), strict=True)}

    def _choose_phase(self, reduction: Reduction | None) -> None:
        """Whether the reductions are over, and why."""
        options, progress = self.options, self.progress
        if progress.phase == "tune":
            return
        if reduction and reduction.macs_after <= options.reduction.target * self.first_macs * 1.005:
            progress.reason = f"the target of {options.reduction.target:g} of the multiply-accumulates is reached"
        elif reduction and reduction.macs_after == reduction.macs_before:
            progress.reason = "no layer can be reduced within the image quality index"
        elif progress.round + 1 >= options.rounds - options.tune_rounds:
            progress.reason = f"the {options.rounds} rounds are used up"
        else:
            return
        progress.phase, progress.tune_from = "tune", progress.step

    def _validate(self) -> tuple[dict[str, float] | None, list[list[np.ndarray]]]:
        """Means of the metrics on the validation faces with the averaged weights; rows poor, enhanced, sharp.

        On the main process only, the others wait; without validation faces, the rows are of the last batch.
        """
        figures, rows = None, []
        if self.accelerator.is_main_process:
            if self.validation is None:
                poor, sharp = (as_pictures(self.held[-1][name]) for name in ("lq", "hq"))
            else:
                poor, sharp = self._validation_pairs
            enhanced = self._enhance_all(self._averaged(), poor)
            rows = [poor[:SAMPLE_ROWS], enhanced[:SAMPLE_ROWS], sharp[:SAMPLE_ROWS]]
            if self.validation is not None:
                figures = mean_of(face_metrics(enhanced, sharp, recognizer=self.recognizer))
                figures |= {f"input_{name}": value for name, value in mean_of(self._input_metrics).items()}
                figures["relative_error"] = mean_relative_error(enhanced, sharp, poor)
        (figures,) = broadcast_object_list([figures])
        return figures, rows

    @cached_property
    def _validation_pairs(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Poor and sharp, `[S, S, 3]` uint8 each."""
        return tuple([np.asarray(pair[name]) for pair in self.validation] for name in ("lq", "hq"))

    @cached_property
    def _input_metrics(self) -> dict[str, list[float]]:
        """Of the poor validation faces themselves."""
        return face_metrics(*self._validation_pairs, recognizer=self.recognizer)

    def push(self) -> str:
        """Uploads the pipeline with OUT/enhancer in it, its figures in the model card; returns the commit's URL."""
        rows = []
        if self.validation is not None:
            poor, sharp = self._validation_pairs
            model = load_enhancer(self.out / "enhancer").to(self.accelerator.device)
            enhanced = face_metrics(self._enhance_all(model, poor), sharp, recognizer=self.recognizer)
            for name, values in {INPUT: self._input_metrics, "enhancer": enhanced}.items():
                metrics = {metric: mean_with_interval(of_each) for metric, of_each in values.items()}
                rows.append({"model": name, "level": "validation", "pictures": len(poor), "metrics": metrics})
        return push_enhancer(self.out / "enhancer", self.options.push_to_hub, rows, dataset=self.options.dataset)

    @torch.no_grad()
    def _enhance_all(self, model: torch.nn.Module, poor: list[np.ndarray]) -> list[np.ndarray]:
        enhanced = []
        for start in range(0, len(poor), self.options.batch_size):
            batch = as_batch(poor[start : start + self.options.batch_size], self.accelerator.device)
            with self.accelerator.autocast():
                enhanced += as_pictures(model(batch, return_dict=False)[0])
        return enhanced

    def _described(self, decision: Decision | None) -> dict:
        errors = self.type_errors.means()
        if decision is None:
            return {"factor": None, "smoothed_factor": None, "direction": 0, "changed": [], "type_errors": errors}
        return {
            "factor": decision.factor,
            "smoothed_factor": decision.smoothed,
            "direction": decision.direction,
            "changed": list(decision.changed),
            "reason": decision.reason,
            "type_errors": errors,
        }

    def _record(self, line: dict, rows: list[list[np.ndarray]]) -> None:
        """The line of the round, in rounds.jsonl, on the screen and in the trackers; and its picture."""
        numbers = {name: value for name, value in flat(line).items() if isinstance(value, (int, float))}
        self.accelerator.log(numbers, step=line["step"])
        if not self.accelerator.is_main_process:
            return
        with (self.out / "rounds.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        (self.out / "samples").mkdir(exist_ok=True)
        sheet = np.concatenate([np.concatenate(column) for column in rows], axis=1)
        Image.fromarray(sheet).save(self.out / "samples" / f"round_{line['round']:04d}.png")
        self.say(summary(line))

    def _keep_best(self, line: dict) -> None:
        """OUT/enhancer gets the averaged weights where they are the best yet of the smallest network yet.

        The best by the relative error, as in the loss: the mean PSNR is decided by a few almost perfect inputs.
        """
        progress, validation = self.progress, line["validation"]
        rank = (line["macs"], validation["relative_error"] if validation else 0.0)
        if validation and progress.best is not None and rank >= progress.best:
            progress.stale += 1
            return
        progress.best, progress.stale = rank, 0
        if self.accelerator.is_main_process:
            self._save_averaged(self.out / "enhancer")

    # Files

    def say(self, line: str) -> None:
        if self.accelerator.is_main_process:
            tqdm.write(line)
            sys.stdout.flush()

    def _averaged(self) -> torch.nn.Module:
        """The network with the averaged weights."""
        model = type(self.plain).from_config(self.plain.config)
        self.ema.copy_to(model.parameters())
        return model.to(self.accelerator.device, memory_format=torch.channels_last).eval()

    def _save_averaged(self, folder: Path) -> None:
        """The averaged weights; the folder's former ones stay until the new ones are whole."""
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        model = self._averaged()
        try:
            model.save_pretrained(partial)
        except WRITE_ERRORS as error:
            shutil.rmtree(partial, ignore_errors=True)
            self.say(f"{folder} could not be written ({one_line(error)}); training goes on. Make room on the disk.")
            return
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)

    def save(self) -> None:
        """A checkpoint, whole or not at all. A full disk does not end the run: the one before it stays."""
        if self.accelerator.is_main_process:
            try:
                partial = self.checkpoints.begin()
                self.plain.save_pretrained(partial / "enhancer")
                torch.save(self.state_dict(), partial / "state.pt")
                self.checkpoints.finish(self.progress.step)
            except WRITE_ERRORS as error:
                self.checkpoints.abandon()
                self.say(
                    f"The checkpoint of step {self.progress.step} could not be written ({one_line(error)}); training "
                    f"goes on. The last one is {(self.checkpoints.all() or ['(none)'])[-1]}; make room on the disk."
                )
        self.accelerator.wait_for_everyone()

    def state_dict(self) -> dict:
        """All that `_load` needs beside the enhancer's weights; nothing in a step is random."""
        scaler = self.accelerator.scaler
        return {
            "progress": asdict(self.progress),
            "first_macs": self.first_macs,
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
            "loss": {name: value for name, value in self.loss.named_parameters() if value.requires_grad},
            "discriminator": self.discriminator and self.discriminator.state_dict(),
            "discriminator_optimizer": self.discriminator and self.discriminator_optimizer.state_dict(),
            "scaler": scaler and scaler.state_dict(),
            "coefficients": self.coefficients.values(),
            "curriculum": self.curriculum.state_dict(),
            "reducer": self.reducer.state_dict(),
            "type_errors": self.type_errors.sums(),
        }

    def _load(self, checkpoint: Path) -> None:
        state = torch.load(checkpoint / "state.pt", map_location="cpu", weights_only=True)
        self.progress = Progress(**state["progress"])
        self.first_macs = state["first_macs"]
        self.reducer = Reducer(self.options.reduction, self.first_macs)
        self.reducer.load_state_dict(state["reducer"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        self.loss.load_state_dict(state["loss"], strict=False)
        if self.discriminator:
            self.discriminator.load_state_dict(state["discriminator"])
            self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.coefficients = Coefficients(state["coefficients"])
        self.curriculum.load_state_dict(state["curriculum"])
        self.type_errors.load(state["type_errors"])

    def _checkpoint_to_resume(self) -> Path | None:
        """The checkpoint that `--resume` means."""
        if self.options.resume == "latest":
            return self.checkpoints.newest(self.say)
        return Path(self.options.resume) if self.options.resume else None

    def _forget_later_rounds(self) -> None:
        """Takes the records of the rounds that will be done again out of rounds.jsonl."""
        if self.accelerator.is_main_process and (self.out / "rounds.jsonl").exists():
            lines = (self.out / "rounds.jsonl").read_text().splitlines(keepends=True)
            partial = self.out / ".rounds.jsonl.partial"
            partial.write_text("".join(lines[: self.progress.round]))
            partial.rename(self.out / "rounds.jsonl")


# Small helpers


def add_terms(sums: dict[str, float], terms: dict[str, torch.Tensor], share: float) -> None:
    for name, value in terms.items():
        sums[name] = sums.get(name, 0.0) + share * float(value.detach())


def mean_of(metrics: dict[str, list[float]]) -> dict[str, float]:
    return {name: float(np.nanmean(values)) for name, values in metrics.items()}


def describe_reduction(reduction: Reduction) -> dict:
    record = asdict(replace(reduction, model=None, keep=None))
    del record["model"], record["keep"]
    return record


def flat(values: dict, prefix: str = "") -> dict:
    """A nested record's values, by dotted names."""
    entries = {}
    for name, value in values.items():
        entries |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return entries


def summary(line: dict) -> str:
    """A round in one line."""
    parts = [f"round {line['round']} ({line['phase']})"]
    if line["factor"] is not None:
        change = {1: "raised", -1: "lowered", 0: "kept"}[line["direction"]]
        named = f" ({', '.join(line['changed'])})" if line["changed"] else ""
        parts.append(f"factor {line['smoothed_factor']:.2f}: coefficients {change}{named}")
    if line["reduction"]:
        kept = sum(layer["kept"] > 0 for layer in line["reduction"]["layers"])
        parts.append(f"{kept} of {len(line['reduction']['layers'])} layers reduced")
    parts.append(f"{line['macs'] / 1e9:.3f} GMAC")
    parts += [f"{name} {value:.4f}" for name, value in line["losses"].items()]
    if line["validation"]:
        parts.append(f"PSNR {line['validation']['psnr']:.2f} dB (input {line['validation']['input_psnr']:.2f})")
    return ", ".join(parts)


def mean_relative_error(enhanced: list[np.ndarray], sharp: list[np.ndarray], poor: list[np.ndarray]) -> float:
    """`relative_l1` of pictures, `[S, S, 3]` uint8 each."""
    faces = zip(enhanced, sharp, poor, strict=True)
    cpu = torch.device("cpu")
    return float(np.mean([relative_l1(*(as_batch([face], cpu) for face in each)) for each in faces]))


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


# Command line


def parse(arguments: list[str] | None = None) -> tuple[TrainingOptions, str]:
    """The options, and the same as YAML."""
    parser = ArgumentParser(prog="train.py", description=__doc__)
    parser.add_argument("--config", action="config", help="YAML file with values for any of these options")
    parser.add_class_arguments(TrainingOptions)
    parsed = parser.parse_args(arguments)
    resolved = parser.dump(parsed)
    values = vars(parser.instantiate(parsed))
    values.pop("config", None)
    return TrainingOptions(**values), resolved


def check(options: TrainingOptions, resolved: str) -> None:
    """Raises a `TrainingError` for options that do not go together, or not with the run that is resumed."""
    counts = (
        *("rounds", "steps_per_round", "tune_rounds", "reduce_every", "batch_size", "gradient_accumulation_steps"),
        *("discriminator_every", "assessed_faces", "checkpoint_every", "keep_checkpoints", "max_nonfinite"),
    )
    for name in counts:
        if getattr(options, name) < 1:
            raise TrainingError(f"--{name} must be at least 1; got {getattr(options, name)}.")
    if options.prune_only and not (options.init or options.resume):
        raise TrainingError("--prune_only reduces an existing model: name it with --init.")
    if options.reduction.target < 1 and options.first_reduction + options.tune_rounds > options.rounds:
        raise TrainingError(
            f"{options.rounds} rounds are too few for {options.first_reduction} before the first reduction and "
            f"{options.tune_rounds} after the last: raise --rounds, or lower --first_reduction or --tune_rounds."
        )
    saved = options.output_dir / "options.yaml"
    if options.resume is None:
        if (options.output_dir / "rounds.jsonl").exists():
            raise TrainingError(f"{options.output_dir} holds a run. Pass --resume latest, or another --output_dir.")
        return
    if not saved.exists():
        raise TrainingError(f"{options.output_dir} holds no run to go on with; start without --resume.")
    before, now = (flat(yaml.safe_load(text)) for text in (saved.read_text(), resolved))
    names = [name for name in before | now if name.split(".")[0] not in FREE]
    changed = [name for name in names if before.get(name) != now.get(name)]
    if changed:
        listed = ", ".join(f"{name}: {before.get(name)} → {now.get(name)}" for name in changed)
        raise TrainingError(f"The run in {options.output_dir} had other options ({listed}). Use those, or start anew.")


def main(arguments: list[str] | None = None) -> None:
    keep_freed_memory()
    options, resolved = parse(arguments)
    check(options, resolved)
    if options.prune_only:
        distilled = options.loss.distillation_weight or 1.0
        loss = replace(options.loss, adversarial_weight=0.0, distillation_weight=distilled)
        options = replace(options, dynamic=False, loss=loss)
    accelerator = Accelerator(
        mixed_precision=options.mixed_precision,
        log_with=options.report_to or None,
        project_dir=options.output_dir if options.report_to else None,
    )
    accelerator.print(resolved)
    set_seed(options.seed)
    trainer = Trainer(options, accelerator)
    if accelerator.is_main_process:
        options.output_dir.mkdir(parents=True, exist_ok=True)
        (options.output_dir / "options.yaml").write_text(resolved)
    accelerator.wait_for_everyone()
    if options.report_to:
        settings = flat(yaml.safe_load(resolved)).items()
        plain = {name: value if isinstance(value, (int, float)) else str(value) for name, value in settings}
        accelerator.init_trackers("hf_faceenh", plain)
    reason = trainer.run()
    accelerator.print(f"Ended: {reason}.", flush=True)
    if options.push_to_hub and accelerator.is_main_process and not trainer.stopping:
        accelerator.print(f"Pushed: {trainer.push()}", flush=True)
    accelerator.end_training()


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:  # a TrainingError is a ValueError
        sys.exit(f"train.py: {one_line(error)}")
