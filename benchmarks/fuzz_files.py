"""What `fuzz.py` damages: small files of every kind that gtdnet reads, made here.

A subject is one of them: a container with a codec, a form of pictures, a format of annotations, a
model file and so on. `SUBJECTS` has their names by kind; `make` writes one into a folder.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import torch
from av.packet import Packet

from gtdnet.data.formats import FORMATS, NewClip, WritableFormat
from gtdnet.data.pack import PackOptions, pack
from gtdnet.data.spec import ClipSpec
from gtdnet.engines import ENGINES, Source
from gtdnet.engines.graph import INPUT, OUTPUT
from gtdnet.engines.header import make_header
from gtdnet.engines.onnx import OPSET
from gtdnet.errors import InputError
from gtdnet.evaluate import Evaluation, FailedClip
from gtdnet.evaluate.results import write_results
from gtdnet.models import create_model, load_model, save_model
from gtdnet.models.model_file import METADATA_KEY

NUM_FRAMES = 24
SPEC = ClipSpec(("left", "right", "stop"), num_segments=4, short_side=36, crop_size=32)

# ------------------------------------------------------------------------------------------ videos

MUXERS = {  # FFmpeg's names of the containers that it writes and gtdnet reads, and their suffixes
    "mp4": "mp4", "mov": "mov", "3gp": "3gp", "3g2": "3g2", "f4v": "f4v", "ipod": "m4v",
    "psp": "mp4", "ismv": "mp4", "matroska": "mkv", "webm": "webm", "avi": "avi", "mpeg": "mpg",
    "vob": "mpg", "dvd": "mpg", "svcd": "mpg", "vcd": "mpg", "mpegts": "ts", "asf": "wmv",
    "flv": "flv", "ogg": "ogv", "gif": "gif", "mxf": "mxf", "mxf_d10": "mxf", "nut": "nut",
    "dv": "dv", "rm": "rm", "ivf": "ivf", "h264": "h264", "hevc": "hevc", "vvc": "vvc",
    "m4v": "m4v", "obu": "obu", "mpeg1video": "mpg", "mpeg2video": "mpg", "dirac": "drc",
    "yuv4mpegpipe": "y4m", "wtv": "wtv", "swf": "swf", "avm2": "swf", "apng": "apng",
}  # fmt: skip
UNLISTED = {  # codecs that a container takes without saying so
    **dict.fromkeys(("mpeg", "svcd"), ("h264", "hevc", "mpeg2video", "mpeg4")),
    **dict.fromkeys(("vob", "dvd"), ("h264", "hevc", "mpeg1video", "mpeg4")),
    "vcd": ("h264", "hevc", "mpeg2video", "mpeg4"),
    "mpegts": ("h264", "hevc", "mpeg1video", "mpeg4"),
    "ogg": ("vp8",),
    "mxf": ("h264", "dvvideo", "ffv1", "jpeg2000", "prores"),
    "swf": ("flashsv", "flv1", "mjpeg"),
    "avm2": ("flashsv", "flv1", "mjpeg"),
    "flv": ("flv1",),
    "yuv4mpegpipe": ("rawvideo",),
    "wtv": ("flv1", "msmpeg4v3"),
    "matroska": ("msmpeg4v3",),
}
COMMON = {  # codecs that people meet: they get half of the cases
    "h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "wmv1",
    "wmv2", "flv1", "h263", "gif", "ffv1",
}  # fmt: skip
_ENCODERS = ("libx264", "libx265", "libsvtav1", "libvpx", "libvpx-vp9")  # before others
_HARDWARE = ("_amf", "_nvenc", "_qsv", "_v4l2m2m")
_OPTIONS = {
    "libx264": {"preset": "veryfast", "bf": "2"},
    "libx265": {
        "preset": "ultrafast",
        "x265-params": "log-level=none:pools=1:frame-threads=1:keyint=8",
    },
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}
_SIZES = ((64, 48), (176, 144), (720, 576))  # some codecs have only certain ones


@cache
def encoders() -> dict[str, str]:
    """Codec: the encoder of it that is used."""
    found: dict[str, str] = {}
    for name in (*_ENCODERS, *sorted(av.codecs_available)):
        with contextlib.suppress(ValueError):
            codec = None if name.endswith(_HARDWARE) else av.Codec(name, "w")
            if codec and codec.type == "video":
                found.setdefault(codec.canonical_name, name)
    return found


def video_subjects() -> list[str]:
    """container-codec, of what may be written; with common codecs in every second place."""
    pairs = []
    for muxer in MUXERS:
        try:
            with av.open(io.BytesIO(), "w", format=muxer) as container:
                taken = {*container.supported_codecs, *UNLISTED.get(muxer, ())}
        except (ValueError, av.error.FFmpegError):
            continue
        pairs += [(muxer, codec) for codec in encoders() if codec in taken]
    random.Random(0).shuffle(pairs)
    return [f"{muxer}-{codec}" for muxer, codec in pairs]


def picture(number: int, width: int, height: int) -> np.ndarray:
    """A square that moves over patches: uint8 [height, width, 3]."""
    patches = np.random.default_rng(0).integers(0, 128, (height // 8, width // 8, 3), np.uint8)
    rgb = patches.repeat(8, 0).repeat(8, 1) + np.uint8(60)
    top, left = (4 + number) % (height - 16), 3 * number % (width - 16)
    square = np.arange(16)[:, None, None] * 15 + np.arange(16)[:, None] * 3 + [0, 60, 120]
    rgb[top : top + 16, left : left + 16] = square % 255
    return rgb


def make_video(subject: str, folder: Path) -> None:
    """clip.SUFFIX; OSError, ValueError or av.error.FFmpegError if FFmpeg can't write it."""
    muxer, codec = subject.split("-", 1)
    path = folder / f"clip.{MUXERS[muxer]}"
    for size in _SIZES:
        try:
            _write_video(path, muxer, encoders()[codec], *size)
            return
        except (OSError, ValueError, av.error.FFmpegError):
            path.unlink(missing_ok=True)
            if size == _SIZES[-1]:
                raise


def _write_video(path: Path, muxer: str, encoder: str, width: int, height: int) -> None:
    options = {"threads": "1", "g": "8", "strict": "-2", **_OPTIONS.get(encoder, {})}
    # Without "bitexact" some containers hold random numbers.
    with av.open(str(path), "w", format=muxer, options={"fflags": "+bitexact"}) as container:
        stream: Any = container.add_stream(encoder, rate=25, options=options)
        formats = [form.name for form in stream.codec.video_formats or ()]
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p" if "yuv420p" in formats or not formats else formats[0]
        stream.codec_context.thread_count = 1
        for number in range(NUM_FRAMES if width < 500 else NUM_FRAMES // 4):
            frame = av.VideoFrame.from_ndarray(picture(number, width, height), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


# ---------------------------------------------------------------------------------------- pictures

_PICTURES = ("yuvj420p", "yuvj422p", "yuvj444p", "rgb24", "rgba", "gray", "monob", "rgb48be")


def make_pictures(subject: str, folder: Path) -> None:
    """clip/00001.jpg or .png, and so on, in a pixel format."""
    encoder = "mjpeg" if subject.startswith("yuvj") else "png"
    (folder / "clip").mkdir()
    for number in range(12):
        context: Any = av.CodecContext.create(encoder, "w")
        context.width, context.height, context.pix_fmt = 64, 48, subject
        context.time_base = Fraction(1, 25)
        frame = av.VideoFrame.from_ndarray(picture(number, 64, 48), format="rgb24")
        packets: list[Packet] = [*context.encode(frame.reformat(format=subject))]
        packets += context.encode(None)
        suffix = "jpg" if encoder == "mjpeg" else "png"
        (folder / "clip" / f"{number + 1:05d}.{suffix}").write_bytes(b"".join(map(bytes, packets)))


# ------------------------------------------------------------------------------------- annotations

NAMES = ("Moving left", "Moving right", "Standing still")
_TEXTS: dict[str, dict[str, str]] = {  # of formats that gtdnet does not write
    "ucf101": {
        "ucfTrainTestlist/classInd.txt": "1 Archery\n2 Biking\n",
        "ucfTrainTestlist/trainlist01.txt": "Archery/v_1.avi 1\nBiking/v_2.avi 2\n",
        "ucfTrainTestlist/testlist01.txt": "Archery/v_3.avi\nBiking/v_4.avi\n",
        **{f"UCF-101/Archery/v_{i}.avi": "" for i in (1, 3)},
        **{f"UCF-101/Biking/v_{i}.avi": "" for i in (2, 4)},
    },
    "hmdb51": {
        "testTrainMulti_7030_splits/run_test_split1.txt": "a.avi 1 \nb.avi 2 \nc.avi 0 \n",
        "testTrainMulti_7030_splits/wave_test_split1.txt": "d.avi 1 \ne.avi 2 \n",
        **{f"hmdb51_org/run/{name}.avi": "" for name in "abc"},
        **{f"hmdb51_org/wave/{name}.avi": "" for name in "de"},
    },
    "jester": {
        "jester-v1-labels.csv": "Swiping Left\nStop Sign\n",
        "jester-v1-train.csv": "1;Swiping Left\n2;Stop Sign\n",
        "jester-v1-validation.csv": "3;Stop Sign\n",
        **{f"20bn-jester-v1/{i}/00001.jpg": "" for i in (1, 2, 3)},
    },
    "manifest": {
        "clips.json": json.dumps(
            {
                "gtdnet_manifest": 1,
                "class_names": list(NAMES),
                "splits": {
                    split: [
                        {"id": f"{split}{i}", "path": f"{i}.mp4", "label": i, "num_frames": 9}
                        for i in range(3)
                    ]
                    for split in ("train", "validation")
                },
            },
            indent=1,
        ),
        **{f"{i}.mp4": "" for i in range(3)},
    },
}


def annotation_subjects() -> list[str]:
    """The formats, but packed ones, which are a kind of their own."""
    return [name for name in FORMATS if isinstance(FORMATS[name], WritableFormat) or name in _TEXTS]


def make_annotations(subject: str, folder: Path) -> None:
    """A dataset in a format; its clips are empty files."""
    texts = _TEXTS.get(subject)
    if texts is None:
        form = FORMATS[subject]
        assert isinstance(form, WritableFormat)
        clips = [
            NewClip(10 * i + j, split, i, name, f"k{i}{j}", name.replace("Moving", "[Something]"))
            for j, split in enumerate(("train", "validation", "test", "train"))
            for i, name in enumerate(NAMES)
        ]
        form.write(folder, NAMES, clips, 0)
        texts = {str(form.clip_path(clip)): "" for clip in clips}
        texts = {f"{n}/00001.jpg" if not Path(n).suffix else n: text for n, text in texts.items()}
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


# ------------------------------------------------------------------ models, graphs, scores, packs


def make_model(subject: str, folder: Path) -> None:
    """A model file; bare weights as safetensors, or as PyTorch saves them."""
    torch.manual_seed(0)
    model = create_model("gtdnet_resnet18", SPEC.num_classes, SPEC.num_segments, width=0.05)
    path = folder / "model.safetensors"
    if subject == "model":
        save_model(path, model, SPEC)
    elif subject == "safetensors":
        from safetensors.torch import save_file

        save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), folder / "weights.pth")


def make_graph(subject: str, folder: Path) -> None:
    """An exported file."""
    make_model("model", folder)
    file = load_model(folder / "model.safetensors")
    header = make_header(file, "fp32", {"exported": "today"})
    if subject == "onnx":
        (folder / "model.onnx").write_bytes(_small_onnx(header))
    else:
        source = Source(file.model, file.spec)
        ENGINES[subject].save(
            source, folder / f"model{ENGINES[subject].suffixes[0]}", "fp32", header
        )
    (folder / "model.safetensors").unlink()


def _small_onnx(header: str) -> bytes:
    """A graph with the ports of an exported one; exporting a network takes 15 seconds."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(size=(SPEC.num_classes, 3, 3, 3)).astype(np.float32)
    axes = np.array([1, 3, 4], np.int64)  # all but clips [N] and channels, of [N, T, K, h, w]
    shape = np.array([-1, SPEC.num_segments, SPEC.num_classes, 16, 16], np.int64)
    folded = np.array([-1, 3, SPEC.crop_size, SPEC.crop_size], np.int64)
    constants = {"folded": folded, "weights": weights, "shape": shape, "axes": axes}
    clip = ["N", SPEC.frames_per_clip, 3, SPEC.crop_size, SPEC.crop_size]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [INPUT], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["float", "folded"], ["frames"]),
            helper.make_node("Conv", ["frames", "weights"], ["maps"], pads=[1] * 4, strides=[2, 2]),
            helper.make_node("Relu", ["maps"], ["positive"]),
            helper.make_node("Reshape", ["positive", "shape"], ["clips"]),
            helper.make_node("ReduceMean", ["clips", "axes"], [OUTPUT], keepdims=0),
        ],
        "small",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, clip)],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", SPEC.num_classes])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, ir_version=10, opset_imports=opsets)
    model.metadata_props.add(key=METADATA_KEY, value=header)
    return model.SerializeToString()


def make_scores(_: str, folder: Path) -> None:
    """scores.npz and what lies beside it."""
    scores = np.full((4, 3), 1 / 3, np.float32)
    failures = (FailedClip("e", 1, "e.mp4", "cut off"),)
    labels = np.array([0, 1, 2, -1])
    evaluation = Evaluation(SPEC.class_names, tuple("abcd"), scores, labels, failures)
    about: dict[str, Any] = {
        "protocol": {"views": "8x1x1", "split": "validation", "frames": "in-order", "spec": {}},
        "model": {"path": "m.safetensors", "name": "tsm_resnet50", "sha256": "0"},
        "data": {"path": "data", "format": "list", "classes": "identical"},
        "versions": {"gtdnet": "0"},
    }
    write_results(folder, evaluation, {**evaluation.to_dict(), **about})


def make_pack(_: str, folder: Path) -> None:
    """A packed dataset of two classes."""
    source = folder / "source"
    for split, name in (("train", "left"), ("train", "right"), ("val", "left"), ("val", "right")):
        clip = source / split / name
        clip.mkdir(parents=True)
        make_video("mp4-h264", clip)
    pack(PackOptions(str(source), str(folder / "packed"), workers=1))
    for path in sorted(source.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    source.rmdir()


KINDS: dict[str, tuple[Callable[[], list[str]], Callable[[str, Path], None]]] = {
    "videos": (video_subjects, make_video),
    "pictures": (lambda: list(_PICTURES), make_pictures),
    "annotations": (annotation_subjects, make_annotations),
    "models": (lambda: ["model", "safetensors", "pytorch"], make_model),
    "graphs": (lambda: ["onnx", "openvino"], make_graph),
    "scores": (lambda: ["scores"], make_scores),
    "packs": (lambda: ["pack"], make_pack),
}
"""Kind: the names of its subjects, and what makes one in an empty folder."""

CANNOT_WRITE = (OSError, ValueError, av.error.FFmpegError, InputError)
"""What `make` raises where the codec, container or package is missing here."""


@cache
def subjects(kind: str) -> tuple[str, ...]:
    """The names of a kind's subjects, always in the same order."""
    return tuple(KINDS[kind][0]())


def files_of(folder: Path) -> Iterator[Path]:
    """All files below a folder, in the order of their names."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
