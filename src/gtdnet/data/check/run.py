"""Read the splits of a dataset, decode every clip in parallel, and collect what is found."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path

from gtdnet.data.check.clips import ClipFacts, fatal, inspect_clip
from gtdnet.data.check.findings import broken, classes, contents, shapes
from gtdnet.data.check.layout import layout
from gtdnet.data.check.report import SEVERITIES, CheckReport, statistics_of
from gtdnet.data.check.shortcuts import shortcuts
from gtdnet.data.check.understanding import Understanding, understand
from gtdnet.data.findings import finding, odd_classes
from gtdnet.data.formats.clip_list import write_clip_list
from gtdnet.data.formats.several import packs_of
from gtdnet.data.pack.index import changed_files
from gtdnet.errors import InputError
from gtdnet.files import NotWritten
from gtdnet.spread.each import Spread, map_spread
from gtdnet.text import first_line
from gtdnet.workers import num_cores

_PER_PROCESS = 32  # clips that take about as long as starting a process does


def check_dataset(
    root: str | Path,
    *,
    format: str | None = None,
    splits: Sequence[str] | None = None,
    num_segments: int = 8,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    manifest: Path | None = None,
    understood: Understanding | None = None,
    spread: Spread | None = None,
) -> CheckReport:
    """Decode every clip of the given splits (default: all there are) and report.

    ``workers`` processes decode (default: one per core; 0: none but this one), or what ``spread``
    says; a clip that kills three of them is broken. ``progress`` is
    called with (clips done, clips in all). ``manifest`` is written with the clips that decode; if
    that fails, the report says why. ``understood`` is what `understand` said of the same root,
    format and splits, where it has been asked already. Raises InputError if no split can be read at
    all, or if the manifest exists already.
    """
    start = time.perf_counter()
    if manifest is not None and manifest.exists():
        raise InputError(f"The manifest {manifest} exists already; delete it or name another one.")
    understood = understood or understand(root, format, splits)
    read, findings = understood.read, list(understood.findings)
    paths = sorted({record.path for found in read.values() for record in found.records})
    if workers is None:
        workers = min(num_cores(), len(paths) // _PER_PROCESS)
    facts: dict[str, ClipFacts] = {}
    inspecting = map_spread(inspect_clip, paths, workers, spread or Spread(), fatal)
    with closing(inspecting) as inspected:
        for fact in inspected:
            facts[fact.path] = fact
            if progress:
                progress(len(facts), len(paths))
    findings += finding(
        "checksum",
        "error",
        chain.from_iterable(changed_files(pack) for pack in packs_of(root)),
        "Files of the packed dataset that are not as they were written",
        "Copy them again, or pack the dataset again into a new folder.",
    )
    findings += broken(read, facts)
    findings += contents(read, facts)
    findings += odd_classes(read)
    if understood.is_whole:
        findings += layout(understood)
    findings += classes(read, facts)
    findings += shapes(facts, num_segments)
    findings += shortcuts(read, facts)
    not_written = None
    if manifest is not None:
        kept = {
            fact.path: {"num_frames": fact.num_frames, "fps": fact.fps}
            for fact in facts.values()
            if not fact.error
        }
        try:
            write_clip_list(manifest, root, read, kept)
        except NotWritten as error:
            not_written = f"the manifest {error}"
        except (OSError, InputError) as error:
            not_written = f"the manifest {manifest} could not be written: {first_line(error)}"
    return CheckReport(
        understood=understood,
        facts=facts,
        splits={split: statistics_of(found, facts) for split, found in read.items()},
        findings=tuple(sorted(findings, key=lambda found: SEVERITIES.index(found.severity))),
        manifest=str(manifest) if manifest is not None and not not_written else None,
        not_written=not_written,
        seconds=time.perf_counter() - start,
    )
