"""Training clips as the network sees them: a row a draw, its frames, and the label that it gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gtdnet.data.dataset import Augmentation, Failure, Sample, TrainClips
from gtdnet.data.decode import read_frames
from gtdnet.data.formats import VideoRecord
from gtdnet.data.formats.held_out import SPLIT_FILE
from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import resize_frames
from gtdnet.errors import DecodeError, InputError
from gtdnet.files import atomic_path
from gtdnet.show.canvas import ACCENT, GREY, INK, Canvas, quiet_fonts, save
from gtdnet.text import counted, one_line, printable
from gtdnet.train.choice import fill_in, situation
from gtdnet.train.config import TrainConfig, check_is_run, find_recipe
from gtdnet.train.data import split_clips

SUFFIXES = (".png", ".pdf", ".svg")
DRAWS = 2  # of each clip: those of the first epochs
FRAMES = 8  # of a clip, at most

# Inches, and pixels in an inch.
MARGIN, NAMES, GAP, SPACE, HEAD, CELL, DPI = 0.25, 2.2, 0.05, 0.14, 0.95, 1.0, 110


@dataclass
class AugmentOptions:
    """What ``gtdnet show --augment`` is asked for.

    Attributes:
        run: the run folder whose clips and options are shown; else ``data`` and ``recipe``.
        recipe: a recipe or YAML file; default: what gtdnet train would choose for the data.
        clips: how many clips.
    """

    run: str | None = None
    data: str | None = None
    recipe: str | None = None
    clips: int = 4
    output: str = "show"
    overwrite: bool = False


@dataclass(frozen=True)
class Draw:
    """One clip in one epoch: the frames shown of it, uint8 [T, H, W, 3], and what it is called."""

    record: VideoRecord
    original: NDArray[np.uint8]  # its middle frame, [h, w, 3]
    frames: NDArray[np.uint8]
    epoch: int
    is_flipped: bool
    before: str
    after: str

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, but for the pictures."""
        return {
            "path": self.record.path,
            "epoch": self.epoch + 1,
            "flipped": self.is_flipped,
            "label": self.before,
            "trained_as": self.after,
        }


def show_augmented(options: AugmentOptions) -> dict[str, Any]:
    """Write the picture; returns what is on it.

    Raises:
        ValueError: no such run, recipe or data, no clip that can be read, or a file in the way.
    """
    if options.clips < 1:
        raise InputError(f"clips must be at least 1, got {options.clips}")
    path = output_file(options.output)
    if path.exists() and not options.overwrite:
        raise InputError(f"{path} exists; add --overwrite to replace it, or give --output")
    config, split_file = _config(options)
    found, _, _ = split_clips(config, split_file)
    spec = config.clip_spec(found.class_names, multi_label=found.multi_label)
    augmentation = Augmentation(config.multiscale, config.flip, config.brightness)
    clips = TrainClips(found.records, spec, augmentation, config.seed)
    draws, failures = draw_clips(clips, options.clips)
    if not draws:
        first = f"{failures[0].path}: {failures[0].reason}"
        raise InputError(f"none of {counted(len(failures), 'clip')} could be read, as {first}")
    crop = "multiscale crops" if config.multiscale else "random crops"
    crops = f"{crop} of {config.crop_size} pixels"
    line = f"{crops}, flip {config.flip:g}, brightness and contrast +-{config.brightness:g}"
    notes = [f"{failure.path}: {failure.reason}" for failure in failures]
    if config.mixup:
        notes.append(f"mixup {config.mixup:g} comes on top of it, which is not drawn")
    with quiet_fonts(), atomic_path(path) as temporary:
        title = f"{Path(config.data).absolute().name}: training clips as {config.model} sees them"
        save(_figure(draws, title, f"{line}; {spec.describe()}"), temporary)
    return {
        "options": {
            name: getattr(config, name)
            for name in ("multiscale", "flip", "brightness", "short_side", "crop_size", "seed")
        },
        "clips": [draw.to_dict() for draw in draws],
        "notes": notes,
        "files": [str(path)],
    }


def output_file(output: str | Path) -> Path:
    """The file to write, or augment.png in that folder; InputError for another suffix."""
    path = Path(output).expanduser()
    if path.suffix.lower() in SUFFIXES and not path.is_dir():
        return path
    if path.is_file() or (path.suffix and not path.exists()):
        raise InputError(f"--output {output}: give a folder or a file in {', '.join(SUFFIXES)}")
    return path / "augment.png"


def draw_clips(clips: TrainClips, count: int) -> tuple[list[Draw], list[Failure]]:
    """Some clips, spread evenly over the classes, each as in the first epochs; and the broken."""
    order = sorted(range(len(clips)), key=lambda i: (clips.records[i].classes, i))
    count = min(count, len(order))
    draws: list[Draw] = []
    failures: list[Failure] = []
    for index in (order[i * len(order) // count] for i in range(count)):
        record = clips.records[index]
        try:
            original, _ = read_frames(record.path, lambda n: np.array([n // 2]))
        except DecodeError as error:
            failures.append(Failure(index, error.path, error.reason))
            continue
        for epoch in range(DRAWS):
            sample = clips[epoch, index]
            if isinstance(sample, Failure):
                failures.append(sample)
                break
            draws.append(_draw(record, original, sample, epoch, clips.spec))
    return draws, failures


def _draw(record: VideoRecord, original: Any, sample: Sample, epoch: int, spec: ClipSpec) -> Draw:
    f = spec.frames_per_segment
    frames = sample.views[0, f // 2 :: f]  # of several frames a segment the middle ones
    shown = np.arange(min(FRAMES, len(frames))) * len(frames) // min(FRAMES, len(frames))
    height, width = original.shape[-2:]
    scale = CELL * DPI / max(height, width)
    small = resize_frames(original, (max(1, round(height * scale)), max(1, round(width * scale))))
    return Draw(
        record,
        small[0].permute(1, 2, 0).contiguous().numpy(),
        frames[shown].permute(0, 2, 3, 1).contiguous().numpy(),
        epoch,
        sample.is_flipped,
        _named(record.classes, spec),
        _named(_classes(sample.label), spec),
    )


def _classes(label: int | tuple[int, ...]) -> tuple[int, ...]:
    """Of a sample's label, which of several classes has a 0 or 1 for each."""
    if isinstance(label, int):
        return (label,)
    return tuple(k for k, is_there in enumerate(label) if is_there == 1)


def _named(classes: Sequence[int], spec: ClipSpec) -> str:
    return ", ".join(spec.class_names[k] for k in classes) or "no class"


def _config(options: AugmentOptions) -> tuple[TrainConfig, Path | None]:
    """The options of the run, recipe or choice, and where the run wrote what it held out."""
    data, split_file = options.data or "", None
    if options.run is not None:
        if options.recipe:
            raise InputError(
                f"{options.run} and --recipe {options.recipe} both say how clips are augmented; "
                f"leave one of them out"
            )
        check_is_run(options.run)
        config = TrainConfig.load(Path(options.run, "config.yaml"))
        file = Path(options.run, SPLIT_FILE)
        split_file = file if file.is_file() and not data else None
    elif options.recipe:
        config = TrainConfig.load(find_recipe(options.recipe))
    else:
        config = TrainConfig(data=data)
        config, _ = fill_in(config, ["data"], situation(config))
    return replace(config, data=data or config.data), split_file


def _figure(draws: Sequence[Draw], title: str, line: str) -> Any:
    columns = len(draws[0].frames)
    first = MARGIN + NAMES + CELL + SPACE
    width = first + columns * (CELL + GAP) + MARGIN
    canvas = Canvas(width, DPI)
    room = width - 2 * MARGIN
    end = canvas.text(MARGIN, MARGIN - 0.08, printable(title), 11, INK, room, bold=True)
    canvas.text(MARGIN, end + 0.03, printable(line), 8, GREY, room)
    canvas.text(MARGIN + NAMES, HEAD - 0.2, "as it is", 8, GREY, CELL)
    canvas.text(first, HEAD - 0.2, "as the network sees it", 8, GREY, 3)
    y = HEAD
    for number, draw in enumerate(draws):
        is_first = number == 0 or draws[number - 1].record is not draw.record
        room = NAMES - 0.15
        end = y
        if is_first:
            name = printable(one_line(draw.before))
            end = canvas.text(MARGIN, y, name, 9.5, INK, room, bold=True, lines=2)
            clip = printable(one_line(Path(draw.record.path).name))
            end = canvas.text(MARGIN, end + 0.02, clip, 7.5, GREY, room)
            height, breadth = (side / DPI for side in draw.original.shape[:2])
            left, top = MARGIN + NAMES + (CELL - breadth) / 2, y + (CELL - height) / 2
            canvas.picture(draw.original, left, top, breadth, height)
        flipped = ", flipped" if draw.is_flipped else ""
        end = canvas.text(MARGIN, end + 0.06, f"epoch {draw.epoch + 1}{flipped}", 8, INK, room)
        if draw.after != draw.before:
            after = printable(one_line(f"trained as {draw.after}"))
            canvas.text(MARGIN, end + 0.02, after, 8.5, ACCENT, room, bold=True, lines=2)
        for column, frame in enumerate(draw.frames):
            canvas.picture(frame, first + column * (CELL + GAP), y, CELL)
        y += CELL + (GAP if number + 1 < len(draws) and _same(draws, number) else SPACE)
    return canvas.finish(y + MARGIN - SPACE)


def _same(draws: Sequence[Draw], number: int) -> bool:
    """Whether the next row has the same clip."""
    return draws[number].record is draws[number + 1].record
