"""What the runs of an ablation come to: means and deviations of each variant, and their table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gtdnet.text import markdown


def summarise(
    runs: Sequence[Mapping[str, Any]],
    variants: Sequence[str],
    sizes: Mapping[str, Mapping[str, int]],
) -> list[dict[str, Any]]:
    """Mean and sample standard deviation over the seeds of each variant, JSON-ready.

    ``difference`` is to the first variant, over the seeds that both have finished; None is what
    too few runs do not give.
    """
    finished = [run for run in runs if run["status"] == "finished"]
    of = {v: {run["seed"]: run for run in finished if run["variant"] == v} for v in variants}
    reference = of[variants[0]]
    rows = []
    for variant, by_seed in of.items():
        mine = by_seed.values()
        orders = dict.fromkeys(order for run in mine for order in run["frames"])
        differences = [
            run["val_top1"] - reference[seed]["val_top1"]
            for seed, run in by_seed.items()
            if seed in reference
        ]
        rows.append(
            {
                "name": variant,
                **sizes.get(variant, {}),
                "runs": len(mine),
                "val_top1": _mean_std(run["val_top1"] for run in mine),
                "best_val_top1": _mean_std(run["best_val_top1"] for run in mine),
                "frames": {
                    order: _mean_std(r["frames"][order] for r in mine if order in r["frames"])
                    for order in orders
                },
                "difference": None if variant == variants[0] else _mean_std(differences),
                "seconds": _mean_std(run["seconds"] for run in mine)["mean"],
            }
        )
    return rows


def table(result: Mapping[str, Any]) -> str:
    """The variants as a Markdown table that also reads well in a terminal."""
    variants = result["variants"]
    orders = list(dict.fromkeys(order for v in variants for order in v["frames"]))
    heads = [
        "variant", "M param.", "GMACs/view", "top-1 %", f"minus {variants[0]['name']}",
        *(f"{order} %" for order in orders), "best epoch %", "minutes", "runs",
    ]  # fmt: skip
    rows = [
        [
            v["name"],
            f"{v['parameters'] / 1e6:.2f}" if "parameters" in v else "",
            f"{v['macs_per_view'] / 1e9:.3f}" if "macs_per_view" in v else "",
            _percent(v["val_top1"]),
            _percent(v["difference"], "+"),
            *(_percent(v["frames"].get(order)) for order in orders),
            _percent(v["best_val_top1"]),
            "" if v["seconds"] is None else f"{v['seconds'] / 60:.1f}",
            str(v["runs"]),
        ]
        for v in variants
    ]
    return markdown([heads, *rows])


def report(result: Mapping[str, Any]) -> str:
    """The table, and what its numbers are."""
    data, versions = result["data"], result["versions"]
    lines = [
        "# Ablation",
        "",
        table(result),
        "",
        f"Top-1 on {data['validation_clips']} validation clips of {data['classes']} classes after "
        f"the last of {result['epochs']} epochs of {data['training_clips']} clips: mean ± sample "
        f"standard deviation over the seeds {', '.join(map(str, result['grid']['seeds']))}. "
        f'Differences are taken seed by seed, then averaged. "best epoch" is chosen on the same '
        f"clips and therefore too high.",
        "",
        f"    {result['command']}",
        "",
        f"{result['written']}, gtdnet {versions['gtdnet']}, torch {versions['torch']}, "
        f"{result['machine']['device']}",
    ]
    failed = [run for run in result["runs"] if run["status"] == "failed"]
    lines += ["", "Failed:", ""] if failed else []
    lines += [f"- {run['variant']}, seed {run['seed']}: {run['reason']}" for run in failed]
    return "\n".join(lines) + "\n"


def _mean_std(values: Iterable[float]) -> dict[str, float | None]:
    known = list(values)
    return {
        "mean": round(statistics.fmean(known), 6) if known else None,
        "std": round(statistics.stdev(known), 6) if len(known) > 1 else None,
    }


def _percent(value: Mapping[str, float | None] | None, sign: str = "") -> str:
    mean, std = (value or {}).get("mean"), (value or {}).get("std")
    if mean is None:
        return ""
    text = f"{100 * mean:{sign}.1f}"
    return text if std is None else f"{text} ± {100 * std:.1f}"
