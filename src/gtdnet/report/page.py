"""The report as one HTML file that needs nothing beside it.

A Content-Security-Policy in the page's head forbids it to load anything, and any script but its
own. Every text that comes from files goes through ``html.escape``, or through JSON that page.js
only ever sets as text.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from typing import Any

import numpy as np

from gtdnet.report.confusion import (
    clustered_order,
    confused_pairs,
    mirror_confusions,
    mirror_labels,
)
from gtdnet.report.curves import Line, line_chart
from gtdnet.report.frames import Picture
from gtdnet.report.reading import Comparison, Evaluated, Figure, Mistake, Run, mapping

_MOST_PAIRS = 25
_MOST_FAILURES = 200
_ZOOMED = 24  # classes whose confusion matrix needs no zoom
_ZOOM = """<label>Go to <select><option value="">a class …</option></select></label>
<span><button type="button" class="plain" data-zoom="2">Zoom in</button>
<button type="button" class="plain" data-zoom="0.5">Zoom out</button>
<button type="button" class="plain" data-zoom="0">Whole matrix</button></span>"""
_ZOOM_HINT = "; + and − zoom, 0 shows the whole, and what is zoomed in can be dragged"
_ORDERS = {
    "in-order": "in order",
    "shuffled": "shuffled",
    "reversed": "reversed",
    "repeated": "one frame",
}


@dataclass(frozen=True)
class Shown:
    """A run, its worst clips, and their frames: by id, or the reason why there are none.

    ``pictures_note`` says why no clip has any.
    """

    run: Run
    mistakes: Sequence[Mistake] = ()
    pictures: Mapping[str, Sequence[Picture] | str] = field(default_factory=dict)
    pictures_note: str | None = None


class _Page:
    """What the parts of a page share: ids, data for page.js, links of the navigation."""

    def __init__(self) -> None:
        self.data: dict[str, dict[str, Any]] = {"curves": {}, "matrices": {}}
        self.links: list[tuple[str, str]] = []


def render(
    title: str, runs: Sequence[Shown], comparisons: Sequence[Comparison], made_by: str
) -> str:
    """The whole page; ``made_by`` is its last line."""
    page = _Page()
    if len(runs) == 1:
        main = _run_parts(page, "run-1", runs[0], 2)
    else:
        main = _comparison(page, [shown.run for shown in runs], comparisons)
        for number, shown in enumerate(runs, 1):
            id = f"run-{number}"
            page.links.append((id, shown.run.name))
            parts = _run_parts(page, id, shown, 3)
            main += (
                f'<section id="{id}"><details class="run"{" open" if number == 1 else ""}>'
                f"<summary><h2>{escape(shown.run.name)}</h2>"
                f'<span class="note-inline">{escape(_headline(shown.run))}</span></summary>'
                f"{parts}</details></section>"
            )
    links = "".join(f'<li><a href="#{id}">{escape(text)}</a></li>' for id, text in page.links)
    style, script = _asset("page.css"), _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    data = json.dumps(page.data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    lede = _headline(runs[0].run) if len(runs) == 1 else ", ".join(s.run.name for s in runs)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escape(title)}: gtdnet report</title>
<style>
{style}</style>
</head>
<body>
<a class="skip" href="#main">To the results</a>
<header class="page">
<p class="kicker">gtdnet report</p>
<h1>{escape(title)}</h1>
<p class="lede">{escape(lede)}</p>
</header>
<nav aria-label="Parts of this report"><ul>{links}</ul></nav>
<main id="main">
<noscript><p class="note">Without scripts, tables cannot be sorted and the confusion matrix is not
drawn; everything else is here.</p></noscript>
{main}
</main>
<footer>{escape(made_by)}</footer>
<script type="application/json" id="report-data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    return resources.files("gtdnet.report").joinpath(name).read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------ parts


def _run_parts(page: _Page, id: str, shown: Shown, level: int) -> str:
    """Everything about one run, under headings of this level; of a lone run they are linked to."""
    run, evaluated = shown.run, shown.run.evaluated
    absent = list(run.notes)  # what is not in the report, and why

    def part(name: str, title: str, body: str) -> str:
        if not body:
            return ""
        if level == 2:
            page.links.append((f"{id}-{name}", title))
        return f'<section id="{id}-{name}"><h{level}>{title}</h{level}>{body}</section>\n'

    html = ""
    if evaluated is None:
        absent.append(
            "Accuracies, classes, confusions and clips: the run has no evaluation. Make one with "
            "gtdnet evaluate, then write the report again."
        )
    else:
        html += part("results", "Results", _results(run, evaluated))
    html += part("protocol", "Protocol", _protocol(run, evaluated))
    html += part("training", "Training", _training(page, id, run, absent))
    if evaluated is not None:
        if evaluated.clips:
            html += part("classes", "Classes", _classes(id, evaluated))
            html += part("confusions", "Confusions", _confusions(page, id, evaluated, level + 1))
            html += part("clips", "Worst clips", _worst(shown, evaluated, absent))
        html += part("diagnosis", "Need for order", _diagnosis(id, evaluated, absent))
        html += part("failures", "Failures", _failures(evaluated))
    listed = "".join(f"<li>{escape(sentence)}</li>" for sentence in absent)
    return html + part("absent", "Not in this report", listed and f"<ul>{listed}</ul>")


def _headline(run: Run) -> str:
    """One line: model, what it was measured on, how it did."""
    evaluated = run.evaluated
    if evaluated is None:
        return str(run.config.get("model", "no evaluation"))
    result, protocol = evaluated.results.result, evaluated.protocol
    parts = [str(mapping(result, "model").get("name") or "model")]
    if top1 := evaluated.figures["top1"]:
        parts[0] += f": top-1 {_percent(top1.value)}"
    parts.append(f"{_count(len(evaluated.results.ids), 'clip')} of {protocol.get('split')}")
    parts.append(_count(len(evaluated.class_names), "class", "classes"))
    parts.append(f"views {protocol.get('views')}")
    if protocol.get("frames", "in-order") != "in-order":
        parts.append(f"frames {protocol['frames']}")
    return ", ".join(parts)


def _results(run: Run, evaluated: Evaluated) -> str:
    html = ""
    if not evaluated.clips:
        html += _note("The clips have no labels: there are scores, but nothing to measure.")
    else:
        shown = (
            ("Top-1", "top1"), ("Top-5", "top5"), ("Mean class accuracy", "mean_class_accuracy")
        )  # fmt: skip
        tiles = "".join(
            f"<div><dt>{name}</dt>{_tile(figure)}</div>"
            for name, key in shown
            if (figure := evaluated.figures[key])
        )
        html += f'<dl class="figures">{tiles}</dl>'
        note = (
            f"95 % confidence intervals over {_count(len(evaluated.clips), 'clip')}: Wilson’s for "
            f"top-1 and top-5, a bootstrap over clips for the mean class accuracy"
        )
        mean = evaluated.figures["mean_class_accuracy"]
        if mean and mean.low is None:
            note += " (none with fewer than ten clips a class, or where all or none are right)"
        note += f". Guessing gives {_percent(1 / len(evaluated.class_names))}."
        if not evaluated.results.failures:
            note += " Every clip of the split was read and scored."
        html += f'<p class="count">{note}</p>'
    if evaluated.results.failures:
        share = evaluated.results.metrics["top1_counting_failures_as_errors"]
        also = "" if share is None else f"; counting them as errors, top-1 is {_percent(share)}"
        failed = len(evaluated.results.failures)
        html += _note(
            f"{_count(failed, 'clip')} could not be read and {'is' if failed == 1 else 'are'} not "
            f"part of these accuracies{also}."
        )
    if len(run.evaluations) > 1:
        rows = [
            (
                f'<th scope="row">{escape(other.name)}</th>'
                f'<td class="nowrap">{escape(str(other.protocol.get("views", "")))}</td>'
                f"<td>{escape(str(other.protocol.get('split', '')))}</td>"
                f"<td>{escape(str(other.protocol.get('frames', '')))}</td>"
                + _number_cell(other.figures["top1"])
                + _number_cell(other.figures["top5"])
                + _number_cell(other.figures["mean_class_accuracy"])
                + f'<td class="number">{len(other.results.ids)}</td>'
            )
            for other in run.evaluations
        ]
        html += (
            f'<p class="before">This run has {len(run.evaluations)} evaluations. What '
            f"follows is of <b>{escape(evaluated.name)}</b>; for the details of another, give its "
            f"folder to gtdnet report.</p>"
            + _table(
                "All evaluations of this run",
                ("evaluation", "views", "split", "frames", "#top-1", "#top-5", "#mean class",
                 "#clips"),
                rows,
            )
        )  # fmt: skip
    return html


def _protocol(run: Run, evaluated: Evaluated | None) -> str:
    html = ""
    if evaluated is not None:
        protocol, result = evaluated.protocol, evaluated.results.result
        spec = mapping(protocol, "spec")  # an ensemble has none of its own
        model, data = mapping(result, "model"), mapping(result, "data")
        versions = mapping(result, "versions")
        sampling = spec.get("sampling")
        if sampling == "dense":
            sampling = f"dense, {spec.get('frame_interval')} frames apart"
        unit = (
            "(segments x frames) x crops x clips"
            if spec.get("frames_per_segment", 1) > 1
            else "frames x crops x clips"
        )
        facts = {
            "Views": f"{protocol.get('views')} ({unit})",
            "Split": protocol.get("split"),
            "Order of frames": protocol.get("frames"),
            "Sampling": sampling,
            "Short side, crop": _joined(spec, ("short_side", "crop_size"), " and ", " pixels"),
            "Resize": _joined(spec, ("interpolation",))
            + (", antialias" if spec.get("antialias") else ""),
            "Precision, device": _joined(protocol, ("precision", "device"), " on "),
            "Dataset": _joined(data, ("path", "format"), ", "),
            "Classes of data and model": data.get("classes"),
            "Clips scored, failed": f"{_number(len(evaluated.results.ids))}, "
            f"{len(evaluated.results.failures)}",
            "Model": model.get("name"),
            "Model file": model.get("path"),
            "Versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
            "Evaluation": str(evaluated.results.path),
            "SHA-256 of the model": model.get("sha256"),
            "Fingerprint of the class order": protocol.get("fingerprint"),
        }
        html += _facts(facts)
        if evaluated.members:
            html += '<p class="before">An ensemble: the probabilities of these are averaged.</p>'
            html += _table(
                "Members of the ensemble",
                ("evaluation", "model", "views", "#weight", "#top-1"),
                [
                    f'<th scope="row">{escape(str(member.get("path")))}</th>'
                    f"<td>{escape(str(mapping(member, 'model').get('name')))}</td>"
                    f'<td class="nowrap">{escape(str(member.get("views")))}</td>'
                    f'<td class="number">{escape(str(member.get("weight")))}</td>'
                    + _share_cell(member.get("top1"))
                    for member in evaluated.members
                ],
            )
    if run.config:
        html += (
            f'<details class="more"><summary>Options of the training (config.yaml)</summary>'
            f"{_facts(run.config)}</details>"
        )
    return html


def _training(page: _Page, id: str, run: Run, absent: list[str]) -> str:
    if not run.is_run:
        absent.append(
            "Curves and options of the training: they are in a run directory; this is an "
            "evaluation alone."
        )
        return ""
    if not run.config:
        absent.append("Options of the training: the run has no config.yaml.")
    if not run.history:
        absent.append("Training curves: the run has no metrics.csv with a finished epoch.")
        return ""
    columns = {name: [row.get(name) for row in run.history] for name in run.history[0]}
    epochs = [epoch or 0.0 for epoch in columns["epoch"]]

    def values(name: str) -> list[float | None]:
        found = columns.get(name, [None] * len(run.history))
        return [v if v is not None and math.isfinite(v) else None for v in found]

    top1 = values("val_top1")
    best = max((value for value in top1 if value is not None), default=None)
    kept = None if best is None else epochs[top1.index(best)]
    charts = (
        ("loss", "Loss", (("training", "train", "train_loss"), ("validation", "validation",
         "val_loss")), lambda v: f"{v:.3f}", False),
        ("top1", "Top-1", (("training", "train", "train_top1"), ("validation", "validation",
         "val_top1")), _percent, True),
        ("lr", "Learning rate", (("learning rate", "lr", "lr"),), lambda v: f"{v:.3g}", True),
    )  # fmt: skip
    figures = ""
    for name, title, sources, show, from_zero in charts:
        lines = [Line(label, kind, values(source)) for label, kind, source in sources]
        lines = [line for line in lines if any(v is not None for v in line.values)]
        if lines:
            mark = None if name == "lr" else kept
            chart = f"{id}-curve-{name}"
            figure, page.data["curves"][chart] = line_chart(
                chart, title, epochs, lines, show, from_zero=from_zero, kept=mark
            )
            figures += figure
    html = f'<div class="curves">{figures}</div>'
    seconds = sum(value or 0 for value in columns.get("seconds", ()))
    html += f'<p class="count">{_count(len(epochs), "epoch")}, {_duration(seconds)}.'
    if kept is not None:
        html += f" The dotted line marks epoch {kept:g}, of best validation top-1: the model kept."
    html += " Training accuracies are over augmented clips.</p>"
    body = [
        "".join(
            f'<td class="number">{"" if value is None else f"{value:.6g}"}</td>'
            for value in row.values()
        )
        for row in run.history
    ]
    html += (
        '<details class="more"><summary>The numbers (metrics.csv)</summary>'
        + _table("Metrics of every epoch", [f"#{name}" for name in columns], body, tall=True)
        + "</details>"
    )
    return html


def _classes(id: str, evaluated: Evaluated) -> str:
    rows = []
    classes = list(enumerate(evaluated.classes()))
    classes.sort(key=lambda item: (item[1].accuracy.value if item[1].accuracy else 2.0, item[0]))
    for label, one in classes:
        accuracy, confused = one.accuracy, ""
        if one.confused_with is not None:
            confused = (
                f'{escape(one.confused_with)} <span class="aside">({one.confused_clips})</span>'
            )
        rows.append(
            f'<td class="number">{label}</td><th scope="row">{escape(one.name)}</th>'
            f'<td class="number">{one.clips}</td>'
            + (
                f'<td class="number" data-sort="{accuracy.value:.6f}">'
                f"{_percent(accuracy.value)}</td>"
                f'<td class="nowrap" data-sort="{accuracy.low:.6f}">{_whisker(accuracy)}'
                f'<span class="aside">{_interval(accuracy, 0)}</span></td>'
                if accuracy
                else '<td class="number" data-sort="">no clips</td><td data-sort=""></td>'
            )
            + f'<td class="name" data-sort="{escape(one.confused_with or "")}">{confused}</td>'
        )
    table = f"{id}-class-table"
    return (
        f'<div class="controls"><label>Filter <input type="search" data-filters="{table}" '
        f'placeholder="words in a name"></label><span class="count" role="status">'
        f'<span id="{table}-count">{len(rows)} of {len(rows)}</span> classes</span></div>'
        + _table(
            "Accuracy of every class",
            ("#no.↑", "class", "#clips", "#accuracy↑", "#~95 % interval↑", "most confused with"),
            rows,
            id=table,
            sortable=True,
            sorted_by=3,
            tall=True,
        )
    )


def _confusions(page: _Page, id: str, evaluated: Evaluated, level: int) -> str:
    names, confusion = evaluated.class_names, evaluated.confusion
    matrix = f"{id}-matrix"
    cells = np.argwhere(confusion)
    page.data["matrices"][matrix] = {
        "names": names,
        "order": clustered_order(confusion),
        "mirror": mirror_labels(names),
        "cells": np.column_stack([cells, confusion[tuple(cells.T)]]).ravel().tolist(),
    }
    mirrored = mirror_confusions(confusion, names)
    html = f"""<div class="matrix" id="{matrix}">
<div class="controls">
<fieldset><legend>Order</legend>
<label><input type="radio" name="{matrix}-order" value="clustered" checked>
confused classes together</label>
<label><input type="radio" name="{matrix}-order" value="class"> as in the model</label>
</fieldset>
{_ZOOM if len(names) > _ZOOMED else ""}
</div>
<p class="readout" role="status">Point at a cell to read it, or choose one with the arrow
keys{_ZOOM_HINT if len(names) > _ZOOMED else ""}.</p>
<canvas tabindex="0" role="application" aria-label="Confusion matrix of {len(names)} classes: arrow
keys choose a cell, which is then read out"></canvas>
<div class="legend"><span><i class="ramp right"></i>right</span>
<span><i class="ramp wrong"></i>wrong</span>
{'<span><i class="ramp mirror"></i>taken for the mirror image</span>' if mirrored else ""}
<span>Rows: true classes; the stronger the colour, the larger the share of the row’s
clips.</span></div>
</div>"""
    pairs = confused_pairs(confusion, names, _MOST_PAIRS)
    html += f"<h{level}>Most confused pairs</h{level}>"
    if not pairs:
        return html + "<p>There are none: every clip was given its class.</p>"
    rows = [
        f'<th scope="row">{escape(names[pair.true])}</th>'
        f'<td class="name">{escape(names[pair.predicted])}'
        f"{' <span class=badge>mirror image</span>' if pair.mirrored else ''}</td>"
        f'<td class="number">{pair.clips}</td>'
        f'<td class="number" data-sort="{pair.share:.6f}">{_percent(pair.share)}</td>'
        f'<td class="number">{pair.reverse}</td>'
        f'<td><button type="button" class="plain small" data-matrix="{matrix}" '
        f'data-row="{pair.true}" data-column="{pair.predicted}">show</button></td>'
        for pair in pairs
    ]
    wrong = int(confusion.sum() - np.trace(confusion))
    listed = sum(pair.clips for pair in pairs)
    html += (
        f"<p>{_count(wrong, 'clip')} of {_number(int(confusion.sum()))} "
        f"{'was' if wrong == 1 else 'were'} given the wrong class; these "
        f"{_count(len(pairs), 'pair')} make up {_percent(listed / wrong)} of that.</p>"
    )
    html += _table(
        "Most confused pairs of classes",
        ("true class", "taken for", "#clips", "#of its clips", "#other way", "-in the matrix"),
        rows,
        id=f"{id}-pair-table",
        sortable=True,
        sorted_by=2,
        descending=True,
        tall=True,
    )
    html += f"<h{level}>Left and right</h{level}>"
    if mirrored is None:
        return html + (
            "<p>No two of the classes are each other’s mirror image by name (left and right, "
            "clockwise and counterclockwise).</p>"
        )
    share = f" ({_percent(mirrored.mirrored / mirrored.wrong)})" if mirrored.wrong else ""
    html += (
        f"<p>{_count(mirrored.clips, 'clip')} {'is' if mirrored.clips == 1 else 'are'} of classes "
        f"whose mirror image is a class too. Of these, {_number(mirrored.wrong)} "
        f"{'was' if mirrored.wrong == 1 else 'were'} given a wrong class, and "
        f'<span class="marked">{_number(mirrored.mirrored)}</span>{share} of those the mirror '
        f"image. Many of them point to horizontal flips in training that did not swap the labels, "
        f"or to a model that does not use the order of frames.</p>"
    )
    return html


def _worst(shown: Shown, evaluated: Evaluated, absent: list[str]) -> str:
    wrong = int(evaluated.confusion.sum() - np.trace(evaluated.confusion))
    if not wrong:
        return "<p>There are none: every clip was given its class.</p>"
    if not shown.mistakes:
        absent.append("Worst clips: none were asked for.")
        return ""
    names = evaluated.class_names
    html = (
        f"<p>The {_count(len(shown.mistakes), 'clip')} of {_number(wrong)} wrong ones that the "
        f"model was most sure of. Wrong labels are often among them.</p>"
    )
    if evaluated.protocol.get("frames", "in-order") != "in-order" and shown.pictures:
        html += _note(
            f"The frames are shown in their order; the model was given them "
            f"{evaluated.protocol['frames']}."
        )
    if shown.pictures_note:
        html += _note(shown.pictures_note)
    items = []
    for mistake in shown.mistakes:
        found = shown.pictures.get(mistake.id, ())
        if isinstance(found, str):
            frames = f'<p class="id">{escape(found)}</p>'
        else:
            frames = "".join(
                f'<img src="{picture.uri}" width="{picture.width}" height="{picture.height}" '
                f'alt="frame {picture.number}" title="frame {picture.number}">'
                for picture in found
            )
            frames = frames and f'<div class="frames">{frames}</div>'
        items.append(
            f'<li><p><span class="wrong">{escape(names[mistake.predicted])}</span> '
            f'{_percent(mistake.confidence)} <span class="aside">instead of</span> '
            f"<b>{escape(names[mistake.true])}</b> {_percent(mistake.true_probability)}</p>"
            f'<p class="id"><code>{escape(mistake.id)}</code></p>{frames}</li>'
        )
    return html + f'<ol class="clips">{"".join(items)}</ol>'


def _diagnosis(id: str, evaluated: Evaluated, absent: list[str]) -> str:
    diagnosis = evaluated.diagnosis
    if diagnosis is None:
        absent.append(
            "Whether the classes need the order of frames: gtdnet evaluate --diagnose measures it."
        )
        return ""
    sentences = [diagnosis.get("verdict"), *diagnosis.get("notes", ())]
    html = "".join(f"<p>{escape(str(sentence))}</p>" for sentence in sentences if sentence)
    html = html.replace("<p>", '<p class="verdict">', 1)
    top1, chance = mapping(diagnosis, "top1"), float(diagnosis.get("chance", 0))
    bars = "".join(
        f'<dt>{name}</dt><dd class="bar"><i style="width:{100 * value:.1f}%"></i>'
        f'<b style="left:{100 * chance:.1f}%"></b></dd><dd>{_percent(value)}</dd>'
        for key, name in _ORDERS.items()
        if isinstance(value := top1.get(key), (int, float))
    )
    html += (
        f'<dl class="bars">{bars}</dl><p class="count">Top-1 by the order in which the frames were '
        f"given; the upright line is chance, {_percent(chance)}.</p>"
    )
    rows = []
    for one in diagnosis.get("per_class", ()):
        cells = "".join(_share_cell(one.get(key.replace("-", "_"))) for key in _ORDERS)
        backwards, into = one.get("reversed_becomes_another"), ""
        if backwards is not None:
            into = escape(str(one.get("reversed_into"))) if backwards else "what it is"
        rows.append(
            f'<th scope="row">{escape(str(one.get("name")))}</th>'
            f'<td class="number">{escape(str(one.get("clips")))}</td>{cells}'
            f"{_answer(one, 'needs_order')}{_answer(one, 'one_frame_enough')}"
            f'<td class="name">{into}</td>'
        )
    html += _table(
        "Accuracy of every class by the order of frames",
        ("class", "#clips", *(f"#{name}" for name in _ORDERS.values()), "needs order",
         "one frame enough", "backwards"),
        rows,
        id=f"{id}-order-table",
        sortable=True,
        tall=True,
    )  # fmt: skip
    return html + (f'<p class="count after">{escape(str(diagnosis.get("rule", "")))}</p>')


def _answer(row: Mapping[str, Any], key: str) -> str:
    """A cell: yes, no, or that it cannot be told and why."""
    value = row.get(key)
    if value is not None:
        return f"<td>{'yes' if value else 'no'}</td>"
    reason = escape(str(row.get(f"{key}_unclear") or "not measured"))
    return f'<td data-sort="?" class="aside">? {_sr("not known: ")}{reason}</td>'


def _failures(evaluated: Evaluated) -> str:
    failures = evaluated.results.failures
    if not failures:
        return ""
    rows = [
        f'<th scope="row"><code>{escape(clip.id)}</code></th>'
        f'<td class="reason">{escape(clip.reason)}</td><td><code>{escape(clip.path)}</code></td>'
        for clip in failures[:_MOST_FAILURES]
    ]
    html = (
        f"<p>{_count(len(failures), 'clip')} could not be read and have no part in the figures.</p>"
    )
    if len(failures) > len(rows):
        html += _note(f"The first {len(rows)} are shown; all are in failures.csv.")
    return html + _table("Clips that failed", ("clip", "reason", "path"), rows, tall=True)


def _comparison(page: _Page, runs: Sequence[Run], comparisons: Sequence[Comparison]) -> str:
    page.links.append(("comparison", "Comparison"))
    rows = []
    for number, run in enumerate(runs, 1):
        link = f'<th scope="row"><a href="#run-{number}">{escape(run.name)}</a></th>'
        evaluated = run.evaluated
        if evaluated is None:
            rows.append(f"{link}<td>no evaluation</td>" + '<td data-sort=""></td>' * 7)
            continue
        top1, protocol = evaluated.figures["top1"], evaluated.protocol
        model = mapping(evaluated.results.result, "model").get("name")
        rows.append(
            link
            + _number_cell(top1)
            + (
                f'<td class="nowrap" data-sort="{top1.low}">{_whisker(top1)}'
                f'<span class="aside">{_interval(top1)}</span></td>'
                if top1
                else '<td data-sort=""></td>'
            )
            + _number_cell(evaluated.figures["top5"])
            + _number_cell(evaluated.figures["mean_class_accuracy"])
            + f"<td>{escape(str(model or ''))}</td>"
            f'<td class="nowrap">{escape(str(protocol.get("views", "")))}</td>'
            f"<td>{escape(str(protocol.get('frames', '')))}</td>"
            f'<td class="number">{len(evaluated.clips)}</td>'
        )
    html = _table(
        "The runs",
        ("run", "#top-1", "#~95 % interval", "#top-5", "#mean class", "model", "views", "frames",
         "#clips"),
        rows,
        id="runs-table",
        sortable=True,
    )  # fmt: skip
    html += "<h3>Which is better?</h3>"
    pairs, refused = [], ""
    for one in comparisons:
        names = (
            f'<th scope="row">{escape(one.first)} <span class="aside">and</span> '
            f"{escape(one.second)}</th>"
        )
        if one.refusal is not None:
            refused += _note(f"{one.first} and {one.second} are not compared. {one.refusal}")
            continue
        low, high = one.interval
        better = one.first if one.difference > 0 else one.second
        verdict = (
            f'<b class="better">{escape(better)} is better</b>'
            if one.significant
            else "no clear difference"
        )
        if one.remark:
            verdict += f'<br><span class="aside">{escape(one.remark)}</span>'
        pairs.append(
            f'{names}<td class="name">{verdict}</td>'
            f'<td class="number">{_points(one.difference)} <span class="aside">'
            f"({_points(low)} to {_points(high)})</span></td>"
            f'<td class="number">{_p_value(one.p_value)}</td>'
            f'<td class="number">{one.first_only}</td><td class="number">{one.second_only}</td>'
        )
    if pairs:
        html += _table(
            "Paired comparisons",
            ("runs", "verdict", "#1st − 2nd, points", "#p", "#only 1st right", "#only 2nd right"),
            pairs,
        )
        several = (
            "With several pairs, Benjamini and Hochberg’s rule keeps the expected share of chance "
            "findings among those called better at 5 %. "
        )
        html += (
            '<p class="count after">Paired by clip: McNemar’s exact test on the clips that only '
            "one of the two gets right, and the difference of their top-1 with its 95 % interval "
            f"(Agresti and Min). {several if len(pairs) > 1 else ''}It speaks of these models on "
            "clips like these; what another training seed would give it does not know.</p>"
        )
    elif not refused:
        html += _note("Fewer than two of the runs have an evaluation, so none can be compared.")
    return f'<section id="comparison"><h2>Comparison</h2>{html}{refused}</section>'


# ---------------------------------------------------------------------------------- pieces


def _table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[str],
    *,
    id: str | None = None,
    sortable: bool = False,
    sorted_by: int | None = None,
    descending: bool = False,
    tall: bool = False,
) -> str:
    """A table that scrolls inside itself.

    ``columns``: "#" before a name makes a column of numbers ("#~": with its head on the left), "-"
    one that is not sorted, and "↑" after it one that is sorted from the smallest at first. ``rows``
    are their cells.
    """
    heads = []
    for number, column in enumerate(columns):
        name = column.lstrip("#~-").rstrip("↑")
        kind = ' class="number"' if column.startswith("#") else ""
        if column.startswith("#~"):
            kind = ' class="number left"'
        first = ' data-first="ascending"' if column.endswith("↑") else ""
        if sortable and not column.startswith("-"):
            order = "none"
            if number == sorted_by:
                order = "descending" if descending else "ascending"
            heads.append(
                f'<th scope="col"{kind}{first} aria-sort="{order}">'
                f'<button type="button">{escape(name)}</button></th>'
            )
        else:
            heads.append(f'<th scope="col"{kind}>{escape(name)}</th>')
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="scroll{" tall" if tall else ""}" tabindex="0" role="group" '
        f'aria-label="{escape(caption)}"><table{f" id={id}" if id else ""}'
        f'{" class=sortable" if sortable else ""}><caption class="sr">{escape(caption)}</caption>'
        f"<thead><tr>{''.join(heads)}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _facts(values: Mapping[str, Any]) -> str:
    items = "".join(
        f"<div><dt>{escape(str(name))}</dt><dd{' class=long' if len(_text(value)) > 40 else ''}>"
        f"{escape(_text(value))}</dd></div>"
        for name, value in values.items()
        if value not in (None, "")
    )
    return f'<dl class="facts">{items}</dl>'


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _joined(
    values: Mapping[str, Any], names: Sequence[str], between: str = " ", after: str = ""
) -> str:
    found = [str(values[name]) for name in names if values.get(name) is not None]
    return between.join(found) + after if found else ""


def _tile(figure: Figure) -> str:
    number = f'<span class="big">{100 * figure.value:.1f}<small>%</small></span>'
    return f'<dd>{number}{_whisker(figure)}<span class="count">{_interval(figure)}</span></dd>'


def _whisker(figure: Figure) -> str:
    """An accuracy and its interval on a line from 0 to 100 %."""
    span = ""
    if figure.low is not None and figure.high is not None:
        low, high = 100 * figure.low, 100 * figure.high
        span = f'<line class="span" x1="{low:.1f}%" x2="{high:.1f}%" y1="7" y2="7"/>'
    return (
        '<svg class="whisker" aria-hidden="true">'
        '<line class="axis" x1="0" x2="100%" y1="7" y2="7"/>'
        f'{span}<circle class="dot" cx="{100 * figure.value:.1f}%" cy="7" r="4"/></svg>'
    )


def _interval(figure: Figure, digits: int = 1) -> str:
    if figure.low is None or figure.high is None:
        return "no interval"
    return f"{100 * figure.low:.{digits}f} to {100 * figure.high:.{digits}f}\u00a0%"


def _number_cell(figure: Figure | None) -> str:
    if figure is None:
        return '<td class="number" data-sort="">–</td>'
    return f'<td class="number" data-sort="{figure.value:.6f}">{_percent(figure.value)}</td>'


def _share_cell(value: object) -> str:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return '<td class="number" data-sort="">–</td>'
    return f'<td class="number" data-sort="{value:.6f}">{_percent(value)}</td>'


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _sr(text: str) -> str:
    return f'<span class="sr">{escape(text)}</span>'


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")


def _p_value(p: float) -> str:
    if p < 0.0001:
        return "&lt; 0.0001"
    return f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{_number(number)} {one if number == 1 else many or one + 's'}"


def _number(number: int) -> str:
    return f"{number:,}".replace(",", "\u202f")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
