"""The peers on ResNet-50: size and cost beside their papers', and how near the official code is.

    python benchmarks/peers.py [--checkpoints FOLDER]

Parameters and multiply-accumulates follow from the architecture alone. The difference to the
official code needs a folder of compact official checkpoints: for each NAME.json (keys, shapes,
input) a NAME.npz with the logits that the official code computed in float32, and a rules.py that
makes checkpoint and input of them. Each goes through gtdnet convert, and the largest difference of
a logit is given as a share of the logits' standard deviation. Results go to
benchmarks/results/peers.yaml.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import yaml

import gtdnet
from gtdnet.models.complexity import complexity
from gtdnet.weights.convert import ConvertOptions, convert

RESULTS = Path(__file__).parent / "results" / "peers.yaml"
NUM_CLASSES = 174  # Something-Something

# Billions of multiply-accumulates and millions of parameters as the papers print them for
# ResNet-50 with 8 and with 16 frames; the parameters as in their own tables or, for TEINet, in
# table I of the GTDNet paper. None: not given.
PUBLISHED: dict[str, tuple[float | None, float | None, float | None]] = {
    "tsn": (33, 65, 24.3),
    "tsm": (33, 65, 24.3),
    "teinet": (33, 66, 30.4),
    "tea": (35, 70, None),
    "tdn": (36, 72, None),
    "action": (34.75, None, 28.08),
    "tanet": (33, 66, 25.6),
    "gtdnet": (33, 66, 33.9),
}


def measure(method: str, num_segments: int) -> tuple[float, float]:
    """GMACs of one 224x224 view and millions of parameters."""
    cost = complexity(f"{method}_resnet50", NUM_CLASSES, num_segments)
    return cost.macs / 1e9, cost.parameters / 1e6


def official_difference(spec: dict[str, Any], rules: ModuleType, logits: Any) -> dict[str, Any]:
    """Convert one official checkpoint and compare its logits with the official code's."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "official.pth"
        torch.save(rules.checkpoint(spec), checkpoint)
        result = convert(ConvertOptions(str(checkpoint), str(Path(folder) / "m.safetensors")))
        model = gtdnet.load_model(result.path).model
    frames = model.num_segments * model.frames_per_segment
    clips = rules.input_for(spec).unflatten(0, (-1, frames))
    with torch.inference_mode():
        ours = model(clips).double().numpy()
    wanted = logits.astype(np.float64)
    return {
        "model": result.model,
        "source": spec["source"],
        "commit": spec["commit"],
        "largest_difference": float(f"{np.abs(ours - wanted).max() / wanted.std():.2g}"),
    }


def load_rules(folder: Path) -> ModuleType:
    found = importlib.util.spec_from_file_location("rules", folder / "rules.py")
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoints", type=Path, help="folder of compact official checkpoints")
    args = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    for method, published in PUBLISHED.items():
        (gmacs_8, parameters), (gmacs_16, _) = (measure(method, t) for t in (8, 16))
        rows[method] = {
            "gmacs_8": round(gmacs_8, 2),
            "gmacs_16": round(gmacs_16, 2),
            "parameters": round(parameters, 2),
            "published_gmacs_8": published[0],
            "published_gmacs_16": published[1],
            "published_parameters": published[2],
        }
    differences = {}
    if args.checkpoints:
        rules = load_rules(args.checkpoints)
        for path in sorted(args.checkpoints.glob("*.json")):
            spec = json.loads(path.read_text(encoding="utf-8"))
            logits = np.load(path.with_suffix(".npz"))["logits"]
            differences[path.stem] = official_difference(spec, rules, logits)
    result = {
        "command": "python benchmarks/peers.py --checkpoints FOLDER",
        "date": date.today().isoformat(),
        "versions": {"gtdnet": gtdnet.__version__, "torch": str(torch.__version__)},
        "num_classes": NUM_CLASSES,
        "models": rows,
        "official": differences,
    }
    if differences:
        RESULTS.write_text(yaml.safe_dump(result, sort_keys=False), encoding="utf-8")

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:g}"

    print(
        "| model | GMACs, 8 frames | published | 16 frames | published | M parameters | published |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for method, row in rows.items():
        print(
            f"| {method}_resnet50 | {row['gmacs_8']:.2f} | {shown(row['published_gmacs_8'])} "
            f"| {row['gmacs_16']:.2f} | {shown(row['published_gmacs_16'])} "
            f"| {row['parameters']:.2f} | {shown(row['published_parameters'])} |"
        )
    for name, row in differences.items():
        print(f"{name}: {row['model']}, largest difference {row['largest_difference']:.1e} of std")


if __name__ == "__main__":
    main()
