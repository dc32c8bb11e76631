"""Whether an exported model gives the logits of the one that it was made from."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle
from types import MappingProxyType

import torch
from torch import Tensor, nn

from gtdnet.data.transforms import normalise
from gtdnet.engines import Check, build_engine
from gtdnet.models.model_file import ModelFile
from gtdnet.text import first_line

TOLERANCES: Mapping[str, float] = MappingProxyType(
    {"fp32": 1e-4, "fp16": 2**-5, "bf16": 2**-2, "int8": 1.0}
)
"""Largest difference of any logit, by precision, in units of the logits' spread.

fp32: runtimes add up in other orders, which moves the seventh digit. bf16 keeps 8 binary digits of
every number, fp16 3 more, int8 256 steps of every range; of bf16 a few per cent and of int8 some
ten per cent of the spread are left after tens of layers. A graph that computes something else is
off by more than the spread. What int8 does to the accuracy is measured by itself
(:mod:`gtdnet.export.quantisation`).
"""

ROUNDING: Mapping[str, float] = MappingProxyType(
    {"fp32": 2**-18, "fp16": 2**-8, "bf16": 2**-5, "int8": 2**-2}
)
"""Differences up to this share of the largest logit are rounding, and equal, whatever the spread.

64 units in the last place of fp32, 8 of fp16 and bf16, 64 steps of int8's 256. It counts where the
logits hardly differ from each other: of a model of one class, whose spread is 0, or one whose
logits all lie far from 0.
"""

BATCHES = (1, 3)
"""Clips that are given at a time, in turn: none is the number that the graph was made with."""


class ExportFailed(RuntimeError):
    """An exported model that is not what it should be; nothing was written."""


@dataclass(frozen=True)
class Agreement:
    """Two sets of logits of the same clips."""

    clips: int  # how many
    difference: float  # the largest of any logit
    # Standard deviation of a clip's logits over the classes, root mean square over the clips.
    spread: float
    top1: float  # share of the clips with the same best class
    magnitude: float = 0.0  # of the reference's largest logit

    def relative(self, precision: str) -> float:
        """The largest difference in units of the spread, or of what rounding makes of the logits
        where that is more: at most the tolerance if they are equal within rounding."""
        rounding = ROUNDING[precision] / TOLERANCES[precision] * self.magnitude
        unit = max(self.spread, rounding)
        return self.difference / unit if unit else self.difference and math.inf

    def disagrees(self, precision: str) -> str | None:
        """What is wrong for this precision; None: nothing."""
        tolerance = TOLERANCES[precision]
        relative = self.relative(precision)
        if not relative <= tolerance:  # nor is NaN
            return (
                f"its logits differ by up to {relative:.2g} of their spread over "
                f"{self.clips} clips, {precision} allows {tolerance:g}"
            )
        within_rounding = self.difference <= ROUNDING[precision] * self.magnitude
        if precision == "fp32" and self.top1 < 1 and not within_rounding:
            different = self.clips - round(self.top1 * self.clips)
            return f"it gives {different} of {self.clips} clips another best class"
        return None


@dataclass(frozen=True)
class Reference:
    """A model with its own logits [N, K] of clips uint8 [N, T*f, 3, H, W]."""

    model_file: ModelFile
    clips: Tensor
    logits: Tensor

    @classmethod
    def of(cls, model_file: ModelFile, clips: Tensor) -> Reference:
        """By PyTorch, in fp32 on the CPU."""
        engine = build_engine(
            model_file.model, model_file.spec, "torch", device="cpu", precision="fp32"
        )
        return cls(model_file, clips, in_batches(engine, clips))

    def check(self, check: Check, file: str) -> Agreement:
        """How an exported file's logits agree with the model's; ExportFailed if they do not."""
        what = f"the exported {file}{check.remark}"
        try:
            logits = in_batches(check.make(), self.clips)
        except Exception as error:  # of whichever runtime
            raise ExportFailed(
                f"{what} does not run on {' and '.join(map(str, BATCHES))} clips at a time: "
                f"{first_line(error)}; nothing was written"
            ) from error
        agreement = compare(self.logits, logits)
        if reason := agreement.disagrees(check.precision):
            raise ExportFailed(
                f"{what} is not the model: {reason}{self.sensitivity()}; nothing was written"
            )
        return agreement

    def sensitivity(self) -> str:
        """A remark, with what to do, where rounding alone changes the model's logits by much."""
        network = copy.deepcopy(self.model_file.model).double()

        def exact(clips: Tensor) -> Tensor:
            return network(normalise(clips, self.model_file.spec, torch.float64))

        own = compare(in_batches(exact, self.clips), self.logits).relative("fp32")
        if own < TOLERANCES["fp32"] / 10:
            return ""
        why = "as one that has not been trained can be"
        if _is_untouched(network):
            why = (
                "for its batch norms hold the mean 0 and the variance 1 that they start with, so "
                "it has never been trained; export it when it is"
            )
        return (
            f" (PyTorch's own are off by {own:.2g} from those in double precision: this model is "
            f"that sensitive to rounding, {why})"
        )


def _is_untouched(network: nn.Module) -> bool:
    """Whether it has batch norms, and none has seen a batch, or weights from elsewhere."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    means = [norm.running_mean for norm in norms if norm.running_mean is not None]
    scales = [norm.running_var for norm in norms if norm.running_var is not None]
    return bool(means) and not any(map(torch.any, means)) and all((v == 1).all() for v in scales)


def compare(reference: Tensor, logits: Tensor) -> Agreement:
    """How well logits [N, K] agree with those of the reference."""
    return Agreement(
        len(reference),
        float((logits - reference).abs().max()),
        float(reference.var(dim=1, correction=0).mean().sqrt()),
        float((logits.argmax(1) == reference.argmax(1)).float().mean()),
        float(reference.abs().max()),
    )


def in_batches(compute: Callable[[Tensor], Tensor], clips: Tensor) -> Tensor:
    """Logits [N, K] of clips [N, ...], computed in batches of :data:`BATCHES` in turn."""
    sizes, logits, done = cycle(BATCHES), [], 0
    with torch.inference_mode():
        while done < len(clips):
            batch = clips[done : done + next(sizes)]
            logits.append(compute(batch).float().cpu())
            done += len(batch)
    return torch.cat(logits)
