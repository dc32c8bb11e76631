"""What a network is to learn: the loss of a clip, and the figure that the best epoch has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.models.classifier import probabilities
from gtdnet.ranking import counts_at, mean_average_precision

Reduce = Callable[[Tensor], Tensor]
Gather = Callable[[dict[int, Any]], dict[int, Any]]
Mixed = Callable[[Callable[[Tensor], Tensor]], Tensor]
Scores = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Numbers of clips, ascending, [N], and their probabilities [N, K]."""


class Objective(ABC):
    """One way in which clips have classes.

    Attributes:
        figure, title: the validation's figure of merit, as in "top1", and as people call it.
        columns: of metrics.csv, between the learning rate and the seconds.
    """

    figure: ClassVar[str]
    title: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]

    @property
    def column(self) -> str:
        """Of metrics.csv: what the best epoch has the most of."""
        return f"val_{self.figure}"

    def losses(
        self,
        logits: Tensor,
        labels: Tensor,
        others: Tensor | None = None,
        share: float = 1.0,
        *,
        smoothing: float = 0.0,
        weights: Tensor | None = None,
    ) -> Tensor:
        """The loss of each clip: [N] of logits [N, K].

        With ``others``, ``share`` of a clip's target is its own label and the rest the other one
        (mixup). ``weights`` [K] are of the classes.
        """

        def mixed(of: Callable[[Tensor], Tensor]) -> Tensor:
            return of(labels) if others is None else share * of(labels) + (1 - share) * of(others)

        return self._losses(logits, mixed, smoothing, weights)

    @abstractmethod
    def _losses(
        self, logits: Tensor, mixed: Mixed, smoothing: float, weights: Tensor | None
    ) -> Tensor:
        """:meth:`losses`; ``mixed`` gives what a function of labels is of the mixed clips."""

    @abstractmethod
    def hits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """How many clips are right, where a clip is right or wrong; else 0."""

    @abstractmethod
    def training_metrics(self, loss: float, hits: float) -> dict[str, float]:
        """The columns of an epoch's training clips from the means over them."""

    @abstractmethod
    def validation(self, spec: ClipSpec, device: torch.device) -> Validation:
        """A new validation, without clips so far."""


class Validation(ABC):
    """One validation: batches are added, then the processes are asked for what they have."""

    def __init__(self, spec: ClipSpec) -> None:
        self._spec = spec
        self._batches: list[tuple[Tensor, Tensor]] = []  # numbers of clips, probabilities
        self._scored: Scores | None = None

    def add(self, logits: Tensor, labels: Tensor, indices: Tensor) -> None:
        """A batch: logits float32 [N, K], labels, and the clips' numbers [N]."""
        self._batches.append((indices, probabilities(logits, self._spec)))

    def scored(self, gather: Gather) -> Scores:
        """What all processes know together, once nothing more is added; there is a clip."""
        if self._scored is None:
            clips = gather({
                int(number): row
                for numbers, scores in self._batches
                for number, row in zip(numbers.tolist(), scores.cpu().numpy(), strict=True)
            })  # fmt: skip
            numbers = np.array(sorted(clips), dtype=np.int64)
            self._batches, self._scored = [], (numbers, np.stack([clips[i] for i in numbers]))
        return self._scored

    @abstractmethod
    def metrics(self, reduce: Reduce, gather: Gather) -> dict[str, float] | None:
        """Its columns of metrics.csv; None without clips.

        ``reduce`` adds up a tensor over the processes, ``gather`` joins dicts by clip.
        """


# ------------------------------------------------------------------------- one class a clip


class SingleLabel(Objective):
    """Cross entropy, and top-1."""

    figure, title = "top1", "top-1"
    columns = ("train_loss", "train_top1", "val_loss", "val_top1", "val_top5", "val_mean_class")

    def _losses(
        self, logits: Tensor, mixed: Mixed, smoothing: float, weights: Tensor | None
    ) -> Tensor:
        """Of each clip: its cross entropy times the weight of its class.

        A mixed clip's target and its weight are mixed alike.
        """
        entropy = partial(F.cross_entropy, logits, label_smoothing=smoothing, reduction="none")
        losses = mixed(entropy)
        return losses if weights is None else losses * mixed(lambda labels: weights[labels])

    def hits(self, logits: Tensor, labels: Tensor) -> Tensor:
        return (logits.argmax(1) == labels).sum()

    def training_metrics(self, loss: float, hits: float) -> dict[str, float]:
        return {"train_loss": loss, "train_top1": hits}

    def validation(self, spec: ClipSpec, device: torch.device) -> Validation:
        return _TopFive(spec, device)


class _TopFive(Validation):
    def __init__(self, spec: ClipSpec, device: torch.device) -> None:
        super().__init__(spec)
        zeros = partial(torch.zeros, dtype=torch.float64, device=device)
        self._sums = zeros(2)  # of the loss, of the hits among five
        self._counts = zeros(2, spec.num_classes)  # hits and clips of each class

    def add(self, logits: Tensor, labels: Tensor, indices: Tensor) -> None:
        super().add(logits, labels, indices)
        top = logits.topk(min(5, logits.shape[1]), dim=1).indices
        hits = (top == labels[:, None]).double()
        loss = F.cross_entropy(logits, labels, reduction="sum").double()
        self._sums += torch.stack([loss, hits.sum()])
        clips = torch.ones_like(hits[:, 0])
        self._counts.index_add_(1, labels, torch.stack([hits[:, 0], clips]))

    def metrics(self, reduce: Reduce, gather: Gather) -> dict[str, float] | None:
        loss, top5 = reduce(self._sums).tolist()
        hits, clips = reduce(self._counts)
        count = float(clips.sum())
        if not count:
            return None
        present = clips > 0
        return {
            "val_loss": loss / count,
            "val_top1": float(hits.sum()) / count,
            "val_top5": top5 / count,
            "val_mean_class": float((hits[present] / clips[present]).mean()),
        }


# --------------------------------------------------------------- any number of classes a clip


class MultiLabel(Objective):
    """Binary cross entropy of every class, and mean average precision."""

    figure, title = "map", "mAP"
    columns = ("train_loss", "val_loss", "val_map", "val_micro_f1", "val_macro_f1")

    def _losses(
        self, logits: Tensor, mixed: Mixed, smoothing: float, weights: Tensor | None
    ) -> Tensor:
        """Of each clip: the mean over the classes of weight times binary cross entropy.

        Targets are mixed as the clips are, then each is smoothed: y becomes y (1 - s) + s / 2.
        """
        targets = mixed(Tensor.float) * (1 - smoothing) + smoothing / 2
        losses = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
        return (losses if weights is None else losses * weights).mean(dim=1)

    def hits(self, logits: Tensor, labels: Tensor) -> Tensor:
        return torch.zeros((), dtype=torch.int64, device=logits.device)

    def training_metrics(self, loss: float, hits: float) -> dict[str, float]:
        return {"train_loss": loss}

    def validation(self, spec: ClipSpec, device: torch.device) -> Validation:
        return _AllScores(spec)


class _AllScores(Validation):
    """Measures the probabilities of all clips: the order of all of them is what counts."""

    def __init__(self, spec: ClipSpec) -> None:
        super().__init__(spec)
        self._clips: dict[int, tuple[float, Any]] = {}  # loss, labels

    def add(self, logits: Tensor, labels: Tensor, indices: Tensor) -> None:
        super().add(logits, labels, indices)
        losses = MultiLabel().losses(logits, labels).tolist()
        rows = zip(losses, labels.cpu().numpy(), strict=True)
        self._clips.update(zip(indices.tolist(), rows, strict=True))

    def metrics(self, reduce: Reduce, gather: Gather) -> dict[str, float] | None:
        clips = gather(self._clips)
        if not clips:
            return None
        numbers, scores = self.scored(gather)
        rows = (clips[number] for number in numbers)
        losses, labels = (np.array(part) for part in zip(*rows, strict=True))
        if not np.isfinite(scores).all():  # it has diverged, as the loss says
            scores = np.zeros_like(scores)
        at_half = counts_at(scores, labels)
        found = [mean_average_precision(scores, labels), at_half.micro_f1, at_half.macro_f1]
        figures = [float(losses.mean()), *(figure for figure in found if figure is not None)]
        if len(figures) < 4:
            raise InputError(
                "none of the validation clips that can be decoded has a class, so that there is no "
                "mAP; add some, or leave out the validation split"
            )
        return dict(zip(MultiLabel.columns[1:], figures, strict=True))


_OBJECTIVES: Mapping[bool, Objective] = {False: SingleLabel(), True: MultiLabel()}


def objective_of(spec: ClipSpec) -> Objective:
    """What a model of this spec learns."""
    return _OBJECTIVES[spec.multi_label]
