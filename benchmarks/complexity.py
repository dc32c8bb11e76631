"""What the ResNet-50s cost, and GTDNet's parameters by aggregation and reduction.

    python benchmarks/complexity.py

The numbers follow from the architecture alone (gtdnet.models.complexity says how): no weights, no
data, no timing, any machine. They go to benchmarks/results/complexity.yaml, and from there to
docs/results.md by benchmarks/results.py.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import torch
import yaml

import gtdnet
from gtdnet.files import write_text
from gtdnet.models.complexity import complexity
from gtdnet.nn import AGGREGATIONS

RESULTS = Path(__file__).parent / "results" / "complexity.yaml"
NUM_CLASSES = 174  # Something-Something, the paper's main benchmark
CROP_SIZE = 224
FRAMES = (8, 16)
REDUCTIONS = (2, 4, 8, 16)


def costs(name: str, num_segments: int, **options: Any) -> dict[str, float]:
    """Of one view: millions of parameters, billions of multiply-accumulates, MiB of memory."""
    cost = complexity(name, NUM_CLASSES, num_segments, CROP_SIZE, **options)
    return {
        "m_parameters": round(cost.parameters / 1e6, 2),
        "gmacs": round(cost.macs / 1e9, 2),
        "inference_mib": round(cost.inference_bytes / 2**20),
        "training_mib": round(cost.training_bytes / 2**20),
    }


def parameters(**options: Any) -> float:
    """Millions of parameters of gtdnet_resnet50."""
    with torch.device("meta"):
        model = gtdnet.create_model("gtdnet_resnet50", NUM_CLASSES, FRAMES[0], **options)
    return round(sum(p.numel() for p in model.parameters()) / 1e6, 1)


def main() -> None:
    names = [name for name in gtdnet.list_models() if name.endswith("_resnet50")]
    result = {
        "command": "python benchmarks/complexity.py",
        "date": date.today().isoformat(),
        "versions": {"gtdnet": gtdnet.__version__, "torch": str(torch.__version__)},
        "num_classes": NUM_CLASSES,
        "crop_size": CROP_SIZE,
        "models": {name: {frames: costs(name, frames) for frames in FRAMES} for name in names},
        "gtdnet_m_parameters": {
            aggregation: {r: parameters(aggregation=aggregation, reduction=r) for r in REDUCTIONS}
            for aggregation in AGGREGATIONS
        },
    }
    write_text(RESULTS, yaml.safe_dump(result, sort_keys=False))
    print(f"{RESULTS}; next: python benchmarks/results.py")


if __name__ == "__main__":
    main()
