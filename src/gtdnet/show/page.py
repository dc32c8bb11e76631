"""The figure of ``gtdnet show`` as one HTML file: pictures inside, nothing loaded from anywhere."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from gtdnet.infer.render import percent
from gtdnet.report.frames import jpeg_uri
from gtdnet.show.views import HEAT, ClipViews, Row, disc_radii, picture_rows


def page(views: ClipViews) -> str:
    """The whole page. It follows the reader's light or dark setting; on a narrow screen the frames
    scroll sideways, all rows together, and stay large enough to see."""
    total = len(views.frames)
    best = views.prediction[0]
    title = f"{best.name} ({percent(best.probability)}): {Path(views.video).name}"
    strips = []
    for row in picture_rows(views):
        if row.key == "activation":
            strips.append(_scores(views))
        strips.append(_pictures(row, views))
    if views.activation is None:
        strips.append(_scores(views))
    notes = "".join(f"<p>{escape(note)}</p>" for note in views.notes)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body style="--frames: {total}">
<header>
<div>
<h1>{escape(best.name)}</h1>
<table aria-label="The most probable classes">{_prediction(views)}</table>
<p class="hint">{escape(views.source)}</p>
</div>
<figure><img src="{jpeg_uri(views.global_image.round().astype(np.uint8))}" \
alt="global image: the mean of the {total} frames"><figcaption><b>Global image</b><br>\
<span class="hint">mean of the {total} frames</span></figcaption></figure>
</header>
<main tabindex="0" aria-label="The clip, frame by frame">
{"".join(strips)}
</main>
<footer>{notes}{_READING}</footer>
</body>
</html>
"""


def _prediction(views: ClipViews) -> str:
    return "".join(
        f'<tr><td><div class="bar"><div style="width: {100 * score.probability:.1f}%"></div></div>'
        f"<td>{percent(score.probability)}<td>{escape(score.name)}</tr>"
        for score in views.prediction
    )


def _pictures(row: Row, views: ClipViews) -> str:
    cells = []
    for i, (picture, alt) in enumerate(zip(row.pictures, row.alts, strict=True)):
        caption = row.captions[i] if row.captions else ""
        if row.key == "frames":
            caption = str(views.indices[i])
        caption = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        cells.append(
            f'<figure><img src="{jpeg_uri(picture)}" alt="{escape(alt)}">{caption}</figure>'
        )
    # What has no picture (the last frame's difference to the next one) keeps its place.
    cells += ["<figure></figure>"] * (len(views.frames) - len(cells))
    scale = ""
    if row.key == "activation" and views.activation is not None and views.activation.max() > 0:
        stops = ", ".join(to_hex(colormaps[HEAT](x)) for x in np.linspace(0, 1, 9))
        scale = (
            f'<span class="scale"><i style="background: linear-gradient(90deg, {stops})"></i>'
            f"0 <b>{views.activation.max():.3g}</b></span>"
        )
    below = f"; below: {row.caption_hint}" if row.caption_hint else ""
    return _strip(row.title, row.hint + below, "".join(cells), scale)


def _scores(views: ClipViews) -> str:
    if views.scores is None:
        return ""
    radii = 100 * disc_radii(views.scores)
    ring = 100 * disc_radii(views.scores, at=1 / len(views.scores))[0]
    cells = []
    for score, radius, index in zip(views.scores, radii, views.indices, strict=True):
        cells.append(
            f'<figure><svg viewBox="0 0 100 100" role="img" aria-label="global difference score of '
            f'frame {index}: {score:.3f}"><circle class="disc" cx="50" cy="50" r="{radius:.2f}"/>'
            f'<circle class="ring" cx="50" cy="50" r="{ring:.2f}"/>'
            f'<text x="50" y="50">{score:.2f}</text></svg></figure>'
        )
    hint = "by the model's gates; ring: 1/T"
    return _strip("Global difference score", hint, "".join(cells))


def _strip(title: str, hint: str, cells: str, more: str = "") -> str:
    return (
        f'<section><div class="label"><h2>{escape(title)}</h2>'
        f'<p class="hint">{escape(hint)}</p>{more}</div>{cells}</section>\n'
    )


_READING = """
<h2>How to read this</h2>
<p>The model sees these frames and no others, and of each the square shown here.
<b>Differences</b> are taken between the pictures themselves; mid-grey is no change, lighter is
positive, darker negative, for each colour by itself.
<b>Global difference score</b>: how far the gates of the network's GTD blocks set a frame apart from
the others, beyond what they do for the global image standing still. The scores sum to 1; the area
of a disc follows its score. It says what differs, not what decides the answer.
<b>Class activation</b>: how much each place adds to the class's logit, on one scale for all frames;
what speaks against the class stays grey.</p>
"""

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --grey: #5b636d; --paper: #fff; --faint: #dfe3e8;
  --accent: #f2a33c; --cell: 7.2rem; --label: 10.5rem; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --grey: #a3abb5; --paper: #15181c; --faint: #343a42; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem;
  max-width: max(44rem, var(--label) + var(--frames) * 11rem + 3rem);
  color: var(--ink); background: var(--paper);
  font: 1rem/1.4 system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; }
h1 { margin: 0 0 .6rem; font-size: 1.7rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 0; font-size: .95rem; line-height: 1.25; }
p { margin: .5rem 0; }
.hint { margin: .15rem 0 0; color: var(--grey); font-size: .8rem; overflow-wrap: anywhere; }
header { display: flex; gap: 2rem; justify-content: space-between; margin-bottom: 1.5rem; }
header figure { display: flex; flex: none; flex-direction: row-reverse; align-items: flex-start;
  gap: .8rem; text-align: right; }
header img { width: 9rem; }
table { border-spacing: 0; margin-bottom: .6rem; }
td { padding: .1rem .8rem .1rem 0; vertical-align: baseline; overflow-wrap: anywhere; }
td:nth-child(2) { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.bar { width: 9rem; height: .7rem; background: var(--faint); }
.bar div { height: 100%; background: var(--accent); }
figure { margin: 0; text-align: center; }
img, svg { display: block; width: 100%; aspect-ratio: 1; }
img { outline: 1px solid var(--faint); outline-offset: -1px; }
figcaption { padding-top: .15rem; font-size: .85rem; font-variant-numeric: tabular-nums; }
main { overflow-x: auto; padding-bottom: .8rem; }
section { display: grid; gap: 4px; margin-bottom: 4px;
  min-width: calc(var(--label) + var(--frames) * (var(--cell) + 4px));
  grid-template-columns: var(--label) repeat(var(--frames), minmax(0, 1fr)); }
.label { position: sticky; left: 0; z-index: 1; padding: .2rem .8rem .2rem 0;
  background: var(--paper); }
.scale { display: grid; grid-template-columns: auto auto; width: 5.5rem; margin-top: .3rem;
  color: var(--grey); font-size: .75rem; }
.scale i { grid-column: 1 / 3; height: .6rem; }
.scale b { font-weight: normal; text-align: right; }
.disc { fill: var(--accent); }
.ring { fill: none; stroke: #6b737d; stroke-width: .8; stroke-dasharray: 3 3; }
text { font-size: 15px; text-anchor: middle; dominant-baseline: central; fill: #1b1f24; }
footer { max-width: 60rem; margin-top: 1rem; border-top: 1px solid var(--faint); padding-top: 1rem;
  color: var(--grey); font-size: .85rem; }
@media (max-width: 50rem) {
  body { padding: 1rem; }
  h1 { font-size: 1.35rem; }
  header { flex-direction: column; gap: 1rem; }
  header figure { flex-direction: row; justify-content: flex-start; text-align: left; }
  header img { width: 7.5rem; }
  .bar { width: 5rem; }
  section { --label: -4px; --cell: 6.6rem; margin-bottom: .9rem;
    grid-template-columns: repeat(var(--frames), minmax(0, 1fr)); }
  .label { grid-column: 1 / -1; max-width: calc(100vw - 2rem); width: max-content; }
}
@media print { main { overflow: visible; } section { --cell: 0rem; } }
"""
