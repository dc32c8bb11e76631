"""What an evaluation gives, in memory and as files.

The files in its folder:

    metrics.json    accuracies as fractions, what they were measured on and how; written last
    per_class.csv   clips, accuracy and most frequent mistake of each class; of multi-label clips
                    average precision, and at the threshold precision, recall and F1
    confusion.csv   number of clips by true class (rows) and predicted class (columns); not of
                    multi-label clips
    scores.npz      ids, scores (probabilities [N, K]), labels, class_names, fingerprint, and what
                    else an ensemble needs (about: JSON)
    failures.csv    clips that could not be decoded or are not there, with the reason; if any
    diagnosis.json  what becomes of the accuracies without the order of frames; with --diagnose
    diagnosis.csv   the same for each class
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gtdnet.data.spec import class_fingerprint
from gtdnet.errors import InputError
from gtdnet.evaluate.measures import Measure, measure_of
from gtdnet.files import alone_in_first, atomic_path, write_csv, write_json
from gtdnet.infer.answers import THRESHOLD

RESULT_FILES = (
    "metrics.json", "per_class.csv", "confusion.csv", "scores.npz", "failures.csv",
    "diagnosis.json", "diagnosis.csv",
)  # fmt: skip
_KEYS = ("ids", "scores", "labels", "class_names", "fingerprint", "about")  # of scores.npz
_ABOUT = ("protocol", "model", "data", "versions")  # of metrics.json: what the scores are of


class FailedClip(NamedTuple):
    """A clip without scores: its id, its label in the model's order (-1: none), where and why.

    The label of a multi-label clip is not kept: -1.
    """

    id: str
    label: int
    path: str
    reason: str


Thresholds: TypeAlias = float | tuple[float | None, ...]
"""Of all classes, or of each; None: a class is never given."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of one split.

    Attributes:
        class_names: the model's, in the order of the scores.
        ids: of the scored clips, in the order of the annotations.
        scores: probabilities, float32 [N, K].
        labels: int64 [N] in the model's order; -1 where the annotations have none. Of multi-label
            clips [N, K], zeros and ones, or -1 throughout.
        failures: clips that could not be decoded, then those that are not there.
        threshold: probability from which on a multi-label clip is given a class.
    """

    class_names: tuple[str, ...]
    ids: tuple[str, ...]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    failures: tuple[FailedClip, ...]
    threshold: Thresholds = field(default=THRESHOLD, kw_only=True)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the class names in order."""
        return class_fingerprint(self.class_names)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the best class is the clip's own, of labels [N]; False for a clip without one."""
        return self.scores.argmax(axis=1) == self.labels

    @property
    def measure(self) -> Measure:
        """What is measured of these labels."""
        return measure_of(self.labels)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which clips have a label: [N]."""
        return self.measure.known(self.labels)

    def given(self, scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which classes clips of these scores are given: [N, K] -> [N, K]."""
        if isinstance(self.threshold, tuple):
            return scores >= np.array([np.inf if t is None else t for t in self.threshold])
        return scores >= self.threshold

    @property
    def metrics(self) -> dict[str, Any]:
        """Figures as fractions, over the scored clips that have a label, and counts.

        None where there is nothing to measure.
        """
        counts = {"num_evaluated": len(self.ids), "num_failed": len(self.failures)}
        return {**self.measure.metrics(self), **counts}

    @property
    def intervals(self) -> dict[str, list[float] | None]:
        """95 % confidence intervals of the figures, None where there is none."""
        return self.measure.intervals(self)

    def to_dict(self) -> dict[str, Any]:
        """Accuracies, counts and intervals, JSON-ready."""
        return {**self.metrics, **self.intervals}


@dataclass(frozen=True)
class Results(Evaluation):
    """An evaluation as its files tell it.

    Attributes:
        path: the folder or file that was read.
        result: what metrics.json holds; of a lone scores.npz its accuracies and what it is of.
    """

    path: Path
    result: dict[str, Any]

    def only(self, ids: tuple[str, ...]) -> Results:
        """The same of these clips, in this order."""
        rows = {clip: row for row, clip in enumerate(self.ids)}
        chosen = np.array([rows[clip] for clip in ids], dtype=np.int64)
        return replace(self, ids=ids, scores=self.scores[chosen], labels=self.labels[chosen])


def read_results(path: str | Path) -> Results:
    """Read an evaluation's folder, or its scores.npz alone, wherever that file has gone.

    Raises:
        ValueError: there is nothing to read, or it is not what gtdnet wrote.
    """
    path = Path(path)
    metrics = path / "metrics.json"
    if not path.exists():
        raise InputError(
            f"{path}: no such folder or file; give the folder that gtdnet evaluate wrote, or its "
            f"scores.npz"
        )
    if not path.is_dir():
        evaluation, about = _read_scores(path)
        return Results(**vars(evaluation), path=path, result={**evaluation.to_dict(), **about})
    if not metrics.is_file():
        raise InputError(
            f"{path}: it holds no metrics.json, which gtdnet evaluate writes last; give the folder "
            f"of a finished evaluation"
        )
    evaluation, _ = _read_scores(path / "scores.npz")
    try:
        result = json.loads(metrics.read_text(encoding="utf-8"))
        count = result["num_evaluated"]
        _check_about(result)
    except (OSError, RecursionError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise _unreadable(metrics, error) from error
    if count != len(evaluation.ids):
        raise InputError(
            f"{path}: metrics.json is of {count} clips and scores.npz of {len(evaluation.ids)}; "
            f"evaluate again into a folder of its own"
        )
    return Results(**vars(evaluation), path=path, result=result)


def _read_scores(path: Path) -> tuple[Evaluation, dict[str, Any]]:
    try:
        with np.load(path) as file:
            found = {key: file[key] for key in file.files}
        if odd := [key for key, array in found.items() if not isinstance(array, np.ndarray)]:
            raise TypeError(f"{odd[0]} is no array")  # NumPy gives the bytes of what it can't read
    except Exception as error:  # of NumPy, zipfile, zlib and others; objects are never unpickled
        raise _unreadable(path, error) from error
    if missing := [key for key in _KEYS if key not in found]:
        raise InputError(
            f"{path}: it has no {missing[0]!r}: another program wrote it, or an older gtdnet; "
            f"evaluate again"
        )
    try:
        about = json.loads(str(found["about"]))
        failures = tuple(_failed_clip(failure) for failure in about.pop("failures"))
        _check_about(about)
    except (LookupError, RecursionError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(path, error) from error
    scores, labels = found["scores"], found["labels"]
    for key, kind in (("scores", "f"), ("labels", "i"), ("ids", "U"), ("class_names", "U")):
        axes = 2 if key == "scores" or (key == "labels" and labels.ndim == 2) else 1
        if found[key].dtype.kind != kind or found[key].ndim != axes:
            raise InputError(
                f"{path}: {key} is an array of {found[key].dtype} with {found[key].ndim} axes, "
                f"which gtdnet did not write; evaluate again"
            )
    names, ids = tuple(found["class_names"].tolist()), tuple(found["ids"].tolist())
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        raise _unreadable(path, error) from error
    threshold = about.get("protocol", {}).get("threshold", THRESHOLD)
    threshold = tuple(threshold) if isinstance(threshold, list) else float(threshold)
    evaluation = Evaluation(
        names, ids, scores, labels.astype(np.int64), failures, threshold=threshold
    )
    several = labels.ndim == 2
    if (
        str(found["fingerprint"]) != evaluation.fingerprint
        or scores.shape != (len(ids), len(names))
        or labels.shape != (scores.shape if several else (len(ids),))
        or not names
        or not np.isfinite(scores).all()
        or not ((labels >= -1) & (labels < (2 if several else len(names)))).all()
        or (several and not (evaluation.known | (labels == -1).all(axis=1)).all())
        or (several and isinstance(threshold, tuple) and len(threshold) != len(names))
        or len(set(ids)) != len(ids)
        or not all(-1 <= failure.label < len(names) for failure in failures)
    ):
        raise InputError(
            f"{path}: its ids, scores, labels and classes do not fit together; evaluate again"
        )
    return evaluation, about


def _failed_clip(values: Any) -> FailedClip:
    """A failed clip of its JSON; TypeError if it is none."""
    clip = FailedClip(*values)
    if isinstance(clip.label, bool) or not isinstance(clip.label, int):
        raise TypeError(f"label {clip.label!r}")
    if not all(isinstance(text, str) for text in (clip.id, clip.path, clip.reason)):
        raise TypeError(f"failed clip {values!r}")
    return clip


def _check_about(about: Any) -> None:
    """An error unless what an ensemble and a report read of it, if it is there, is as written."""
    for key in _ABOUT:
        if not isinstance(about.get(key, {}), dict):
            raise TypeError(f"{key} is no object")
    for part, name in (*(("protocol", n) for n in ("views", "split", "frames")), ("model", "name")):
        if not isinstance(about.get(part, {}).get(name, ""), str):
            raise TypeError(f"{part}: {name} is no text")
    threshold = about.get("protocol", {}).get("threshold", THRESHOLD)
    for value in threshold if isinstance(threshold, list) else [threshold]:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number and (value is not None or value is threshold):
            raise TypeError(f"threshold {value!r}")


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = (isinstance(error, OSError) and error.strerror) or "it is damaged or something else"
    return InputError(f"{path}: cannot be read ({reason}); evaluate again")


@contextmanager
def output_folder(
    base: Path, output: str | None, overwrite: bool, taken: Callable[[Path], str | None]
) -> Iterator[Path]:
    """Have a folder alone that is without results, or with those that may be replaced.

    Args:
        base: where to put them if no output is given; with -2, -3, ... if it is taken, or if
            somebody is at work in it.
        output: where the user wants them.
        overwrite: whether what is there may be replaced.
        taken: names a file of another evaluation's in a folder, or None.

    Raises:
        ValueError: the output is taken, or cannot be made or written to.
    """
    numbered = (base.with_name(f"{base.name}-{n}") for n in itertools.count(2))
    if output is not None:
        folders: Iterable[Path] = [Path(output)]
    else:
        folders = [base] if overwrite else itertools.chain([base], numbered)

    def is_taken(folder: Path) -> bool:
        there = None if overwrite else taken(folder)
        if there and output is not None:
            raise InputError(
                f"{folder} holds {there} of another evaluation; give another --output, or replace "
                f"it with --overwrite"
            )
        return there is not None

    with alone_in_first(folders, is_taken, "give another --output") as folder:
        yield folder


def result_file(folder: Path) -> str | None:
    """A file of an evaluation's that is in the folder."""
    return next((name for name in RESULT_FILES if (folder / name).exists()), None)


def write_results(
    folder: Path,
    evaluation: Evaluation,
    result: Mapping[str, Any],
    diagnosis: Mapping[str, Any] | None = None,
) -> None:
    """Write all files, metrics.json last; those of an earlier evaluation are replaced."""
    names = evaluation.class_names
    for name in RESULT_FILES:  # metrics.json first: where it is, the others belong to it
        (folder / name).unlink(missing_ok=True)
    about = {key: result[key] for key in _ABOUT if key in result}
    with atomic_path(folder / "scores.npz") as temporary:
        np.savez(
            temporary,
            ids=np.array(evaluation.ids),
            scores=evaluation.scores,
            labels=evaluation.labels.astype(np.int8 if evaluation.labels.ndim == 2 else np.int64),
            class_names=np.array(names),
            fingerprint=np.array(evaluation.fingerprint),
            about=np.array(json.dumps({**about, "failures": evaluation.failures})),
        )
    if evaluation.known.any():
        for name, rows in evaluation.measure.tables(evaluation):
            write_csv(folder / name, rows)
    if evaluation.failures:
        failed = [(clip.id, clip.path, clip.reason) for clip in evaluation.failures]
        write_csv(folder / "failures.csv", [("id", "path", "reason"), *failed])
    if diagnosis is not None:
        write_json(folder / "diagnosis.json", diagnosis)
        rows = diagnosis["per_class"]
        write_csv(folder / "diagnosis.csv", [tuple(rows[0]), *(tuple(r.values()) for r in rows)])
    write_json(folder / "metrics.json", result)
