"""`gtdnet synth`: a dataset of encoded clips and its annotations, begun anew or gone on with."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from gtdnet.data.formats import SPLITS, NewClip, written_formats
from gtdnet.data.synthetic.classes import TEMPLATES, VERSION, class_names, compose, find_edition
from gtdnet.data.synthetic.draw import render
from gtdnet.errors import InputError, suggestion
from gtdnet.files import write_text
from gtdnet.workers import map_in_processes, num_cores

FPS = 12  # Something-Something's frame rate
_MARKER = ".gtdnet-synth.json"
_MIN_SIZE = 32
_CHUNK = 16  # clips that a worker writes before it reports


@dataclass(frozen=True)
class _Job:
    """A clip to write: what the annotations say of it, which scene it shows, and where it lies.

    The path's suffix says how it is encoded: without one, as a folder of pictures.
    """

    clip: NewClip
    scene: int
    path: Path


@dataclass(frozen=True)
class _Plan:
    """What every clip of a dataset has in common; written to the marker file."""

    version: int
    format: str
    edition: str
    train: int
    validation: int
    test: int
    seed: int
    height: int
    width: int

    def jobs(self, root: Path) -> list[_Job]:
        """Balanced and shuffled: each run of K clips of a split holds each of K classes once."""
        names = class_names(self.edition)
        path_of = written_formats()[self.format].clip_path
        jobs: list[_Job] = []
        for number, split in enumerate(SPLITS):
            count = getattr(self, split)
            labels: list[int] = []
            for block in range(-(-count // len(names))):
                rng = np.random.default_rng((VERSION, self.seed, number, block))
                labels.extend(rng.permutation(len(names)).tolist())
            for index, label in enumerate(labels[:count]):
                place, name = len(jobs) + 1, names[label]
                key = f"{self.edition} {self.seed} {place}"
                clip = NewClip(place, split, label, name, key, TEMPLATES[name])
                jobs.append(_Job(clip, number << 32 | index, root / path_of(clip)))
        return jobs


@dataclass(frozen=True)
class _Written:
    """What became of a clip, now with what fills its label's blanks: whether this run wrote it."""

    clip: NewClip
    is_new: bool
    num_bytes: int


def _claim(root: Path, plan: _Plan) -> None:
    """Make ``root`` ours, or recognise it as this very plan's."""
    marker = root / _MARKER
    mine = asdict(plan)
    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file; give a folder to write the dataset to")
    if marker.is_file():
        try:
            theirs = json.loads(marker.read_text())
        except ValueError:
            theirs = {}
        if theirs != mine:
            differing = ", ".join(k for k in mine if theirs.get(k) != mine[k])
            raise InputError(
                f"{root} holds a synthetic dataset made with another {differing}; give another "
                "folder, or delete that one"
            )
    elif root.is_dir() and any(root.iterdir()):
        raise InputError(f"{root} is not empty; give a new or empty folder, or delete that one")
    write_text(marker, json.dumps(mine, indent=1) + "\n")


def write_dataset(
    root: str | Path,
    *,
    format: str = "something-v2",
    edition: str = "full",
    train: int,
    validation: int,
    test: int = 0,
    seed: int = 0,
    workers: int | None = None,
    size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write a dataset of encoded clips and its annotations below ``root``.

    ``train``, ``validation`` and ``test`` count clips, ``size`` is the shorter side in pixels (the
    edition's own if None) and ``progress`` is told (clips done, clips in all). A clip depends on
    the edition, seed, split and index only, so any number of ``workers`` gives the same files. A
    run that was interrupted is resumed: the same call writes what is missing. With the format
    "something-v1" or "something-v2" the test split has no labels, as in the real datasets.

    Returns a summary with the counts, classes, bytes and seconds. Raises InputError for arguments
    out of range and for a ``root`` that holds anything else.
    """
    began = time.perf_counter()
    root = Path(root)
    spec = find_edition(edition)
    formats = written_formats()
    if format not in formats:
        raise InputError(
            f"format {format!r} is unknown{suggestion(format, formats)}; choose one of "
            f"{', '.join(formats)}"
        )
    for name, count in (("train", train), ("validation", validation), ("test", test)):
        if count < 0:
            raise InputError(f"{name}={count} clips cannot be written; give 0 or more")
    if train + validation + test == 0:
        raise InputError("train, validation and test are all 0; ask for at least one clip")
    if seed < 0:
        raise InputError(f"seed={seed} is negative; give 0 or more")
    if workers is not None and workers < 1:
        raise InputError(f"workers={workers} cannot write anything; give 1 or more")
    if size is not None and size < _MIN_SIZE:
        raise InputError(f"size={size} pixels shows too little; give {_MIN_SIZE} or more")
    short = min(spec.height, spec.width)
    # The encoders halve the colours' resolution: both sides must be even.
    height, width = (
        2 * round(side * (size or short) / short / 2) for side in (spec.height, spec.width)
    )
    plan = _Plan(VERSION, format, edition, train, validation, test, seed, height, width)
    jobs = plan.jobs(root)
    _claim(root, plan)
    for folder in {job.path.parent for job in jobs}:
        folder.mkdir(parents=True, exist_ok=True)
    written = _write_all(plan, jobs, workers, progress or (lambda done, total: None))
    formats[format].write(root, spec.class_names, [w.clip for w in written], seed)
    return {
        "root": str(root),
        "format": format,
        "edition": edition,
        "seed": seed,
        "height": height,
        "width": width,
        "classes": list(spec.class_names),
        "train": train,
        "validation": validation,
        "test": test,
        "written": sum(w.is_new for w in written),
        "kept": sum(not w.is_new for w in written),
        "bytes": sum(w.num_bytes for w in written),
        "seconds": round(time.perf_counter() - began, 3),
    }


def _write_all(
    plan: _Plan, jobs: Sequence[_Job], workers: int | None, progress: Callable[[int, int], None]
) -> list[_Written]:
    chunks = [jobs[i : i + _CHUNK] for i in range(0, len(jobs), _CHUNK)]
    # A worker takes seconds to start: a few clips are sooner written without one.
    if workers is None:
        workers = 1 if len(chunks) < 8 else num_cores()
    written: list[_Written] = []
    progress(0, len(jobs))
    write = partial(_write_chunk, plan)
    with closing(map_in_processes(write, chunks, min(workers, len(chunks)))) as results:
        for chunk in results:
            written += chunk
            progress(len(written), len(jobs))
    return written


# One clip, in the workers


def _write_chunk(plan: _Plan, jobs: Sequence[_Job]) -> list[_Written]:
    return [_write_clip(plan, job) for job in jobs]


def _write_clip(plan: _Plan, job: _Job) -> _Written:
    """Write the clip unless it is there."""
    scene, path = compose(plan.edition, job.clip.label, plan.seed, job.scene), job.path
    is_new = not path.exists()
    if is_new:
        frames = render(scene, plan.height, plan.width)
        if path.suffix:
            _write_bytes(path, _encode_video(frames, path.suffix, scene.crf))
        else:
            _write_frames(path, _encode_jpegs(frames, scene.crf))
    files = path.iterdir() if path.is_dir() else [path]
    clip = replace(job.clip, placeholders=scene.placeholders)
    return _Written(clip, is_new, sum(file.stat().st_size for file in files))


def _converted(frames: NDArray[np.uint8], pix_fmt: str) -> Iterator[av.VideoFrame]:
    # One converter with one thread for all frames: left to itself, PyAV makes one with as many
    # threads as there are cores for each, at several times the cost.
    converter = VideoReformatter()
    for number, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture = converter.reformat(picture, format=pix_fmt, threads=1)
        picture.pts, picture.time_base = number, Fraction(1, FPS)
        yield picture


def _encode_video(frames: NDArray[np.uint8], suffix: str, crf: int) -> bytes:
    """The video file's bytes; the same for the same arguments."""
    if suffix == ".webm":
        container, codec = "webm", "libvpx-vp9"
        # VP9's scale runs to 63: ten steps more give about the quality of libx264's.
        options = {"deadline": "realtime", "cpu-used": "8", "crf": str(crf + 10), "b": "0"}
    else:
        container, codec = "mp4", "libx264"
        # With a second thread looking ahead, libx264's output varies from run to run.
        threads = "threads=1:lookahead-threads=1"
        options = {"preset": "superfast", "crf": str(crf), "x264-params": threads}
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options={"fflags": "+bitexact"}) as output:
        stream = output.add_stream(codec, rate=FPS, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in _converted(frames, "yuv420p"):
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return buffer.getvalue()


def _encode_jpegs(frames: NDArray[np.uint8], crf: int) -> list[bytes]:
    encoder = av.VideoCodecContext.create("mjpeg", "w")
    encoder.height, encoder.width, encoder.pix_fmt = *frames.shape[1:3], "yuvj420p"
    encoder.time_base = Fraction(1, FPS)
    encoder.thread_count = 1
    encoder.qmin = encoder.qmax = max(2, (crf - 16) // 2)
    packets = []
    for frame in _converted(frames, "yuvj420p"):
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return [bytes(packet) for packet in packets]


def _write_bytes(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write_frames(path: Path, images: Sequence[bytes]) -> None:
    """A folder of numbered images, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # what a killed run may have left
    try:
        part.mkdir()
        for number, image in enumerate(images, start=1):
            (part / f"{number:05d}.jpg").write_bytes(image)
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
