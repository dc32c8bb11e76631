"""Learn on held-out videos when a model's answers can be trusted; store it in the model file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gtdnet.calibrate.background import background_threshold, false_alarms, missed_events
from gtdnet.calibrate.clips import HeldOutClips, score_clips, trained_on
from gtdnet.calibrate.options import CalibrateOptions
from gtdnet.calibrate.streams import Moments, follow_all
from gtdnet.calibrate.temperature import Fit, averaged, fit_temperature, measure_fit
from gtdnet.calibrate.thresholds import Threshold, class_thresholds, least_clips
from gtdnet.data.calibration import Calibration
from gtdnet.data.formats import Annotations
from gtdnet.data.spec import ClipSpec
from gtdnet.engines import find_model, is_exported
from gtdnet.errors import DecodeError, InputError
from gtdnet.evaluate.clips import find_source, read_clips
from gtdnet.files import check_place
from gtdnet.infer.find import find_videos
from gtdnet.infer.live import open_live
from gtdnet.infer.recognizer import Recognizer, check_average, check_views
from gtdnet.infer.scoring import check_loading
from gtdnet.measure.provenance import now
from gtdnet.models.model_file import ModelFile, load_model, save_calibrated
from gtdnet.text import counted, first_of, say

_HOLD = 2.0
"""Seconds for which the last frame of such a clip stands still: as long as a window is."""
_MOST_STREAMS = 200
"""Clips, evenly chosen, that are followed as streams to see what is missed."""
_SHOWN_FAILURES = 5


def calibrate(options: CalibrateOptions) -> dict[str, Any]:
    """Measure, and write the calibrated model file.

    Returns, JSON-ready: ``output``, the file; ``calibration``, what is stored in its ClipSpec;
    ``measured``, what is stored in its metrics; ``failures``, path and reason of each video that
    could not be read.

    Raises:
        ValueError: bad options, a model or dataset that cannot be read, no labels, too few clips,
            or a background in which the model is always certain.
    """
    options.check()
    check_views(options.clips, options.crops)
    check_average(options.average)
    check_loading(options.batch_size, options.num_workers)
    output = _output(options)
    videos = [str(v) for v in find_videos([options.background])] if options.background else []
    source = find_source(options.model, options.data, options.format)
    model_file = load_model(source.model)
    if output is None:
        output = Path(model_file.path)
    annotations = read_clips(source, options.split)
    seen = trained_on(model_file.path, model_file.provenance, annotations)
    if seen:
        say(
            f"{seen} of the {len(annotations.records)} clips were trained on: the model is surer "
            f"of them than of new ones, and thresholds learned of them promise too much; give "
            f"clips that were held out"
        )
    before = model_file.spec.calibration
    if before and before.background and not videos:
        say(
            "the background threshold that the model had is dropped, for it goes with the other "
            "temperature; give --background again"
        )
    _check_nothing(options.nothing, model_file)
    model_file = replace(model_file, spec=replace(model_file.spec, calibration=None))
    recognizer = Recognizer(model_file, options.device, average=options.average)
    clips = score_clips(recognizer, annotations, options)
    failures = list(clips.failures)
    calibration, measured = _of_clips(clips, model_file.spec, options)
    measured |= {
        "written": now(),
        "data": Path(annotations.root).name,
        "split": options.split,
        "views": model_file.spec.views(options.crops, options.clips),
        "average": options.average,
        "trained_on": seen,
        "sha256": _digest(annotations),
    }
    if videos:
        spec = replace(model_file.spec, calibration=calibration)
        background, found = _of_streams(
            replace(model_file, spec=spec), videos, clips, options, failures
        )
        calibration = replace(
            calibration, background=background, window=options.window, every=options.every
        )
        measured["background"] = found
    _say_failures(failures)
    save_calibrated(model_file.path, output, calibration, measured)
    return {
        "model": options.model,
        "output": str(output),
        "calibration": calibration.to_dict(),
        "measured": measured,
        "failures": [{"path": path, "reason": reason} for path, reason in failures],
    }


def _check_nothing(nothing: str | None, model_file: ModelFile) -> None:
    if nothing is not None and nothing not in model_file.spec.class_names:
        raise InputError(
            f"--nothing {nothing!r} is no class of the model; its classes are "
            f"{first_of(map(repr, model_file.spec.class_names), 8)}"
        )


def _output(options: CalibrateOptions) -> Path | None:
    """The file to write; None for the model file itself. InputError if it may not be written."""
    if is_exported(options.model):
        raise InputError(
            f"{options.model}: is an exported model; calibrate the model file (.safetensors) that "
            f"it was made from, and export that again"
        )
    if options.output is None:
        if options.model.startswith("hf://"):
            raise InputError(f"{options.model} is not yours to change here; give --output FILE")
        if not options.overwrite:
            raise InputError(
                f"give --output FILE for the calibrated model, or --overwrite to store it in "
                f"{find_model(options.model)} itself"
            )
        check_place(find_model(options.model))
        return None
    output = Path(options.output)
    if output.suffix != ".safetensors":
        raise InputError(f"--output {output}: a model file must end in .safetensors")
    if output.exists() and not options.overwrite:
        raise InputError(f"{output} exists; add --overwrite to replace it")
    check_place(output)
    return output


# ------------------------------------------------------------------------------------------ clips


def _of_clips(
    clips: HeldOutClips, spec: ClipSpec, options: CalibrateOptions
) -> tuple[Calibration, dict[str, Any]]:
    """Temperature and thresholds; and what was measured."""
    labels, average = clips.labels, options.average
    found = fit_temperature(clips.logits, labels, spec, average)
    temperature = 1.0 if found is None else round(found, 4)
    if found is None:
        say(
            "no temperature fits the clips best: they are all right, or no better than by chance; "
            "it stays 1"
        )
    before, scores = (averaged(clips.logits, spec, t, average) for t in (1.0, temperature))
    fits = measure_fit(before, labels), measure_fit(scores, labels)
    rows = class_thresholds(scores, labels, spec.class_names, options.precision, options.confidence)
    rows = [row._replace(threshold=None) if row.name == options.nothing else row for row in rows]
    thresholds = tuple(row.threshold for row in rows)
    _say_without([row for row in rows if row.name != options.nothing], options)
    if options.nothing is None and all(threshold is None for threshold in thresholds):
        thresholds = ()
    calibration = Calibration(temperature, thresholds, rules=options.rules)
    return calibration, {
        "clips": len(clips.records),
        "failed": len(clips.failures),
        "temperature": temperature,
        "nll": _two(fits[0].nll, fits[1].nll),
        "ece": _two(fits[0].ece, fits[1].ece),
        "reliability": {"before": _bins(fits[0]), "after": _bins(fits[1])},
        "nothing": options.nothing,
        "precision": options.precision,
        "confidence": options.confidence,
        "classes": [{k: _round(v) for k, v in row._asdict().items()} for row in rows],
    }


def _two(before: float, after: float) -> dict[str, float]:
    return {"before": _round(before), "after": _round(after)}


def _bins(fit: Fit) -> list[list[Any]]:
    return [[_round(value) for value in one] for one in fit.bins]


def _say_without(rows: Sequence[Threshold], options: CalibrateOptions) -> None:
    """Name the classes that have no threshold, and why."""
    least = least_clips(options.precision, options.confidence)
    wanted = f"a precision of {options.precision:g}"
    without = [row for row in rows if row.threshold is None]
    if len(without) == len(rows):
        say(
            f"no class reaches {wanted}, so no thresholds are stored: that takes at least {least} "
            f"right answers of a class at --confidence {options.confidence:g}; give more clips, or "
            f"a lower --precision or --confidence"
        )
        return
    few = [repr(row.name) for row in without if row.named < least]
    rest = [repr(row.name) for row in without if row.named >= least]
    if few:
        say(
            f"{counted(len(few), 'class has', 'classes have')} no threshold, for fewer than "
            f"{least} clips were given them: {first_of(few, 8)}; never named alone"
        )
    if rest:
        say(
            f"{counted(len(rest), 'class', 'classes')} never reach{'es' if len(rest) == 1 else ''} "
            f"{wanted}: {first_of(rest, 8)}; never named alone"
        )


# ---------------------------------------------------------------------------------------- streams


def _of_streams(
    model_file: ModelFile,
    videos: Sequence[str],
    clips: HeldOutClips,
    options: CalibrateOptions,
    failures: list[tuple[str, str]],
) -> tuple[float, dict[str, Any]]:
    """The background threshold, and what was measured with it; failures are added."""
    spec = model_file.spec
    live = open_live(model_file, 1, options.device, window=options.window, every=options.every)

    def moments(
        paths: Sequence[str], what: str, hold: float = 0.0
    ) -> Iterator[tuple[int, Moments]]:
        for number, found in follow_all(live, paths, options.fps, what, hold):
            if isinstance(found, DecodeError):
                failures.append((found.path, found.reason))
            else:
                yield number, found

    quiet = [found for _, found in moments(videos, "background videos")]
    if not quiet:
        raise InputError(
            f"{options.background}: none of its {counted(len(videos), 'video')} can be read, the "
            f"first being {failures[-len(videos)][0]}: {failures[-len(videos)][1]}"
        )
    if not sum(stream.seconds for stream in quiet):
        raise InputError(
            f"{options.background}: its videos last no time; give videos of many frames"
        )
    threshold = background_threshold(quiet, spec, options.false_alarms)
    if threshold is None:
        raise InputError(
            f"{options.background}: the model is certain of a class more than "
            f"{options.false_alarms:g} times an hour where nothing happens; raise --false_alarms, "
            f"or train it with clips of the background as a class of their own (--nothing)"
        )
    assert spec.calibration is not None
    spec = replace(spec, calibration=replace(spec.calibration, background=threshold))
    alarms = false_alarms(quiet, spec)
    step = -(-len(clips.records) // _MOST_STREAMS)
    numbers = range(0, len(clips.records), step)
    paths = [clips.records[i].path for i in numbers]
    told = len(failures)
    followed = [
        (found, [k for k in _classes(clips, numbers[n]) if spec.class_names[k] != options.nothing])
        for n, found in moments(paths, "clips as streams", options.window or _HOLD)
    ]
    return threshold, {
        "threshold": threshold,
        "data": Path(options.background or "").name,
        "videos": len(quiet),
        "failed": len(videos) - len(quiet),
        "at_most_per_hour": options.false_alarms,
        **{k: _round(v) for k, v in alarms._asdict().items()},
        "clips": len(followed),
        "clips_failed": len(failures) - told,
        **missed_events(followed, spec)._asdict(),
        "live": live.describe(),
    }


def _classes(clips: HeldOutClips, number: int) -> tuple[int, ...]:
    """Of a clip, in the model's order."""
    label = clips.labels[number]
    return (int(label),) if label.ndim == 0 else tuple(label.nonzero()[0].tolist())


# ------------------------------------------------------------------------------------------ small


def _round(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def _digest(annotations: Annotations) -> str:
    """Of the ids and labels of all clips, wherever the dataset lies."""
    rows = [[record.id, record.label] for record in annotations.records]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _say_failures(failures: Sequence[tuple[str, str]]) -> None:
    if failures:
        say(f"{counted(len(failures), 'video')} could not be read:")
        for path, reason in failures[:_SHOWN_FAILURES]:
            say(f"  {path}: {reason}")
        if len(failures) > _SHOWN_FAILURES:
            say(f"  ... and {len(failures) - _SHOWN_FAILURES} more, all in --json")
