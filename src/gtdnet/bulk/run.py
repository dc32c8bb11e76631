"""``gtdnet bulk``: what is asked for, what is there already, and what is to be done."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gtdnet import __version__
from gtdnet.bulk.crew import Done
from gtdnet.bulk.listing import Listing, check_pyarrow, open_listing
from gtdnet.bulk.options import BulkOptions
from gtdnet.bulk.scorer import Setup
from gtdnet.bulk.shards import Counts, Shards, open_shards
from gtdnet.engines import choose_for, open_model
from gtdnet.errors import InputError
from gtdnet.files import sha256
from gtdnet.infer.answers import THRESHOLD
from gtdnet.models.model_file import ModelFile
from gtdnet.places import shown
from gtdnet.spread.each import Spread
from gtdnet.text import counted, progress_bar, say

_FORMAT = 1
_TOPK = 5
_MOST_REASONS = 1000  # that are counted one by one
_SHOWN_REASONS = 5

Runner = Callable[[Setup, Listing, Collection[int], int, BulkOptions], Iterator[Done]]
"""Answers the blocks of a listing that are not done, and tells of each."""


@dataclass
class Summary:
    """What is in the folder now, and how it came there.

    Attributes:
        to, model, listing, runner: as asked for.
        rows, failed: of all shards: clips, and those without an answer.
        rows_before: that earlier runs had answered.
        blocks: of this run.
        deaths: processes that died in it.
        reasons: how often each stands in its rows, the most frequent first.
        seconds: of wall time in its blocks, the start of processes included.
    """

    to: str
    model: str
    listing: str
    runner: str
    rows: int = 0
    failed: int = 0
    rows_before: int = 0
    blocks: int = 0
    deaths: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(self, done: Done) -> None:
        self.rows += done.counts.rows
        self.failed += done.counts.failed
        self.blocks += 1
        self.deaths += done.deaths
        for reason in done.reasons:
            kept = reason in self.reasons or len(self.reasons) < _MOST_REASONS
            self.reasons[reason if kept else "other reasons"] += 1

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        rate = (self.rows - self.rows_before) / self.seconds if self.seconds else None
        return {
            **{k: v for k, v in vars(self).items() if k != "reasons"},
            "seconds": round(self.seconds, 3),
            "clips_per_second": None if rate is None else round(rate, 3),
            "reasons": dict(self.reasons.most_common()),
        }

    def text(self) -> str:
        """What people read."""
        lines = [f"{counted(self.rows, 'clip')} in {self.to}"]
        if self.rows_before:
            lines[0] += f", {self.rows_before} of them before"
        if self.failed:
            lines.append(f"{counted(self.failed, 'clip')} without an answer")
        for reason, number in self.reasons.most_common(_SHOWN_REASONS):
            lines.append(f"  {number} x {reason}")
        if self.deaths:
            lines.append(f"{counted(self.deaths, 'process', 'processes')} died on the way")
        return "\n".join(lines)


def bulk(options: BulkOptions) -> Summary:
    """Answer all clips of a listing that have no answer yet.

    Raises:
        InputError: bad options; a listing whose ids are not unique; a folder with answers of
            another run; a model, engine or place that cannot be used.
        KeyboardInterrupt: says what is kept.
    """
    options.check()
    check_pyarrow()
    name, runner = _runner(options)
    listing, shards = open_listing(options.listing), open_shards(options.to)
    setup, run = _setup(options, shards)
    with shards.alone():
        run = _same_run(shards, run, listing)
        setup = _with_run(setup, run)
        done = shards.done(setup.run)
        if options.retry_failed:
            done = {block: counts for block, counts in done.items() if not counts.failed}
        rows = run["listing"]["rows"]
        done = {b: counts for b, counts in done.items() if counts.rows == _rows_of(b, run)}
        num_blocks = -(-rows // options.block_size) - len(done)
        there = Counts(
            sum(counts.rows for counts in done.values()),
            sum(counts.failed for counts in done.values()),
        )
        summary = Summary(shown(options.to), options.model, shown(options.listing), name, *there)
        summary.rows_before = there.rows
        if there.rows:
            say(f"{summary.to} has {there.rows} of {counted(rows, 'clip')} already")
        began = time.monotonic()
        try:
            with progress_bar("clips", rows, there.rows) as advance:
                blocks = runner(setup, listing, done.keys(), num_blocks, options)
                for found in blocks if num_blocks else ():
                    summary.add(found)
                    advance(found.counts.rows)
        except KeyboardInterrupt as stop:
            raise type(stop)(
                f"{str(stop) or 'interrupted'}; {summary.to} keeps {summary.rows} of "
                f"{counted(rows, 'clip')}, and the same command goes on"
            ) from None
        summary.seconds = time.monotonic() - began if num_blocks else 0.0
        if summary.rows != rows:
            raise InputError(
                f"{summary.listing}: has changed while it was read: {counted(rows, 'row')} before, "
                f"{summary.rows} now; give another folder with --to"
            )
    return summary


def _runner(options: BulkOptions) -> tuple[str, Runner]:
    """What spreads the blocks, by name."""
    name = Spread(options.runner, options.ray_address).chosen()
    if name == "ray":
        from gtdnet.bulk.on_ray import on_ray

        return name, on_ray
    from gtdnet.bulk.processes import on_processes

    return name, on_processes


def _setup(options: BulkOptions, shards: Shards) -> tuple[Setup, dict[str, Any]]:
    """What processes need, and what the answers depend on but for the listing, JSON-ready."""
    file = open_model(options.model, num_segments=options.num_segments)
    choice = choose_for(file, options.engine, options.device, options.precision)
    spec = file.spec
    num_features = None
    if options.features:
        if not isinstance(file, ModelFile) or choice.name != "torch":
            raise InputError(
                f"{options.model}: features take a model file (.safetensors) and --engine torch"
            )
        num_features = file.model.classifier.in_features
    topk = options.topk or (spec.num_classes if spec.multi_label else _TOPK)
    threshold = options.threshold
    if threshold is None:
        threshold = THRESHOLD if spec.multi_label else 0.0
    same = ("clips", "crops", "average", "num_segments", "batch_size", "max_mib")
    setup = Setup(
        model=str(file.path),
        shards=shards,
        run="",
        topk=topk,
        threshold=threshold,
        num_features=num_features,
        device=options.device,
        engine=options.engine,
        precision=options.precision,
        **{name: getattr(options, name) for name in same},
    )
    kept = ("clips", "crops", "average", "batch_size", "block_size")
    return setup, {
        "bulk": _FORMAT,
        "model": {"path": options.model, "sha256": sha256(Path(file.path))},
        "spec": spec.to_dict(),
        "options": {
            "topk": topk,
            "threshold": threshold,
            "features": options.features,
            "engine": choice.name,
            "precision": str(choice.precision),
            **{name: getattr(options, name) for name in kept},
        },
    }


def _same_run(shards: Shards, run: dict[str, Any], listing: Listing) -> dict[str, Any]:
    """The run that is in a folder, which must be this one; a new one is written.

    Raises:
        InputError: it is another, in which respect; or the listing cannot be used.
    """
    there = shards.read_run()
    if there is None:
        found = listing.survey()
        run["listing"] = {"path": shown(listing.place), **found._asdict()}
        run["version"] = __version__
        shards.begin(run)
        return run
    digest = listing.digest()
    theirs = there.get("options", {})
    other = [
        f"{name} {theirs.get(name)}, not {value}"
        for name, value in run["options"].items()
        if theirs.get(name) != value
    ]
    if there.get("bulk") != _FORMAT:
        other.insert(0, f"format {there.get('bulk')}, not {_FORMAT}")
    if there.get("model", {}).get("sha256") != run["model"]["sha256"]:
        other.insert(0, "another model")
    elif there.get("spec") != json.loads(json.dumps(run["spec"])):
        other.insert(0, "another clip spec")
    if there.get("listing", {}).get("sha256") != digest:
        other.append("another listing, or it has changed")
    if other:
        raise InputError(
            f"{shown(shards.place)}: holds answers of another run ({'; '.join(other)}); go on with "
            f"what it was begun with, or give another folder with --to"
        )
    return there


def _with_run(setup: Setup, run: dict[str, Any]) -> Setup:
    text = json.dumps(run, sort_keys=True)
    return replace(setup, run=hashlib.sha256(text.encode()).hexdigest()[:16])


def _rows_of(block: int, run: dict[str, Any]) -> int:
    """How many rows a block must have; 0 for one that is none of the run's."""
    size = run["options"]["block_size"]
    return max(0, min(size, run["listing"]["rows"] - block * size))
