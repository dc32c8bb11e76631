"""One case of `fuzz.py`: which file, what damage, and what gtdnet made of it."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import random
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import torch
from fuzz_files import CANNOT_WRITE, COMMON, KINDS, files_of, subjects
from fuzz_mutate import damage

from gtdnet.data.check import check_dataset
from gtdnet.data.decode import frame_times, probe, read_frames, scan_frames
from gtdnet.data.formats import SPLITS, detect_format, list_splits, read_annotations
from gtdnet.data.sampling import segment_indices
from gtdnet.engines import choose_for, open_engine, open_model
from gtdnet.errors import DecodeError, InputError
from gtdnet.evaluate import EnsembleOptions, ensemble, read_results
from gtdnet.weights.read import read_tensors

CYCLE = (  # the kinds of twenty cases in a row
    ["videos"] * 4 + ["annotations"] + ["videos"] * 3 + ["pictures"] + ["videos"] * 2 + ["models"]
    + ["videos"] * 2 + ["packs"] + ["annotations"] + ["videos"] * 2 + ["graphs", "scores"]
)  # fmt: skip
DONORS = ("mp4-h264", "matroska-vp9", "avi-mpeg4", "mpegts-mpeg2video", "gif-gif", "flv-flv1")
"""Videos of which stretches are put into others."""
Result = dict[str, Any]


class Fault(Exception):
    """Something that must not be."""


# ------------------------------------------------------------------------------------ base files


def base_of(kind: str, subject: str, work: Path) -> Path:
    """The folder of a subject: ``files``, or ``unusable``, a text that says why there are none."""
    folder = work / "base" / f"{kind}-{subject}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
    (made / "files").mkdir()
    try:
        KINDS[kind][1](subject, made / "files")
        if kind == "videos":
            _check_base(clip_of(made / "files"), subject)
    except CANNOT_WRITE as error:
        shutil.rmtree(made / "files")
        what = f"not read as written: {error.reason}" if isinstance(error, DecodeError) else error
        (made / "unusable").write_text(str(what))
    with contextlib.suppress(OSError):  # another worker was faster
        made.rename(folder)
        return folder
    shutil.rmtree(made)
    return folder


def _check_base(clip: Path, subject: str) -> None:
    """Raise `DecodeError` unless a whole file is read, as FFmpeg reads it."""
    plain, given = decode_plainly(clip), Given(clip)
    if given.error or given.broken or not given.frames:
        reason = given.error or next(iter(given.broken.values()), "no frames")
        told = f"{reason} (FFmpeg: {len(plain.frames)} frames, {plain.errors} errors)"
        raise DecodeError(clip, told)
    if not _compare_plainly(given, plain)["plain"].startswith(("equal", "shown")):
        raise Fault(f"{subject}: other frames than FFmpeg's of a whole file")


def of_case(number: int, work: Path) -> tuple[str, str, Path]:
    """Kind, subject and base folder of a case. Every second video has a codec that is common."""
    kind, turn = (
        CYCLE[number % len(CYCLE)],
        number // len(CYCLE) * CYCLE.count(CYCLE[number % len(CYCLE)])
        + CYCLE[: number % len(CYCLE)].count(CYCLE[number % len(CYCLE)]),
    )
    names = subjects(kind)
    if kind == "videos":
        is_common = turn % 2 == 0
        names = tuple(n for n in names if (n.split("-", 1)[1] in COMMON) == is_common)
        turn //= 2
    for step in range(len(names)):
        subject = names[(turn + step) % len(names)]
        base = base_of(kind, subject, work)
        if (base / "files").is_dir():
            return kind, subject, base
    raise Fault(f"no file of the kind {kind} can be made here")


def run_case(number: int, seed: int, work: Path, keep: Path | None = None) -> Result:
    """Make the file of a case and read it; ``keep``: where the file is to stay."""
    kind, subject, base = of_case(number, work)
    rng = random.Random(f"{seed} {number}")
    result: Result = {"case": number, "kind": kind, "subject": subject}
    place = keep or Path(tempfile.mkdtemp(dir=work, prefix=f"case{os.getpid()}-"))
    try:
        shutil.copytree(base / "files", place, dirs_exist_ok=True)
        result["damage"] = _damage(place, kind, rng, work)
        try:
            result |= READERS[kind](place, base)
        except InputError as error:
            is_sentence = "\n" not in str(error).strip()
            reason = general(error, place) if is_sentence else f"several lines: {error}"
            result |= {"verdict": "refused" if is_sentence else "fault", "reason": reason}
        except Fault as fault:
            result |= {"verdict": "fault", "reason": str(fault)}
        except MemoryError as error:
            result |= {"verdict": "fault", "reason": f"out of memory: {error!r:.200}"}
        except BaseException as error:
            told = " ".join(f"{type(error).__module__}.{type(error).__name__}: {error}".split())
            result |= {"verdict": "fault", "reason": f"foreign exception: {told[:300]}"}
    finally:
        if keep is None:
            shutil.rmtree(place, ignore_errors=True)
    return result


def _damage(place: Path, kind: str, rng: random.Random, work: Path) -> str:
    everything = list(files_of(place))
    files = [path for path in everything if path.stat().st_size]
    if kind == "scores":
        files = [place / "scores.npz"]  # what lies beside it is for people
    is_of_many = kind in ("pictures", "annotations") and (not files or rng.random() < 0.1)
    path = rng.choice(everything if is_of_many else files)
    if is_of_many:
        way = rng.choice(("gone", "empty", "twice", "folder"))
        if way == "empty":
            path.write_bytes(b"")
        elif way == "twice":
            path.with_stem(path.stem + "0").write_bytes(path.read_bytes())
        else:
            path.unlink()
            path.mkdir() if way == "folder" else None
        return f"{path.name}: {way}"
    donor = base_of(kind, rng.choice(DONORS if kind == "videos" else subjects(kind)), work)
    others = [p for p in files_of(donor / "files") if p.stat().st_size]
    other = rng.choice(others) if others else path
    return f"{path.name}: {damage(path, rng, other.read_bytes())}"


def general(error: Exception, place: Path) -> str:
    """A message without what is of this case alone: paths, numbers, quotations."""
    text = getattr(error, "reason", None) or str(error)
    text = text.replace(str(place), "").split("; ")[0]
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", text)
    return re.sub(r"\d+(?:\.\d+)?", "N", re.sub(r"\S*/\S*", "PATH", text))[:110]


# ------------------------------------------------------------------------------------------- clips

_MAX = 1 << 20  # pixels of frames that are kept and compared one by one


def clip_of(folder: Path) -> Path:
    """The clip of a subject: its only file, or the folder of its pictures."""
    return next(folder.iterdir())


def digest_of(rgb: np.ndarray) -> str:
    """Of a frame [H, W, 3], its shape too."""
    content = np.ascontiguousarray(rgb)
    return hashlib.blake2b(content.data, digest_size=12, key=str(rgb.shape).encode()).hexdigest()


class Given:
    """What `scan_frames` gives of a clip: frames, single ones refused, why it broke off."""

    def __init__(self, clip: Path) -> None:
        self.frames: dict[int, np.ndarray | None] = {}
        self.digests: dict[int, str] = {}
        self.broken: dict[int, str] = {}
        self.error: str | None = None
        try:
            for index, rgb in scan_frames(clip, self.broken):
                self.frames[index] = rgb if rgb.size <= 3 * _MAX else None
                self.digests[index] = digest_of(rgb)
        except DecodeError as error:
            self.error = error.reason


class Plain:
    """What FFmpeg makes of a file, asked without any care: damage is not looked for."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, np.ndarray]] = []
        self.packets: list[int] = []  # checksums
        self.about: tuple[Any, ...] = ()
        self.errors = 0
        self.keeps, self.kept = 0, list[Any]()
        self.is_shown_otherwise = False  # turned, stretched, or a grey that swscale gets wrong


_UNSET = "the decoder leaves a part of a picture as the memory was, which differs each time"


def is_settled(clip: Path) -> bool:
    """Whether the decoder gives the same frames whatever lay in the memory that it takes."""
    found = set()
    for keeps, fill in ((0, 0x11), (1, 0xEE), (2, 0x55), (5, 0)):
        _fill_memory(fill)
        found.add(tuple(digest for digest, _ in decode_plainly(clip, keeps).frames))
    return len(found) == 1


def _fill_memory(byte: int) -> None:
    """Let glibc fill what is asked for with a byte; 0: leave it as it is."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(-6, byte)  # M_PERTURB


def decode_plainly(clip: Path, keeps: int = 0) -> Plain:
    """By PyAV's own conversion, with none of gtdnet's code; every so many frames stay alive."""
    plain = Plain()
    plain.keeps = keeps
    files = sorted(clip.iterdir()) if clip.is_dir() else [clip]
    for path in files:
        try:
            with av.open(str(path), metadata_errors="replace") as container:
                _decode_into(plain, container)
        except (av.error.FFmpegError, IndexError):  # PyAV's, of streams that come up late
            plain.errors += 1
    return plain


def _decode_into(plain: Plain, container: Any) -> None:
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None:
        return
    context = stream.codec_context
    context.thread_count = 1
    plain.about = (
        context.name, context.width, context.height, context.pix_fmt, context.extradata,
        str(stream.sample_aspect_ratio),
    )  # fmt: skip
    packets = container.demux(stream)
    while True:
        packet, frames = None, []
        try:
            packet = next(packets, None)
            if packet is None or packet.size:
                plain.packets += [zlib.crc32(bytes(packet))] if packet else []
                frames = context.decode(packet)
        except av.error.FFmpegError:
            plain.errors += 1
            if packet is None:  # the container, not the decoder
                return
        for frame in frames:
            if frame.width * frame.height > _MAX:
                plain.is_shown_otherwise = True
                continue
            if plain.keeps and len(plain.frames) % plain.keeps == 0:
                plain.kept.append(frame)
            rgb = frame.to_ndarray(format="rgb24").copy()  # of an RGB codec it is the frame's own
            odd = frame.color_range == 1 and frame.format.name.startswith("gray")
            odd |= float(stream.sample_aspect_ratio or 1) != 1
            # Asked of each frame, it would keep them all alive: PyAV makes a circle of references.
            odd |= not plain.frames and bool(frame.rotation)
            odd |= bool(plain.frames) and rgb.shape != plain.frames[0][1].shape
            plain.is_shown_otherwise |= odd
            plain.frames.append((digest_of(rgb), rgb))
        if packet is None:
            return


@lru_cache(maxsize=400)
def original(base: Path) -> tuple[Given, Plain]:
    """Of the undamaged clip."""
    clip = clip_of(base / "files")
    return Given(clip), decode_plainly(clip)


def read_clip(folder: Path, base: Path) -> Result:
    """A video or a folder of pictures, by every function that decodes."""
    clip = clip_of(folder)
    given = Given(clip)
    for of_it in (probe, frame_times):
        with contextlib.suppress(DecodeError):
            of_it(clip)
    try:
        _check_chosen(clip, given)
    except Fault:
        if is_settled(clip):
            raise
        return {"verdict": "other frames: not the same each time", "cause": _UNSET}
    plain, (whole, plain_whole) = decode_plainly(clip), original(base)
    found = _compare_plainly(given, plain)
    if found["plain"] == "differs" and not is_settled(clip):
        found["plain"] = _UNSET
    found["verdict"], difference = _verdict(given, whole)
    if found["plain"] in ("differs", "fewer"):
        raise Fault(f"against an independent decode: {found['plain']}, unexplained")
    if found["verdict"] == "refused":
        return {**found, "reason": general(DecodeError(clip, given.error or ""), clip)}
    if found["verdict"].startswith("other frames"):
        found["cause"] = _cause(plain, plain_whole)
        found["difference"] = difference
    return found


def _check_chosen(clip: Path, given: Given) -> None:
    """The frames that training and evaluation choose are those that `check` has looked at."""
    try:
        chosen, num_frames = read_frames(clip, lambda n: segment_indices(n, 8)[0])
    except DecodeError as error:
        if given.error is None and not given.broken:
            raise Fault(f"8 frames are refused of a clip that check finds whole: {error}") from None
        return
    for index, rgb in zip(segment_indices(num_frames, 8)[0].tolist(), chosen, strict=True):
        known = given.digests.get(index)
        if clip.is_dir() and index in given.broken:
            continue  # check looks where a JPEG's scan ends, which reading has no time for
        if known is None and given.error is None:
            raise Fault(f"frame {index} is given, though check finds it broken or not there")
        if known is not None and known != digest_of(rgb.permute(1, 2, 0).numpy()):
            raise Fault(f"frame {index} is another one than check has seen")


def _compare_plainly(given: Given, plain: Plain) -> Result:
    """Whether what is given is what FFmpeg decodes, in this order; else why not."""
    mine = [digest for _, digest in sorted(given.digests.items())]
    theirs = [digest for digest, _ in plain.frames]
    if mine == theirs:
        return {"plain": "equal"}
    rest = iter(theirs)
    if all(digest in rest for digest in mine):
        is_whole = given.error is None and not given.broken
        return {"plain": "fewer" if is_whole else "equal but for what is refused"}
    if plain.is_shown_otherwise:
        return {"plain": "shown otherwise: turned, stretched, scaled to the first, or grey"}
    return {"plain": "differs"}


def _verdict(given: Given, whole: Given) -> tuple[str, float | None]:
    """What became of the clip, and the largest mean difference of a frame (0 to 255)."""
    if given.error is not None:
        return "refused", None
    if given.broken:
        return "single frames refused", None
    if given.digests == whole.digests:
        return "equal to the undamaged one", None
    if len(given.frames) != len(whole.frames):
        return f"other frames: {'fewer' if len(given.frames) < len(whole.frames) else 'more'}", None
    differences = [
        float(np.abs(mine.astype(np.int16) - theirs).mean())
        for mine, theirs in zip(given.frames.values(), whole.frames.values(), strict=True)
        if mine is not None and theirs is not None and mine.shape == theirs.shape
    ]
    if len(differences) < len(whole.frames):
        return "other frames: another size", None
    worst = max(differences)
    return f"other frames: {'visibly' if worst >= 1 else 'hardly visible'}", round(worst, 2)


def _cause(plain: Plain, whole: Plain) -> str:
    """What the damage did to what the decoder was given: why it could not notice, or could."""
    if plain.about != whole.about:
        return "the codec's parameters say otherwise"
    mine, theirs = plain.packets, whole.packets
    if mine == theirs:
        return "the same packets, shown otherwise (times, edits, marks)"
    if mine == theirs[: len(mine)]:
        return "packets gone at the end"
    rest = iter(theirs)
    if all(packet in rest for packet in mine):
        return "whole packets gone"
    if len(mine) == len(theirs):
        return "bytes of packets changed, and the decoder took them"
    return "packets gone or added, and others changed"


# ------------------------------------------------------------------------------------------ others


def read_dataset(folder: Path, base: Path) -> Result:
    """Annotations, by every function that reads them."""
    root = folder / "clips.json" if (folder / "clips.json").exists() else folder
    refused: list[str] = []

    def tried(function: Callable[..., Any], *args: Any, **options: Any) -> None:
        try:
            function(*args, **options)
        except InputError as error:
            if "\n" in str(error).strip():
                raise Fault(f"a message of several lines: {error}") from error
            refused.append(general(error, folder))

    tried(detect_format, root)
    for form in (None, base.name.split("-", 1)[1]):
        tried(list_splits, root, form)
        for split in SPLITS:
            tried(read_annotations, root, split, form, allow_missing=True)
    before = len(refused)
    tried(check_dataset, root, workers=0)
    is_read = len(refused) == before
    return {"verdict": "read"} if is_read else {"verdict": "refused", "reason": refused[-1]}


def read_model(folder: Path, base: Path) -> Result:
    """A model file, as weights and as a model that is run."""
    path = next(folder.iterdir())
    if path.suffix == ".safetensors" and base.name.endswith("-model"):
        file: Any = open_model(path)
        with torch.inference_mode():
            file.model(torch.zeros(1, file.spec.frames_per_clip, 3, 32, 32))
    else:
        read_tensors(path)
    return {"verdict": "read"}


def read_graph(folder: Path, _: Path) -> Result:
    """An exported file is opened and run."""
    path = next(p for p in folder.iterdir() if p.suffix in (".onnx", ".xml"))
    file: Any = open_model(path)
    engine = open_engine(file, choose_for(file, device="cpu"), threads=1)
    size = file.spec.crop_size
    if size <= 256 and file.spec.frames_per_clip <= 64:
        engine.logits(torch.zeros(1, file.spec.frames_per_clip, 3, size, size, dtype=torch.uint8))
    return {"verdict": "read"}


def read_scores(folder: Path, base: Path) -> Result:
    """Scores, alone and averaged with those of the undamaged file."""
    path = folder / "scores.npz"
    read_results(path)
    output = str(folder / "joined")
    ensemble(EnsembleOptions([str(base / "files/scores.npz"), str(path)], output=output))
    return {"verdict": "read"}


def read_pack(folder: Path, base: Path) -> Result:
    """A packed dataset: its index, and all frames of all clips."""
    good, found = base / "files/packed", folder / "packed"
    whole = _frames_of_pack(good)
    mine = _frames_of_pack(found)
    check_dataset(found, workers=0)
    if mine == whole:
        return {"verdict": "equal to the undamaged one"}
    if any(clip.error or clip.broken for clip in (Given(found / name) for name in mine)):
        return {"verdict": "single clips refused"}
    with contextlib.suppress(InputError):
        if any(f.code == "checksum" for f in check_dataset(found, workers=0).findings):
            return {"verdict": "other frames, which check reports by the checksum"}
    return {"verdict": "other annotations or frames"}


def _frames_of_pack(root: Path) -> dict[str, list[str]]:
    found = {}
    for split in list_splits(root):
        for record in read_annotations(root, split).records:
            found[str(Path(record.path).relative_to(root))] = list(
                Given(Path(record.path)).digests.values()
            )
    return found


READERS: dict[str, Callable[[Path, Path], Result]] = {
    "videos": read_clip, "pictures": read_clip, "annotations": read_dataset,
    "models": read_model, "graphs": read_graph, "scores": read_scores, "packs": read_pack,
}  # fmt: skip


def told(result: Result) -> str:
    """A result in a line of JSON."""
    return json.dumps(result, ensure_ascii=True)
