"""What the ResNet-50s cost, and GTDNet's parameters by aggregation, reduction and place.

    python benchmarks/complexity.py

The numbers follow from the architecture alone (gtdnet.models.complexity says how): no weights, no
data, no timing, any machine. They go to benchmarks/results/complexity.yaml, and from there to
docs/results.md by benchmarks/results.py.
"""

from __future__ import annotations

from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import torch
import yaml

import gtdnet
from gtdnet.files import write_text
from gtdnet.measure.machine import describe_machine
from gtdnet.models.complexity import complexity
from gtdnet.nn import AGGREGATIONS

RESULTS = Path(__file__).parent / "results" / "complexity.yaml"
NUM_CLASSES = 174  # Something-Something, the paper's main benchmark
CROP_SIZE = 224
FRAMES = (8, 16)
REDUCTIONS = (2, 3, 4, 5, 6, 7, 8, 16)
EVERY = (1, 2)  # GTD blocks in all residual blocks, or in every second one
PUBLISHED = 33.9  # millions of parameters, by the paper
NEAREST = 8  # readings to list


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
    """Millions of parameters of gtdnet_resnet50, three digits after the point."""
    with torch.device("meta"):
        model = gtdnet.create_model("gtdnet_resnet50", NUM_CLASSES, FRAMES[0], **options)
    return round(sum(p.numel() for p in model.parameters()) / 1e6, 3)


def readings() -> list[dict[str, Any]]:
    """The choices of aggregation, reduction and place nearest to the published parameters."""
    found = []
    for every, aggregation, r in product(EVERY, AGGREGATIONS, REDUCTIONS):
        options = {"aggregation": aggregation, "reduction": r, "every": every}
        found.append({**options, "m_parameters": parameters(**options)})
    found.sort(key=lambda reading: abs(reading["m_parameters"] - PUBLISHED))
    for reading in found[:NEAREST]:
        options = {key: reading[key] for key in ("aggregation", "reduction", "every")}
        for frames in FRAMES:
            reading[f"gmacs_{frames}"] = costs("gtdnet_resnet50", frames, **options)["gmacs"]
    return found[:NEAREST]


def main() -> None:
    names = [name for name in gtdnet.list_models() if name.endswith("_resnet50")]
    result = {
        "command": "python benchmarks/complexity.py",
        "date": date.today().isoformat(),
        "versions": {"gtdnet": gtdnet.__version__, "torch": str(torch.__version__)},
        "machine": describe_machine(torch.device("cpu")),
        "num_classes": NUM_CLASSES,
        "crop_size": CROP_SIZE,
        "models": {name: {frames: costs(name, frames) for frames in FRAMES} for name in names},
        "gtdnet_m_parameters": {
            aggregation: {
                r: round(parameters(aggregation=aggregation, reduction=r), 1) for r in REDUCTIONS
            }
            for aggregation in AGGREGATIONS
        },
        "published_m_parameters": PUBLISHED,
        "gtdnet_nearest": readings(),
    }
    write_text(RESULTS, yaml.safe_dump(result, sort_keys=False))
    print(f"{RESULTS}; next: python benchmarks/results.py")


if __name__ == "__main__":
    main()
