"""Events in long videos, before and after calibration: precision, recall, false alarms, delay.

    python benchmarks/events.py --work events --output benchmarks/results/events.yaml
    python benchmarks/events.py --work events_own --clips clips.csv --group source --nothing walk

In the first everything is built in. A small GTDNet learns the easy edition (`synth_easy`). Its
validation clips are for the calibration, its test clips for the measurement: no clip is in both.
Long videos are made of them: each clip is a scene that first stands still, then its motion, then it
stands still again; then comes the next scene. What stands still is the clip's first or last frame,
with the noise and the wavering light of a cheap camera: nothing happens there, though a scene ends
with a cut. The background that the calibration is shown are such scenes of validation clips,
without the motion. That network has no class for nothing, and never saw a scene that stands still;
a second one has such a class, and its classifier learned it of other still scenes.

In the second the clips are those of a table with the columns path and label. The groups of clips
that belong together (from one video, say) are dealt out: half to the training of a causal GTDNet
from ImageNet weights, at small pictures and for a few epochs, a quarter to the calibration and a
quarter to the measurement. Between the clips stand those of the class --nothing of the same
quarter, played forth and back; the network knows that class, and it is never named.

What is there already in the folder WORK is used again.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch
from numpy.typing import NDArray

from gtdnet.bench.result import envelope, save
from gtdnet.calibrate.background import background_threshold, events_of
from gtdnet.calibrate.options import CalibrateOptions
from gtdnet.calibrate.run import calibrate
from gtdnet.calibrate.streams import Moments, follow
from gtdnet.cli import main as gtdnet
from gtdnet.data.calibration import Calibration, EventRules
from gtdnet.data.decode import ClipReader
from gtdnet.data.formats import Annotations, VideoRecord, read_annotations
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.files import atomic_path, write_json
from gtdnet.infer.live import LiveModel, open_live
from gtdnet.models.model_file import load_model
from gtdnet.text import say

FPS, TABLE_FPS = 12, 30  # of long videos: the built-in clips' own, and of those of a table
STILL = (4.0, 10.0)  # seconds that a scene stands still before its motion, and after it
NOISE, LIGHT = 3.0, 0.03  # of 255; of the brightness
SCENES = 20  # a video
LATE = 2.0  # seconds after a motion until which an event may still be of it
NOTHING = "nothing"
LIMITS = (60, 10, 1)  # false alarms an hour of the background that is shown
RULES = EventRules(smoothing=0.5, release=0.8, shortest=0.5)

Frames = NDArray[np.uint8]  # [F, H, W, 3]
Idle = Callable[[Frames, float, np.random.Generator], Iterator[Frames]]
"""A frame of a clip, seconds, what draws -> what is seen before or after the clip."""


class Truth(NamedTuple):
    """What happens in a long video: from, to, in seconds, and the class."""

    start: float
    end: float
    label: int


class Found(NamedTuple):
    """An event that was reported: from, when it was said, to, and the class."""

    start: float
    said: float
    end: float
    label: int


# ------------------------------------------------------------------------------------- long videos


def still(frame: Frames, seconds: float, rng: np.random.Generator) -> Iterator[Frames]:
    """A scene that stands still, as a cheap camera sees it."""
    count = round(seconds * FPS)
    light = 1 + LIGHT * np.sin(np.arange(count) / FPS * rng.uniform(1, 6) + rng.uniform(0, 6))
    for gain in light:
        noisy = frame * gain + rng.normal(0, NOISE, frame.shape)
        yield noisy.clip(0, 255).astype(np.uint8)


def forth_and_back(clips: Sequence[VideoRecord]) -> Idle:
    """One of the clips, drawn, as long as it takes."""

    def idle(frame: Frames, seconds: float, rng: np.random.Generator) -> Iterator[Frames]:
        frames = frames_of(clips[int(rng.integers(len(clips)))])
        return islice(cycle([*frames, *frames[-2:0:-1]]), round(seconds * TABLE_FPS))

    return idle


def frames_of(record: VideoRecord) -> list[Frames]:
    return [rgb for _, rgb in ClipReader(record.path).frames()]


def scene(
    record: VideoRecord,
    rng: np.random.Generator,
    moves: bool,
    seconds: tuple[float, float],
    idle: Idle,
) -> tuple[list[Frames], int, int]:
    """The frames of one scene, and at which of them its motion begins and ends."""
    frames = frames_of(record)
    before = list(idle(frames[0], rng.uniform(*seconds), rng))
    if not moves:
        return before, len(before), len(before)
    after = idle(frames[-1], rng.uniform(*seconds), rng)
    return [*before, *frames, *after], len(before), len(before) + len(frames)


def write_long(
    path: Path,
    records: Sequence[VideoRecord],
    seed: int,
    moves: bool = True,
    seconds: tuple[float, float] = STILL,
    idle: Idle = still,
    fps: int = FPS,
) -> list[Truth]:
    """One long video of some clips; what happens in it."""
    rng = np.random.default_rng(seed)
    truths, number = [], 0
    with atomic_path(path) as temporary, av.open(str(temporary), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "18"})
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, fps)
        for record in records:
            frames, begin, end = scene(record, rng, moves, seconds, idle)
            if moves:
                first, last = (number + begin) / fps, (number + end) / fps
                truths.append(Truth(first, last, record.classes[0]))
            for rgb in frames:
                picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
                if not number:
                    stream.height, stream.width = rgb.shape[:2]
                picture = picture.reformat(stream.width, stream.height)
                picture.pts, picture.time_base = number, Fraction(1, fps)
                container.mux(stream.encode(picture))
                number += 1
        container.mux(stream.encode(None))
    return truths


# ------------------------------------------------------------------------------------- measurement


def found_in(stream: Moments, spec: ClipSpec) -> list[Found]:
    """The events of a stream by the spec's calibration, in the order in which they were said."""
    begun, ended = {}, {}
    for event in events_of(stream, spec):
        (begun if event.kind == "begin" else ended)[event.id] = event
    return [Found(b.start, b.time, ended[i].time, b.label) for i, b in sorted(begun.items())]


def compare(found: Sequence[Found], truths: Sequence[Truth]) -> dict[str, Any]:
    """Counts of one video: an event is of what happens while it is said, or up to LATE before.

    The first one of the right class is a hit; another of that class counts as neither; one of
    another class is wrong; one where nothing happens is a false alarm.
    """
    delays: dict[Truth, float] = {}
    wrong = alarms = 0
    for event in found:
        of = [t for t in truths if t.start <= event.said <= t.end + LATE]
        if not of:
            alarms += 1
        elif event.label != of[0].label:
            wrong += 1
        else:
            delays.setdefault(of[0], event.said - of[0].start)
    return {"delays": list(delays.values()), "wrong": wrong, "alarms": alarms}


def measure(
    streams: Sequence[tuple[Moments, Sequence[Truth]]], spec: ClipSpec
) -> dict[str, float | int | None]:
    """Of all videos: precision, recall, false alarms an hour of nothing, delay."""
    counts = [compare(found_in(stream, spec), truths) for stream, truths in streams]
    delays = [delay for one in counts for delay in one["delays"]]
    wrong, alarms = (sum(one[key] for one in counts) for key in ("wrong", "alarms"))
    expected = sum(len(truths) for _, truths in streams)
    busy = sum(t.end + LATE - t.start for _, truths in streams for t in truths)
    hours = (sum(stream.seconds for stream, _ in streams) - busy) / 3600
    named = len(delays) + wrong + alarms
    return {
        "events": named,
        "right": len(delays),
        "wrong_class": wrong,
        "false_alarms": alarms,
        "precision": round(len(delays) / named, 4) if named else None,
        "recall": round(len(delays) / expected, 4),
        "false_alarms_per_hour": round(alarms / hours, 2),
        "median_delay_seconds": round(statistics.median(delays), 2) if delays else None,
    }


def cooler(stream: Moments, temperature: float) -> Moments:
    """The probabilities of one view at another temperature, from those at 1."""
    logs = np.log(stream.scores.clip(1e-30)) / temperature
    scores = np.exp(logs - logs.max(axis=1, keepdims=True))
    return stream._replace(scores=scores / scores.sum(axis=1, keepdims=True))


# --------------------------------------------------------------------------------------------- all


def prepared(work: Path) -> tuple[Path, Annotations, Annotations]:
    """The trained model's file, the clips to calibrate on and those to measure with."""
    data, run = work / "data", work / "run"
    words = ["--format", "folder", "--edition", "easy", "--validation", "600", "--test", "600"]
    if not data.is_dir() and gtdnet(["synth", str(data), "--train", "4000", *words]):
        sys.exit("the clips could not be made")
    if not (run / "model.safetensors").is_file():
        words = ["--recipe", "synth_easy", "--data", str(data), "--output", str(work)]
        if gtdnet(["train", *words, "--name", "run"]):
            sys.exit("the training failed")
    model = run / "model.safetensors"
    return model, read_annotations(str(data), "validation"), read_annotations(str(data), "test")


def spread(clips: Sequence[VideoRecord], number: int, seed: int) -> list[VideoRecord]:
    """Some of the clips, drawn."""
    order = np.random.default_rng(seed).permutation(len(clips))[:number]
    return [clips[i] for i in order]


def deal(table: Path, group: str, data: Path) -> None:
    """A table's clips as test.csv, val.csv and train.csv: no group is in two of them.

    Raises:
        ValueError: a column is not there, or no clips are.
    """
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if lacking := [name for name in ("path", "label", group) if not rows or name not in rows[0]]:
        raise InputError(f"{table} has no clips, or no column {lacking[0]}; see --group")
    groups = sorted({row[group] for row in rows})
    order = np.random.default_rng(0).permutation(len(groups))
    part = {groups[i]: min(2, 4 * at // len(groups)) for at, i in enumerate(order)}
    data.mkdir(parents=True, exist_ok=True)
    for number, split in enumerate(("test", "val", "train")):
        lines = [["path", "label"]]
        chosen = [row for row in rows if part[row[group]] == number]
        lines += [[str(table.parent.resolve() / row["path"]), row["label"]] for row in chosen]
        with (data / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(lines)


def prepared_table(work: Path, table: Path, group: str) -> tuple[Path, Annotations, Annotations]:
    """As :func:`prepared`, of the clips of a table."""
    data, run = work / "data", work / "run"
    deal(table, group, data)
    if not (run / "model.safetensors").is_file():
        words = ["--recipe", "finetune_cpu", "--data", str(data), "--output", str(work)]
        words += ["--name", run.name, "--model_options.causal", "true", "--sampling", "rate"]
        words += ["--rate", "8", "--short_side", "112", "--crop_size", "96"]
        if gtdnet(["train", *words, "--epochs", "5", "--validate_every", "5"]):
            raise InputError("the training failed")
    model = run / "model.safetensors"
    return model, read_annotations(str(data), "validation"), read_annotations(str(data), "test")


def taught_nothing(work: Path) -> tuple[Path, Path]:
    """The same network with a class more, for scenes that stand still; its clips.

    Only the classifier learns, of 60 clips of each class and 120 still scenes.
    """
    data, run = work / "data_nothing", work / "run_nothing"
    for split, clips, scenes in (("train", 60, 120), ("val", 50, 50)):
        for folder in sorted((work / "data" / split).iterdir()):
            (data / split / folder.name).mkdir(parents=True, exist_ok=True)
            for clip in sorted(folder.iterdir())[:clips]:
                link = data / split / folder.name / clip.name
                if not link.exists():
                    link.symlink_to(clip.resolve())
        every = read_annotations(str(work / "data"), {"val": "validation"}.get(split, split))
        for n, record in enumerate(spread(every.records, scenes, seed=3)):
            path = data / split / NOTHING / f"{n:03}.mp4"
            if not path.is_file():
                write_long(path, [record], seed=5000 + n, moves=False, seconds=(1.5, 2.0))
    if not (run / "model.safetensors").is_file():
        words = ["--recipe", "synth_easy", "--data", str(data), "--output", str(work)]
        words += ["--name", run.name, "--pretrained", str(work / "run" / "model.safetensors")]
        if gtdnet(["train", *words, "--freeze", "backbone", "--epochs", "3", "--lr", "0.01"]):
            sys.exit("the training failed")
    return run / "model.safetensors", data


def followed(live: LiveModel, path: Path, kept: Path) -> Moments:
    """A video through the model; the answers are kept."""
    if not kept.is_file():
        stream = follow(live, str(path))
        with atomic_path(kept) as temporary:
            np.savez(temporary, **stream._asdict())
        say(f"{path}: {stream.seconds:.0f} s")
    with np.load(kept) as file:
        return Moments(file["times"], file["scores"], float(file["seconds"]))


Videos = Sequence[tuple[Path, Sequence[Truth]]]


def long_videos(
    folder: Path, records: Sequence[VideoRecord], seed: int, moves: bool = True, **how: Any
) -> Videos:
    """The clips in videos of SCENES, and what happens in each."""
    videos = []
    for n in range(0, len(records), SCENES):
        path = folder / f"{n // SCENES:02}.mp4"
        told = path.with_suffix(".json")
        if not told.is_file():
            write_json(told, write_long(path, records[n : n + SCENES], seed + n, moves, **how))
        truths = json.loads(told.read_text(encoding="utf-8"))
        videos.append((path, [Truth(*truth) for truth in truths]))
    return videos


def measured(
    model: Path, data: Path, quiet: Videos, videos: Videos, nothing: str | None = None
) -> dict[str, Any]:
    """What was calibrated, and events before and after."""
    output = model.parent.parent / f"{model.parent.name}_calibrated.safetensors"
    found = calibrate(
        CalibrateOptions(
            str(model), str(data), smoothing=RULES.smoothing, shortest=RULES.shortest,
            release=RULES.release, device="cpu", num_workers=0, nothing=nothing,
            output=str(output), overwrite=True,
        )
    )["measured"]  # fmt: skip
    spec = load_model(output).spec
    assert spec.calibration is not None
    temperature, classes = spec.calibration.temperature, spec.class_names
    live = open_live(replace(load_model(model), spec=replace(spec, calibration=None)), 1, "cpu")
    name = f"{model.parent.name}.npz"
    raw = [(followed(live, path, path.with_suffix(f".{name}")), of) for path, of in videos]
    warm = [(cooler(stream, temperature), of) for stream, of in raw]
    still = [
        cooler(followed(live, path, path.with_suffix(f".{name}")), temperature) for path, _ in quiet
    ]
    never = tuple(None if name == nothing else 0.0 for name in classes)
    plain = Calibration(thresholds=never, rules=RULES)
    rows = {
        "before": measure(raw, replace(spec, calibration=plain)),
        "temperature and thresholds": measure(warm, spec),
    }
    for limit in LIMITS:
        threshold = background_threshold(still, spec, limit)
        if threshold is not None:
            known = replace(spec, calibration=replace(spec.calibration, background=threshold))
            rows[f"at most {limit:g} an hour"] = {
                "background": threshold,
                **measure(warm, known),
            }
    return {
        "clips": found["clips"],
        "temperature": temperature,
        "nll": found["nll"],
        "ece": found["ece"],
        "precision": found["precision"],
        "hours_of_background": round(sum(stream.seconds for stream in still) / 3600, 3),
        "hours": round(sum(stream.seconds for stream, _ in raw) / 3600, 3),
        "live": live.describe(),
        "events": rows,
    }


def built_in(options: argparse.Namespace) -> tuple[int, dict[str, dict[str, Any]]]:
    """How many clips are measured, and what was found of each network."""
    work: Path = options.work
    model, held_out, test = prepared(work)
    shown = spread(held_out.records, options.background, seed=1)
    records = spread(test.records, options.test_clips, seed=2)
    quiet = long_videos(work / "background", shown, seed=0, moves=False)
    videos = long_videos(work / "long", records, seed=1000)
    networks = {"12 classes": measured(model, work / "data", quiet, videos)}
    if not options.one:
        model, data = taught_nothing(work)
        networks["and a class for nothing"] = measured(model, data, quiet, videos, NOTHING)
    return len(records), networks


def of_table(options: argparse.Namespace) -> tuple[int, dict[str, dict[str, Any]]]:
    """The same of the clips of a table."""
    work, nothing = options.work, options.nothing
    model, held_out, test = prepared_table(work, options.clips, options.group)
    names = test.class_names
    if nothing not in names:
        raise InputError(f"--nothing {nothing}: is no class; choose one of {', '.join(names)}")
    label = names.index(nothing)
    calm = [[r for r in of.records if r.label == label] for of in (held_out, test)]
    if not all(calm):
        raise InputError(f"--nothing {nothing}: a part has no clip of it; choose another class")
    moving = [r for r in test.records if r.label != label]
    shown = spread(calm[0] * options.background, options.background, seed=1)
    records = spread(moving, options.test_clips, seed=2)
    quiet = long_videos(
        work / "background", shown, 0, False, idle=forth_and_back(calm[0]), fps=TABLE_FPS
    )
    videos = long_videos(work / "long", records, 1000, idle=forth_and_back(calm[1]), fps=TABLE_FPS)
    key = f"{len(names)} classes, {nothing!r} for nothing"
    return len(records), {key: measured(model, work / "data", quiet, videos, nothing)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--work", type=Path, required=True, help="clips, training and videos")
    parser.add_argument("--clips", type=Path, help="a table of clips; default: the built-in ones")
    parser.add_argument("--group", default="source", help="its column of what belongs together")
    parser.add_argument("--nothing", help="its class for what lies between the clips")
    parser.add_argument("--test_clips", type=int, default=40, help="clips measured; default: 40")
    parser.add_argument("--background", type=int, default=60, help="still scenes; default: 60")
    parser.add_argument("--one", action="store_true", help="without the class for nothing")
    parser.add_argument("--output", help="file of the results (*.yaml)")
    options = parser.parse_args(arguments)
    try:
        if options.clips and not options.nothing:
            raise InputError("--clips needs --nothing, the class for what lies between the clips")
        count, networks = of_table(options) if options.clips else built_in(options)
    except InputError as error:
        print(f"benchmarks/events.py: {error}", file=sys.stderr)
        return 2
    words = f"python benchmarks/events.py --work {options.work.name}"
    if options.clips:
        words += f" --clips {options.clips.parent.name}/{options.clips.name}"
        words += f" --group {options.group} --nothing {options.nothing}"
    words += " --one" if options.one else ""
    title = "Events before and after calibration"
    if options.clips:
        title += f": {options.clips.parent.name}"
    result = envelope("events", title, words, torch.device("cpu"))
    result |= {
        "clips": count,
        "clips_of": options.clips.parent.name if options.clips else None,
        "seconds_of_stillness": list(STILL),
        "limits": list(LIMITS),
        "networks": networks,
    }
    save(result, options.output)
    for network, found in networks.items():
        for name, row in found["events"].items():
            print(network, name, row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
