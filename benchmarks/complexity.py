"""Parameters and multiply-accumulates of the models, as Markdown tables.

    python benchmarks/complexity.py

The numbers follow from the architecture alone: no weights, no data, no timing, any machine.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from gtdnet.models.zoo import create_model
from gtdnet.nn import AGGREGATIONS

NUM_CLASSES = 174  # Something-Something, the paper's main benchmark


def parameters(name: str, num_segments: int = 8, **options: Any) -> float:
    """Millions of parameters."""
    with torch.device("meta"):
        model = create_model(name, NUM_CLASSES, num_segments, **options)
    return sum(p.numel() for p in model.parameters()) / 1e6


def gmacs(name: str, num_segments: int, **options: Any) -> float:
    """Billions of multiply-accumulates of one 224x224 clip (this field's "GFLOPs")."""
    with torch.device("meta"):
        model = create_model(name, NUM_CLASSES, num_segments, **options).eval()
        clip = torch.empty(1, num_segments, 3, 224, 224)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(clip)
    return counter.get_total_flops() / 2e9


def main() -> None:
    """Print both tables."""
    reductions = (2, 4, 8, 16)
    print("Parameters (M) of gtdnet_resnet50, 8 frames, 174 classes:\n")
    print("| aggregation | " + " | ".join(f"r = {r}" for r in reductions) + " |")
    print("|---|" + "---:|" * len(reductions))
    for aggregation in AGGREGATIONS:
        row = [
            parameters("gtdnet_resnet50", aggregation=aggregation, reduction=r) for r in reductions
        ]
        print(f"| {aggregation} | " + " | ".join(f"{value:.1f}" for value in row) + " |")
    print("\nOne 224x224 clip, ResNet-50:\n")
    print("| model | frames | GMACs | parameters (M) |")
    print("|---|---:|---:|---:|")
    for name in ("tsn_resnet50", "tsm_resnet50", "gtdnet_resnet50"):
        for frames in (8, 16):
            size = parameters(name, frames)
            print(f"| {name} | {frames} | {gmacs(name, frames):.2f} | {size:.2f} |")


if __name__ == "__main__":
    main()
