"""Which classes each variant of an ablation on the built-in clips can tell apart, and its gates.

    python benchmarks/ablation_data.py
    gtdnet ablate benchmarks/ablation.yaml
    python benchmarks/ablation_classes.py

The classes of a group show the same frames in another order. In some groups two neighbouring frames
tell the order, in the others only the whole clip does. For each variant, on the validation clips:
how often the group is right; how often, of the classes of the clip's own group, the right one has
the highest score; and how far the gates of the GTD blocks have come from 1/2, at which they start,
and vary within a clip and between clips. Results go to benchmarks/results/ablation_classes.yaml.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from gtdnet.data.formats import read_annotations
from gtdnet.data.synthetic import class_groups
from gtdnet.evaluate.results import Evaluation
from gtdnet.evaluate.run import evaluate_model
from gtdnet.files import write_text
from gtdnet.models import load_model
from gtdnet.nn import GlobalTemporalDifference

RESULTS = Path(__file__).parent / "results"
WHOLE_CLIP = (" then ", "behind", "in front of")  # words in the names of such classes


class Gates:
    """Statistics of all gates of a network, gathered batch by batch."""

    def __init__(self) -> None:
        self.within: list[float] = []
        self.means: dict[nn.Module, list[Tensor]] = {}

    @contextmanager
    def watched(self, model: nn.Module) -> Iterator[None]:
        def watch(block: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            assert isinstance(block, GlobalTemporalDifference)
            gates = block.gate(args[0]).float().unflatten(0, (-1, block.num_segments))
            self.within.append(float(gates.std(dim=1).mean()))
            self.means.setdefault(block, []).append(gates.mean(dim=1))

        blocks = [m for m in model.modules() if isinstance(m, GlobalTemporalDifference)]
        handles = [block.register_forward_hook(watch) for block in blocks]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def figures(self) -> dict[str, float]:
        """Means over channels and blocks; nothing of a network without blocks."""
        if not self.means:
            return {}
        of_blocks = [torch.cat(means) for means in self.means.values()]  # [clips, C] each
        return {
            "gate_from_half": statistics.fmean(float((m - 0.5).abs().mean()) for m in of_blocks),
            "gate_sd_within_clip": statistics.fmean(self.within),
            "gate_sd_between_clips": statistics.fmean(float(m.std(0).mean()) for m in of_blocks),
        }


def accuracies(evaluation: Evaluation, groups: Sequence[Sequence[str]]) -> dict[str, float]:
    """Shares of the clips, in %."""
    names = evaluation.class_names
    group_of = np.array([next(g for g, group in enumerate(groups) if n in group) for n in names])
    is_whole = np.array([any(words in name for words in WHOLE_CLIP) for name in names])
    labels, scores = evaluation.labels, evaluation.scores
    own = group_of[labels][:, None] == group_of[None]  # [clips, classes]
    in_group = np.where(own, scores, -1).argmax(axis=1) == labels
    right_group = group_of[scores.argmax(axis=1)] == group_of[labels]
    needs_all = is_whole[labels]
    shares = {
        "top1_neighbouring": evaluation.correct[~needs_all],
        "top1_whole_clip": evaluation.correct[needs_all],
        "group": right_group,
        "order_neighbouring": in_group[~needs_all],
        "order_whole_clip": in_group[needs_all],
    }
    return {name: 100 * float(share.mean()) for name, share in shares.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--data", type=Path, default=Path("data/ablation/clips"))
    parser.add_argument("--results", type=Path, default=RESULTS / "ablation_classes.yaml")
    args = parser.parse_args()
    given = [
        f"--{name} {value.as_posix()}"
        for name, value in vars(args).items()
        if value != parser.get_default(name) and not value.is_absolute()
    ]
    trained = yaml.safe_load((args.runs / "ablation.yaml").read_text(encoding="utf-8"))
    clips = read_annotations(args.data, "validation")
    found: dict[str, list[dict[str, float]]] = {}
    for run in trained["runs"]:
        if run["status"] != "finished":
            continue
        # Validated after the last epoch alone, so that the model file holds its weights.
        model_file = load_model(args.runs / run["folder"] / "model.safetensors")
        gates = Gates()
        with gates.watched(model_file.model):
            evaluation = evaluate_model(model_file, clips, num_workers=0, precision="auto")
        figures = accuracies(evaluation, class_groups("full")) | gates.figures()
        found.setdefault(run["variant"], []).append(figures)
        print(run["folder"], {k: round(v, 3) for k, v in figures.items()}, flush=True)
    means = {
        variant: {
            key: round(statistics.fmean(run[key] for run in runs), 1 if value >= 1 else 3)
            for key, value in runs[0].items()
        }
        for variant, runs in found.items()
    }
    deviations = {
        variant: {
            key: round(statistics.stdev(run[key] for run in runs), 1)
            for key in runs[0]
            if len(runs) > 1 and not key.startswith("gate")
        }
        for variant, runs in found.items()
    }
    result: dict[str, Any] = {
        "title": "Which classes the variants of the ablation tell apart",
        "command": " ".join(["python benchmarks/ablation_classes.py", *given]),
        "date": date.today().isoformat(),
        "machine": trained["machine"],
        "versions": trained["versions"],
        "validation_clips": len(clips.records),
        "runs": {variant: len(runs) for variant, runs in found.items()},
        "means": means,
        "standard_deviations": deviations,
    }
    write_text(args.results, yaml.safe_dump(result, sort_keys=False, width=100))


if __name__ == "__main__":
    main()
