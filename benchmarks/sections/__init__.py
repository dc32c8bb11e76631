"""The sections of docs/results.md: a file for each kind, and a line for each file of results.

A module here has ``render(results) -> str``: what a file holds, as Markdown below its heading. It
raises KeyError where the file lacks something.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from sections.markdown import Results

# Files of benchmarks/results in the page's order: title, and the module here that shows it.
SECTIONS = {
    "complexity": ("What the networks cost", "complexity"),
    "costs": ("What the backbones cost, by engine", "costs"),
    "peers": ("The other methods beside their papers", "peers"),
    "start_points": ("What a good start is worth", "start_points"),
    "ablation": ("Ablation", "ablation"),
    "ablation_classes": ("Ablation: which classes are told apart", "ablation_classes"),
    "ablation_rates": ("Ablation: the start and the rate of the block", "ablation"),
    "ablation_longer": ("Ablation: twice the budget", "ablation"),
    "ablation_classes_longer": ("Ablation: twice the budget, classes", "ablation_classes"),
    "speed_engines": ("Speed: engines", "bench"),
    "speed_eager": ("Speed: PyTorch, with and without the fast path", "bench"),
    "speed_training": ("Speed: training steps", "bench"),
    "speed_training_batch4": ("Speed: training steps of four clips", "bench"),
    "speed_reading_h264": ("Speed: reading ten seconds of H.264", "bench"),
    "speed_reading_vp9": ("Speed: reading four seconds of VP9", "bench"),
    "predict": ("Speed: a timeline of a long video", "plain"),
    "events": ("Events before and after calibration", "events"),
    "fuzz": ("Damaged files", "fuzz"),
    "timm": ("Networks of timm", "timm"),
    "load": ("Under load", "load"),
    "bulk": ("Many clips at a time", "bulk"),
    "many_processes": ("Several processes beside one", "many_processes"),
    "streaming": ("Speed: a frame of a stream", "streaming"),
    "scale": ("On paper: a billion clips", "scale"),
    "long_stream": ("A long stream", "long_stream"),
}
# Of a file with any other name: the module for one that holds all of these; the last is for all.
KINDS = {
    "bench": {"bench"},
    "real_video": {"methods", "pairs", "folds"},
    "ablation": {"grid", "variants", "runs"},
    "plain": set[str](),
}


def look_up(name: str, results: Results) -> tuple[str, Callable[[Results], str]]:
    """The title of a file's section, and what renders it."""
    title = results.get("title") or name.replace("_", " ").capitalize()
    kind = next(kind for kind, keys in KINDS.items() if keys <= set(results))
    title, kind = SECTIONS.get(name, (title, kind))
    return title, import_module(f"sections.{kind}").render
