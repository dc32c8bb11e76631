"""``gtdnet report``: one HTML file about one run, or several side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

from gtdnet import __version__
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import DecodeError, InputError, check_not_negative
from gtdnet.files import NotWritten, check_place, write_text
from gtdnet.report.compare import Comparison, compare_runs
from gtdnet.report.frames import Picture, clip_pictures, find_clips
from gtdnet.report.options import ReportOptions
from gtdnet.report.page import Shown, render
from gtdnet.report.reading import Run, read_runs
from gtdnet.text import first_line

REPORT_FILE = "report.html"


def report(
    options: ReportOptions, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Write the report; ``progress`` is told (clips whose frames are read, clips in all).

    Returns, JSON-ready: ``output``, the file; ``runs`` with their accuracies and intervals;
    ``comparisons``; ``left_out``: a sentence for whatever the page does without; ``not_written``:
    why there is no page, where the system refuses it (``output`` is None then).

    Raises:
        ValueError: nothing to report on, files that cannot be read, or a file that exists already.
    """
    if not options.runs:
        raise InputError("no run given; name a run directory or the folder of an evaluation")
    check_not_negative(clips=options.clips)
    output = _output(options)
    check_place(output)
    runs = read_runs(options.runs)
    comparisons = compare_runs(runs) if len(runs) > 1 else []
    shown = [
        Shown(run, run.evaluated.worst(options.clips) if run.evaluated else ()) for run in runs
    ]
    number, total = count(1), sum(len(one.mistakes) for one in shown)
    done = (lambda: progress(next(number), total)) if progress else lambda: None
    shown = [_with_pictures(one, options.data, done) for one in shown]
    title = options.title or (runs[0].name if len(runs) == 1 else "Comparison of runs")
    made_by = f"Written by gtdnet {__version__}. This file needs no network and no other file."
    page, not_written = render(title, shown, comparisons, made_by), None
    try:
        write_text(output, page)
    except NotWritten as error:
        not_written = str(error)
    except OSError as error:
        not_written = f"{output}: could not be written ({first_line(error)})"
    return {
        "output": None if not_written else str(output),
        "runs": [_summary(run) for run in runs],
        "comparisons": [asdict(one) for one in comparisons],
        "left_out": _left_out(shown, comparisons),
        "not_written": not_written,
    }


def summary(result: dict[str, Any]) -> str:
    """Where the page is and what it does without, for people."""
    outcome = result["not_written"] or f"report: {result['output']}"
    return "\n".join([*result["left_out"], outcome])


def _output(options: ReportOptions) -> Path:
    if options.output is not None:
        output = Path(options.output)
    elif len(options.runs) == 1:
        output = Path(options.runs[0]) / REPORT_FILE
    else:
        output = Path(REPORT_FILE)
    if output.is_dir():
        raise InputError(f"{output}: is a folder; give --output the name of an .html file")
    if output.exists() and not options.overwrite:
        raise InputError(
            f"{output}: exists already; give another --output, or replace it with --overwrite"
        )
    return output


def _with_pictures(shown: Shown, data: str | None, done: Callable[[], None]) -> Shown:
    """The same with the frames of its worst clips; ``done`` is called after each clip."""
    evaluated = shown.run.evaluated
    if evaluated is None or not shown.mistakes:
        return shown
    try:
        paths = find_clips(evaluated.result, data, evaluated.path)
        spec = ClipSpec.from_dict(evaluated.spec)
    except InputError as error:
        note = f"Their frames are left out: {str(error).rstrip('.')}."
        return replace(shown, pictures_note=note)
    pictures: dict[str, list[Picture] | str] = {}
    for mistake in shown.mistakes:
        pictures[mistake.id] = "The dataset no longer has this clip."
        if mistake.id in paths:
            try:
                pictures[mistake.id] = clip_pictures(paths[mistake.id], spec)
            except DecodeError as error:
                pictures[mistake.id] = f"Its frames cannot be read: {error.reason}."
        done()
    return replace(shown, pictures=pictures)


def _summary(run: Run) -> dict[str, Any]:
    evaluated = run.evaluated
    figures = evaluated.figures if evaluated else {}
    return {
        "name": run.name,
        "folder": str(run.folder),
        "evaluation": str(evaluated.path) if evaluated else None,
        **{name: figure and figure._asdict() for name, figure in figures.items()},
    }


def _left_out(shown: list[Shown], comparisons: list[Comparison]) -> list[str]:
    sentences = []
    for one in shown:
        sentences += one.run.notes
        if one.run.evaluated is None:
            sentences.append(f"{one.run.name} has no evaluation; make one with gtdnet evaluate.")
        if one.pictures_note:
            sentences.append(f"Worst clips of {one.run.name}: {one.pictures_note}")
    return sentences + [one.refusal for one in comparisons if one.refusal is not None]
