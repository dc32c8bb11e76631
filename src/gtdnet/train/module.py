"""The training and validation step, for Lightning."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from gtdnet.data.dataset import Batch, Failure
from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import normalise
from gtdnet.errors import InputError
from gtdnet.models.classifier import VideoClassifier
from gtdnet.train.config import OptimOptions
from gtdnet.train.objective import Scores, objective_of
from gtdnet.train.optim import build_optimizer, lr_factor
from gtdnet.train.sharded import shard


class TrainingModule(pl.LightningModule):
    """The spec's :class:`Objective` over clips, with what :class:`OptimOptions` say of it.

    A clip counts its loss (of a smoothed or mixed target, where that is asked for), divided by the
    clips of a step, whatever lies beside it: those that cannot be read, or that a last, incomplete
    step does not have, count 0.

    ``lr`` is that of a step, scaled; ``seed`` that of dropout and mixup; ``class_weights`` [K] are
    factors on the loss of each class. In checkpoints the network's weights stand under "model.",
    and ``clips``, what :func:`gtdnet.train.data.digest` gave for them.

    Attributes:
        failures: training clips that could not be decoded, by index.
        val_failures: the same of the latest validation; both of all processes once an epoch or
            a save is done.
        norms_wait: whether layers of other processes wait for this one's clips.
        is_sharded: whether each process is to hold a part of the network.
        objective: what is learned: one class a clip, or any number.
        epoch_metrics: what the epoch measured: train_loss, train_top1, val_loss, val_top1, ...
        validated: of the latest validation, until its epoch is saved: numbers of the clips,
            ascending, int64 [N], and their probabilities, float32 [N, K].
    """

    class_weights: Tensor | None

    def __init__(
        self,
        model: VideoClassifier,
        spec: ClipSpec,
        options: OptimOptions,
        lr: float,
        *,
        seed: int = 0,
        class_weights: Tensor | None = None,
        clips: str | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.spec = spec
        self.objective = objective_of(spec)
        self.options = options
        self.lr = lr
        self.seed = seed
        self.clips = clips
        self.norms_wait = False
        self.is_sharded = False
        self.failures: dict[int, Failure] = {}
        self.val_failures: dict[int, Failure] = {}
        self.epoch_metrics: dict[str, float] = {}
        self.validated: Scores | None = None
        self._train_sums = torch.zeros(3, dtype=torch.float64)  # of loss, of hits, of clips
        # Weights follow from the data, so they are not part of the checkpoint.
        self.register_buffer("class_weights", class_weights, persistent=False)

    def configure_model(self) -> None:
        if self.is_sharded:
            mesh: Any = self.device_mesh
            shard(self.model, mesh["data_parallel"])

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        return batch.to(device, non_blocking=True)

    # ------------------------------------------------------------------------------- training

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["spec"] = self.spec.to_dict()
        checkpoint["model_options"] = self.model.options
        checkpoint["clips"] = self.clips
        checkpoint["validated"] = self.validated and [
            torch.from_numpy(part) for part in self.validated
        ]
        checkpoint["train_sums"] = self._over_processes(self._train_sums).tolist()
        self.failures = self._from_processes(self.failures)
        for name in ("failures", "val_failures"):
            failures = getattr(self, name).values()
            checkpoint[name] = [[f.index, f.path, f.reason] for f in failures]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.global_rank == 0:  # the sums are those of all processes
            self._train_sums = torch.tensor(checkpoint["train_sums"], dtype=torch.float64)
        for name in ("failures", "val_failures"):
            setattr(self, name, {entry[0]: Failure(*entry) for entry in checkpoint[name]})

    def on_train_start(self) -> None:
        self._train_sums = self._train_sums.to(self.device)

    def on_train_epoch_start(self) -> None:
        self._train_sums.zero_()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Dropout then depends on the step alone, not on what ran before: a resumed run repeats it.
        rng = self._step_rng(batch_idx)
        # All processes draw alike (:class:`gtdnet.train.across.SharedDropout`).
        torch.manual_seed(int(rng.integers(2**62)))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        for failure in batch.failures:
            self.failures[failure.index] = failure
        if not len(batch.labels):
            if self.norms_wait:  # for this process's part, be it none
                return self.model(self._no_clips()).sum() * 0
            if self.trainer.world_size == 1 and not self._has_gradients(batch_idx):
                return None
            # The other processes wait for gradients from this one, or the step's other batches for
            # the step, which Lightning leaves out in fp16 if its last batch gives no loss.
            return torch.stack([p.sum() for p in self.model.parameters()]).sum() * 0
        clips, labels = normalise(batch.views[:, 0], self.spec), batch.labels
        if self.options.mixup:
            # Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
            rng = self._step_rng(batch_idx, self.global_rank + 1)
            share = float(rng.beta(self.options.mixup, self.options.mixup))
            other = torch.from_numpy(rng.permutation(len(labels))).to(labels.device)
            logits = self.model(clips.lerp(clips[other], 1 - share))
            losses = self._losses(logits, labels, labels[other], share)
        else:
            logits = self.model(clips)
            losses = self._losses(logits, labels)
        # Over what was asked for: a clip counts alike whatever else could be read. Lightning
        # divides by the batches of a step, DistributedDataParallel by the processes.
        loss = losses.sum() / (len(labels) + len(batch.failures))
        hits = self.objective.hits(logits.detach(), labels)
        count = torch.full_like(hits, len(labels))
        sums = [losses.detach().double().sum(), hits.double(), count.double()]
        self._train_sums += torch.stack(sums)
        self.log("step/loss", loss, on_step=True, on_epoch=False, batch_size=1)
        return loss

    def _losses(
        self, logits: Tensor, labels: Tensor, others: Tensor | None = None, share: float = 1.0
    ) -> Tensor:
        """Of each clip: [N]; see :meth:`Objective.losses`."""
        smoothing, weights = self.options.label_smoothing, self.class_weights
        return self.objective.losses(
            logits, labels, others, share, smoothing=smoothing, weights=weights
        )

    def _no_clips(self) -> Tensor:
        """No clips of the right shape: [0, T*f, 3, H, W]."""
        side = self.spec.crop_size
        return torch.zeros(0, self.spec.frames_per_clip, 3, side, side, device=self.device)

    def _has_gradients(self, batch_idx: int) -> bool:
        """Whether earlier batches of the same step left gradients."""
        if batch_idx % self.options.accumulate == 0:
            return False
        return any(p.grad is not None for p in self.model.parameters())

    @property
    def running_loss(self) -> float | None:
        """Mean of the epoch so far, over this process's clips; None before its first."""
        loss, _, count = self._train_sums.tolist()
        return loss / count if count else None

    def sum_up_training(self) -> None:
        """Put what the epoch measured on the training clips into ``epoch_metrics``.

        Raises:
            ValueError: no clip could be decoded, or the loss is not finite.
        """
        loss, hits, count = self._over_processes(self._train_sums).tolist()
        self.failures = self._from_processes(self.failures)
        if not count:
            raise _nothing_decoded("training", self.failures)
        if not math.isfinite(loss):
            raise InputError(
                f"the training loss of epoch {self.current_epoch + 1} is {loss}: training "
                f"diverged; lower --lr, raise --warmup_epochs or set --clip_gradient"
            )
        self.epoch_metrics.update(self.objective.training_metrics(loss / count, hits / count))

    def _over_processes(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in a new tensor."""
        return torch.as_tensor(self.trainer.strategy.reduce(tensor.clone(), reduce_op="sum"))

    def _from_processes(self, clips: dict[int, Any]) -> dict[int, Any]:
        """What all processes know of clips, by index."""
        if self.trainer.world_size == 1:
            return clips
        parts: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(parts, clips)
        return {index: found for part in parts for index, found in part.items()}

    def _step_rng(self, batch_idx: int, stream: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.current_epoch, batch_idx, stream])

    # ----------------------------------------------------------------------------- validation

    def on_validation_epoch_start(self) -> None:
        self.val_failures = {}
        self._validation = self.objective.validation(self.spec, self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.val_failures.update({failure.index: failure for failure in batch.failures})
        if not len(batch.labels):
            if self.is_sharded:  # others wait for this one's weights
                self.model(self._no_clips())
            return
        logits = self.model(normalise(batch.views[:, 0], self.spec)).float()
        self._validation.add(logits, batch.labels, batch.indices)

    def on_validation_epoch_end(self) -> None:
        metrics = self._validation.metrics(self._over_processes, self._from_processes)
        self.val_failures = self._from_processes(self.val_failures)
        if metrics is None:
            raise _nothing_decoded("validation", self.val_failures)
        self.validated = self._validation.scored(self._from_processes)
        self.epoch_metrics.update(metrics)

    # --------------------------------------------------------------------------- optimisation

    def configure_optimizers(self) -> Any:
        options = self.options
        total = int(self.trainer.estimated_stepping_batches)
        per_epoch = total / options.epochs
        warmup = options.warmup_epochs
        if options.schedule == "onecycle" and not warmup:
            warmup = 0.25 * options.epochs
        milestones = [round(milestone * per_epoch) for milestone in options.milestones]
        schedule = lr_factor(
            options.schedule, total, round(warmup * per_epoch), milestones, options.gamma
        )
        optimizer = build_optimizer(options, self.model, self.lr)
        scheduler = {"scheduler": LambdaLR(optimizer, schedule), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def _nothing_decoded(split: str, failures: dict[int, Failure]) -> InputError:
    example = next(iter(failures.values()), None)
    return InputError(
        f"none of the {split} clips can be decoded"
        + (f", the first being {example.path}: {example.reason}" if example else "")
        + "; gtdnet check names them all"
    )
