"""The networks that a run trains, and what belongs to their weights: optimisers, averages, adapters."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from hf_faceenh.learning.acquisition import Batch
from hf_faceenh.learning.discriminators import make_discriminator
from hf_faceenh.learning.growth import grown
from hf_faceenh.learning.identity import load_recognizer
from hf_faceenh.learning.losses import GAMES, DiscriminatorLoss, EnhancerLoss, Terms
from hf_faceenh.learning.options import TrainingOptions
from hf_faceenh.learning.reduction import Reduction, follow_channels
from hf_faceenh.models import FaceEnhancer, FaceEnhancerOutput, load_enhancer, load_transformers
from hf_faceenh.models.channels import remove_channels

BETAS, DISCRIMINATOR_BETAS = (0.9, 0.99), (0.0, 0.99)  # of Adam


class Learner:
    """Enhancer and discriminator, made from the options or a checkpoint, and handed to Accelerate by `prepare`.

    Args:
        options: of the run.
        accelerator: puts networks on devices, and adds up what several processes compute.
        checkpoint: whose enhancer training continues; give its `state.pt` to `load_state_dict` afterwards.

    Raises:
        ValueError, OSError: for a network that is missing or of the wrong kind.
    """

    def __init__(self, options: TrainingOptions, accelerator: Accelerator, checkpoint: Path | None = None):
        self.options, self.accelerator = options, accelerator
        if start := checkpoint / "enhancer" if checkpoint else options.init:
            self.model = load_enhancer(start)
            if not hasattr(self.model, "channel_groups"):
                raise ValueError(
                    f"--init {start} is a {type(self.model).__name__}, which can only be a --teacher; expected an "
                    "enhancer that is trained and reduced: FaceEnhancer, GPENFaceEnhancer or GFPGANFaceEnhancer."
                )
            if options.grow > 1 and not checkpoint:
                self.model = grown(self.model, options.grow)
        else:
            self.model = FaceEnhancer(**options.enhancer)
        self.size = self.model.config.sample_size
        self.recognizer = load_recognizer(options.recognizer) if options.recognizer else None
        backbone = load_transformers("--perceptual_backbone", options.perceptual_backbone)
        game = GAMES[options.discriminator.kind]
        teacher = options.teacher or (options.init if options.prune_only else None)
        self.loss = EnhancerLoss(
            options.loss,
            perceptual=backbone,
            recognizer=self.recognizer,
            teacher=load_enhancer(teacher) if teacher else None,
            student=self.model,
            game=game,
        )
        self.discriminator_loss = DiscriminatorLoss(options.loss, game)
        self.discriminator = None
        if options.needs_discriminator:
            self.discriminator = make_discriminator(options.discriminator, self.size, backbone)

        self.averages = EMAModel(self.model.parameters(), decay=options.ema_decay, foreach=True)
        self.optimizer = self._new_optimizer(self.parameters())
        self.discriminator_optimizer = None
        if self.discriminator:
            trained = [parameter for parameter in self.discriminator.parameters() if parameter.requires_grad]
            self.discriminator_optimizer = torch.optim.Adam(
                trained, lr=options.discriminator_learning_rate, betas=DISCRIMINATOR_BETAS
            )

    def _new_optimizer(self, parameters: Sequence[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.options.learning_rate, betas=BETAS)

    def prepare(self) -> None:
        """Hands networks and optimisers to Accelerate; again after each reduction, which makes new ones.

        The discriminator stays without DistributedDataParallel, and its gradients are averaged by hand: it runs twice
        before each backward pass, and R1 differentiates its gradient, and that wrapper supports neither.
        """
        accelerator = self.accelerator
        accelerator.free_memory()
        self.model = self.model.train().to(accelerator.device, memory_format=torch.channels_last)
        if self.options.compile:
            self.model.compile()
        self.model, self.optimizer = accelerator.prepare(self.model, self.optimizer)
        count_on_host(self.optimizer)
        self.loss.to(accelerator.device, memory_format=torch.channels_last)
        self.averages.to(accelerator.device)
        if self.recognizer:
            self.recognizer.to(accelerator.device)
        if self.discriminator:
            self.discriminator.to(accelerator.device)
            self.discriminator_optimizer = accelerator.prepare(self.discriminator_optimizer)
            count_on_host(self.discriminator_optimizer)

    # In a step

    @property
    def plain(self) -> torch.nn.Module:
        """The enhancer without what Accelerate puts around it."""
        return self.accelerator.unwrap_model(self.model)

    def parameters(self) -> list[torch.nn.Parameter]:
        """Those that the enhancer's optimiser trains: the enhancer's, and those of the distillation's adapters."""
        return [*self.model.parameters(), *(p for p in self.loss.parameters() if p.requires_grad)]

    def set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def enhancer_gradient(
        self, batches: Sequence[Batch], step: int
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], Terms]:
        """Restores the degraded faces and accumulates the enhancer's gradient, over all processes.

        Returns:
            the enhanced faces of each batch; each batch's total loss, and the gradient's length before it was
            shortened to the longest allowed; and the losses' terms.
        """
        accelerator, enhanced, decisive, terms = self.accelerator, [], [], {}
        for index, batch in enumerate(batches):
            last = index + 1 == len(batches)
            with nullcontext() if last else accelerator.no_sync(self.model):
                output = self.model(batch["lq"], return_features=self.loss.needs_features, return_dict=False)
                output = FaceEnhancerOutput(*output)
                with accelerator.autocast():
                    own = self.loss(output, batch["hq"], batch["lq"], self.discriminator, step)
                decisive.append(self.loss.total(own))
                accelerator.backward(decisive[-1] / len(batches))
            enhanced.append(output.sample.detach())
            add_terms(terms, own, 1 / len(batches))
        self._average_gradients(self.loss.parameters())  # the adapters'
        return enhanced, [*decisive, self._clip(self.parameters())], terms

    def discriminator_gradient(
        self, batches: Sequence[Batch], enhanced: Sequence[torch.Tensor], step: int
    ) -> tuple[list[torch.Tensor], Terms]:
        """Likewise the discriminator's, which learns to tell sharp faces from enhanced and degraded ones."""
        accelerator, decisive, terms = self.accelerator, [], {}
        for batch, faces in zip(batches, enhanced, strict=True):
            with accelerator.autocast():
                own = self.discriminator_loss(self.discriminator, batch["hq"], faces, batch["lq"], step)
            decisive.append(self.discriminator_loss.total(own))
            accelerator.backward(decisive[-1] / len(batches))
            add_terms(terms, own, 1 / len(batches))
        self._average_gradients(self.discriminator.parameters())
        return [*decisive, self._clip(self.discriminator.parameters())], terms

    def _clip(self, parameters: Iterable[torch.nn.Parameter]) -> torch.Tensor:
        norm = self.accelerator.clip_grad_norm_(list(parameters), self.options.max_grad_norm)
        return torch.as_tensor(norm, device=self.accelerator.device)

    def _average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        if self.accelerator.num_processes > 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, "mean")

    def step_enhancer(self, finite: bool) -> None:
        """The enhancer's step and that of its averages; none where its gradient is not `finite`."""
        self._step(self.optimizer, finite)
        if finite:
            self.averages.step(self.plain.parameters())

    def step_discriminator(self, finite: bool) -> None:
        self._step(self.discriminator_optimizer, finite)

    def _step(self, optimizer: torch.optim.Optimizer, finite: bool) -> None:
        if finite or self.accelerator.scaler:  # fp16's scaler itself skips such a step, and learns from it
            optimizer.step()
        optimizer.zero_grad()

    # At the end of a round

    @torch.no_grad()
    def logits(self, batch: Batch, worst: torch.Tensor) -> dict[str, torch.Tensor]:
        """The discriminator's logits for sharp ("hq"), enhanced, and degraded faces ("lq": those of `worst`)."""
        self.plain.eval()
        self.discriminator.eval()
        with self.accelerator.autocast():
            faces = {"lq": worst, "hq": batch["hq"], "enhanced": self.plain(batch["lq"], return_dict=False)[0]}
            values = {name: self.discriminator(faces[name]).logits for name in faces}
        self.plain.train()
        self.discriminator.train()
        return values

    def follow(self, reduction: Reduction) -> None:
        """Continues with the reduced network; averages, adapters and Adam's moments keep the channels that stay."""
        self.optimizer, self.averages.shadow_params = follow_channels(
            self.plain,
            reduction.model,
            reduction.keep,
            self.optimizer.optimizer,
            self._new_optimizer,
            self.averages.shadow_params,
            self.loss.adapters,
        )
        self.model = reduction.model
        self.prepare()

    def averaged(self) -> torch.nn.Module:
        """A network with the averaged weights, for evaluation."""
        model = remove_channels(self.plain, {})  # a copy, with the fixed noise that a GFPGAN has besides its weights
        self.averages.copy_to(model.parameters())
        return model.to(self.accelerator.device, memory_format=torch.channels_last).eval()

    # In a checkpoint

    def state_dict(self) -> dict:
        """All but the enhancer's weights, which a checkpoint has in a folder of their own."""
        scaler = self.accelerator.scaler
        return {
            "optimizer": self.optimizer.state_dict(),
            "ema": self.averages.state_dict(),
            "loss": {name: value for name, value in self.loss.named_parameters() if value.requires_grad},
            "discriminator": self.discriminator and self.discriminator.state_dict(),
            "discriminator_optimizer": self.discriminator and self.discriminator_optimizer.state_dict(),
            "scaler": scaler and scaler.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Before `prepare`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.averages.load_state_dict(state["ema"])
        self.loss.load_state_dict(state["loss"], strict=False)
        if self.discriminator:
            self.discriminator.load_state_dict(state["discriminator"])
            self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])


def count_on_host(optimizer: torch.optim.Optimizer) -> None:
    """Puts Adam's step counts back on the CPU, where Adam itself creates them.

    Accelerate moves them to the device with the rest of a loaded or carried state; Adam then reads every parameter's
    from there at every step, and each reading waits for the device.
    """
    for state in optimizer.state.values():
        if "step" in state:
            state["step"] = state["step"].cpu()


def add_terms(sums: Terms, terms: Terms, share: float) -> None:
    for name, value in terms.items():
        sums[name] = sums.get(name, 0.0) + share * value.detach()
