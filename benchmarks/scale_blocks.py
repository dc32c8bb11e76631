"""What a block of gtdnet bulk takes, and its parts, by turns in one process, in CPU seconds."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import bulk as bulk_script
from gtdnet.bulk.listing import Row, open_listing
from gtdnet.bulk.options import BulkOptions
from gtdnet.bulk.run import _setup
from gtdnet.bulk.scorer import Scorer
from gtdnet.bulk.shards import Answer, open_shards
from gtdnet.data.dataset import Sample, collate
from gtdnet.data.spec import ClipSpec
from gtdnet.models import create_model, save_model
from gtdnet.workers import start_worker


def measure(videos: Sequence[Path], rounds: int) -> dict[str, Any]:
    """Of benchmarks/bulk.py's tiny model and clips, and of ResNet-50 on real videos if given."""
    start_worker()  # as a process of gtdnet bulk
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        bulk_script.make(root, 200)
        rows = [r for r in open_listing(str(root / "clips.csv")).rows() if int(r.id) % 100][:128]
        told = "a tiny network and clips"
        found["tiny"] = parts(root / "model.safetensors", rows, root, rounds, told, "")
        if videos:
            spec = ClipSpec(tuple(map(str, range(174))))
            model = create_model("gtdnet_resnet50", 174, 8)
            save_model(root / "r50.safetensors", model, spec)
            rows = [Row(str(i), str(path)) for i, path in enumerate(videos)]
            told = f"gtdnet_resnet50 and {len(rows)} H.264 videos of 10 to 13 s"
            network = "gtdnet_resnet50, eager, fp32"
            found["real"] = parts(root / "r50.safetensors", rows, root, rounds, told, network)
    return found


def parts(
    model: Path, rows: Sequence[Row], root: Path, rounds: int, what: str, network: str
) -> dict[str, Any]:
    """Medians of the whole, and of each part's share of the whole in the same round."""
    options = BulkOptions(str(model), "", str(root / f"{model.stem}-out"), device="cpu")
    scorer = Scorer(_setup(options, open_shards(options.to))[0])
    Path(options.to).mkdir()
    turns = [_turn(scorer, rows) for _ in range(rounds + 1)][1:]
    whole = statistics.median(turn["whole"] for turn in turns)
    result: dict[str, Any] = {
        "what": what,
        "model": network,
        "clips": len(rows),
        "rounds": rounds,
        "whole_cpu_ms": round(1000 * whole / len(rows), 3),
    }
    for part in ("reading", "network", "network_one_by_one", "writing"):
        shares = sorted(turn[part] / turn["whole"] for turn in turns)
        result[part] = {
            "share": round(statistics.median(shares), 4),
            "lowest": round(shares[0], 4),
            "highest": round(shares[-1], 4),
        }
    return result


def _turn(scorer: Scorer, rows: Sequence[Row]) -> dict[str, float]:
    """CPU seconds of a block and of its parts."""
    setup, took = scorer.setup, {}
    answers: list[Answer] = []
    views: list[torch.Tensor] = []

    def seconds(run: Callable[[], object]) -> float:
        began = time.process_time()
        run()
        return time.process_time() - began

    def write() -> None:
        setup.shards.write(0, answers, setup.run, None)

    def whole() -> None:  # Scorer.write
        answers.extend(scorer.answers(rows, lambda: None))
        write()

    took["whole"] = seconds(whole)
    took["reading"] = seconds(lambda: views.extend(map(scorer._views, rows)))
    for name, size in (("network", setup.batch_size), ("network_one_by_one", 1)):
        batches = list(_batches(views, size))
        took[name] = seconds(lambda: [scorer.recognizer.scores(b, size) for b in batches])  # noqa: B023
    took["writing"] = seconds(write)
    return took


def _batches(views: Sequence[torch.Tensor], size: int) -> Iterator[torch.Tensor]:
    for start in range(0, len(views), size):
        part = views[start : start + size]
        yield collate([Sample(v, -1, i) for i, v in enumerate(part)]).views
