"""What every backbone costs under TSN, TSM and GTDNet: numbers, and the time of one clip by engine.

    python benchmarks/costs.py [--backbones resnet18 ...] [--engines openvino ...]

One thread. All models of a backbone in one engine, and one network in OpenVINO that is the same for
all, take turns (gtdnet.measure.timing), so that a time can be told as a multiple of the floor's,
and of that network's whatever the backbone and engine. Results go to benchmarks/results/costs.yaml
after each of these parts, and from there to docs/results.md. A part that is there already is not
measured again (--again), so that an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from gtdnet.bench.cases import measure
from gtdnet.bench.models import ModelCase
from gtdnet.bench.networks import Network
from gtdnet.bench.options import ModelBenchOptions
from gtdnet.bench.result import envelope
from gtdnet.errors import InputError
from gtdnet.files import read_yaml, write_yaml
from gtdnet.measure.provenance import now
from gtdnet.text import say

RESULTS = Path(__file__).parent / "results" / "costs.yaml"
METHODS = ("tsn", "tsm", "gtdnet")
BACKBONES = ("efficientnet_lite0", "resnet18", "resnet50", "convnext_tiny", "vit_small14")
ENGINES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "openvino": ("fp32", "bf16", "int8"),
        "eager": ("fp32",),
        "onnx": ("fp32",),
        "compile": ("fp32",),
    }
)
"""What is measured, with the precisions of each."""

YARDSTICK = ("tsn_resnet18", "openvino", "bf16")


def numbers(backbone: str, args: argparse.Namespace) -> dict[str, Any]:
    """Parameters and multiply-accumulates of each method's network, counted."""
    found = {}
    for method in METHODS:
        cost = Network(f"{method}_{backbone}").cost(args.num_segments, args.crop_size)
        found[method] = {
            "m_parameters": round(cost.parameters / 1e6, 2),
            "gmacs": round(cost.macs / 1e9, 2),
        }
    return found


def part(backbone: str, engine: str, args: argparse.Namespace) -> dict[str, Any]:
    """The models of a backbone in one engine by turns, JSON-ready."""

    def case(name: str, engine: str, precision: str) -> ModelCase:
        network = Network(name)
        return ModelCase(network, 1, 1, args.num_segments, args.crop_size, engine, precision,
                         "nchw" if engine == "eager" else None)  # fmt: skip

    precisions = [p for p in ENGINES[engine] if p in args.precisions]
    planned = [case(f"{m}_{backbone}", engine, p) for p in precisions for m in METHODS]
    yardstick = case(*YARDSTICK)
    options = ModelBenchOptions(
        device="cpu", threads="1", seconds=args.seconds, memory=False, profile=args.profile
    )
    ratios = {"vs_floor": lambda c: (c, c.floor()), "vs_yardstick": lambda c: (c, yardstick)}
    found = measure(options, list(dict.fromkeys([*planned, yardstick])), ratios)
    rows = {}
    for row in found.pop("cases"):
        method, _, of = row["model"].partition("_")
        if of != backbone or row["engine"] != engine:
            continue  # the yardstick
        kept = {key: row[key] for key in ("cpu_ms", "vs_floor", "vs_yardstick")}
        if row.get("kinds") and method != "tsn":
            kept["kinds"] = row["kinds"]
        rows[f"{method} {row['precision']}"] = kept
    return {"date": now(), **found, "rows": rows}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16", "int8"])
    parser.add_argument("--num_segments", type=int, default=8)
    parser.add_argument("--crop_size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=40, help="of turns, for each part")
    parser.add_argument("--profile", type=int, default=0, help="kinds of operations to tell of")
    parser.add_argument("--again", action="store_true", help="measure what is there already")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    clip = {"num_segments": args.num_segments, "crop_size": args.crop_size}
    result = envelope(
        "costs", "What the backbones cost", "python benchmarks/costs.py", torch.device("cpu"),
        ["onnx", "onnxruntime", "openvino", "nncf"],
    )  # fmt: skip
    result |= {"clip": clip, "yardstick": " ".join(YARDSTICK), "numbers": {}, "parts": {}}
    if args.output.is_file():
        before = read_yaml(args.output)
        if before["clip"] != clip:
            print(f"{args.output}: is of clips {before['clip']}, not {clip}; give another --output")
            return 2
        result |= {key: before[key] for key in ("numbers", "parts")}
    for engine in args.engines:
        for backbone in args.backbones:
            name = f"{backbone}, {engine}"
            if name in result["parts"] and not args.again:
                continue
            try:
                result["numbers"].setdefault(backbone, numbers(backbone, args))
                result["parts"][name] = part(backbone, engine, args)
            except InputError as error:
                print(f"benchmarks/costs.py: {error}", file=sys.stderr)
                return 2
            write_yaml(args.output, result)
            say(f"{name}: {len(result['parts'][name]['rows'])} models in {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
