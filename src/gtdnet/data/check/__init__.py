"""`gtdnet check`: decode every clip of a dataset and say what is wrong with it before training.

Clips are decoded wholly, in parallel. What is found is a list of `Finding`, each with its remedy.
The good clips can be written as a manifest, which `read_annotations` reads as a dataset.
"""

from gtdnet.data.check.clips import ClipFacts, inspect_clip
from gtdnet.data.check.report import SEVERITIES, CheckReport, SplitStatistics, format_report
from gtdnet.data.check.run import check_dataset
from gtdnet.data.check.single import ClipReport, fatal_report, format_clips, look_at
from gtdnet.data.check.understanding import Understanding, format_understanding, understand
from gtdnet.data.findings import Finding

__all__ = [
    "SEVERITIES",
    "CheckReport",
    "ClipFacts",
    "ClipReport",
    "Finding",
    "SplitStatistics",
    "Understanding",
    "check_dataset",
    "fatal_report",
    "format_clips",
    "format_report",
    "format_understanding",
    "inspect_clip",
    "look_at",
    "understand",
]
