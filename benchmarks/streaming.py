"""What one frame of a stream costs, GTDNet beside the plain per-frame network.

    python benchmarks/streaming.py --output benchmarks/results/streaming.yaml

Causal GTDNet, and TSN, whose frames do not see each other (the floor: the 2D network alone, with
the same classifier), of each backbone, are exported as streams and run one frame after another on
one thread, by turns in one run, at 224x224. Weights are random: the time does not depend on them.
Then what a frame costs from the file on: decoding a 640x480 H.264 video, resizing, cropping,
the network.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from gtdnet.bench.result import envelope, save
from gtdnet.data.decode import ClipReader
from gtdnet.data.spec import ClipSpec
from gtdnet.engines.header import make_header
from gtdnet.errors import InputError
from gtdnet.export.agreement import Reference
from gtdnet.export.clips import built_in_clips
from gtdnet.export.stream import write_stream
from gtdnet.infer.draw import VideoWriter
from gtdnet.infer.streaming import StreamingRecognizer
from gtdnet.measure.machine import LoadWatch
from gtdnet.measure.timing import compared, interleave, times, turns_of
from gtdnet.models.build import create_model, spec_values
from gtdnet.models.model_file import load_model, save_model
from gtdnet.text import say

BACKBONES = ("resnet18", "resnet50", "efficientnet_lite0")
ENGINES = ("onnx fp32", "openvino fp32", "openvino bf16", "openvino int8")
CLASSES = 21
_WAVES = ((1, 2, 9), (2, 1, 7), (1, 1, 5))
_FILES = {
    "onnx fp32": "stream.onnx",
    "openvino fp32": "stream.xml",
    "openvino bf16": "stream.xml",
    "openvino int8": "int8/stream.xml",
}

Case = tuple[str, str]
"""Model, and engine with precision."""


def write(name: str, folder: Path, engines: Sequence[str]) -> Path:
    """The exported streams of a model with random weights, as each engine needs it."""
    torch.manual_seed(0)
    options: dict[str, Any] = {} if name.startswith("tsn") else {"causal": True}
    model = create_model(name, CLASSES, 8, **options)
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.momentum = None  # the mean of all batches: else random features grow block by block
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(2, 8, 3, 224, 224))
    model.eval()
    names = tuple(f"class {number}" for number in range(CLASSES))
    spec = ClipSpec(class_names=names, **spec_values(name))
    path = save_model(folder / f"{name}.safetensors", model, spec)
    model_file, clips = load_model(str(path)), built_in_clips(spec)[:6]
    # Fewer clips than gtdnet export compares: the speed is what is asked here.
    reference = Reference.of(model_file, clips[:4])
    for engine in dict.fromkeys(engines):
        runtime, precision = engine.split()
        written = folder / name / _FILES[engine]
        if not written.exists():
            written.parent.mkdir(parents=True, exist_ok=True)
            kept = "int8" if precision == "int8" else "fp32"
            header = make_header(model_file, kept, {}, stream=True)
            shown = clips[4:] if kept == "int8" else None
            write_stream(runtime, written, reference, header, shown)
    return folder / name


def stepping(stream: StreamingRecognizer, picture: torch.Tensor) -> Callable[[], object]:
    """A call that shows the stream one more frame, prepared already."""
    return lambda: stream.scores_of(picture)


def whole(stream: StreamingRecognizer, video: Path) -> Callable[[], object]:
    """A call that decodes the next frame of a video that never ends, and shows it."""

    def frames() -> Iterator[np.ndarray]:
        while True:
            yield from (rgb for _, rgb in ClipReader(str(video)).frames())

    following = frames()
    return lambda: stream.scores(next(following))


def write_video(path: Path) -> Path:
    """Ten seconds of 640x480 at 30 frames/s: smooth shapes that move, and a little noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:480, 0:640] / 60
    writer = VideoWriter(path)
    for number in range(300):
        waves = [
            np.sin(x * a + y * b + number / c) for a, b, c in ((1, 2, 9), (2, 1, 7), (1, 1, 5))
        ]
        picture = np.stack(waves, axis=-1) * 90 + 128 + rng.normal(0, 3, (480, 640, 3))
        writer.write(picture.clip(0, 255).astype(np.uint8), number / 30, (number + 1) / 30)
    writer.close()
    return path


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The result, JSON-ready; saved after each backbone, so that ending it early loses nothing."""
    torch.set_num_threads(1)
    cpu, picture = torch.device("cpu"), torch.randint(0, 256, (1, 3, 224, 224)).byte()
    words = " ".join(["python benchmarks/streaming.py", *sys.argv[1:]]).split(" --output")[0]
    result = envelope("stream", "A frame of a stream", words, cpu, ["onnxruntime", "openvino"])
    del result["bench"]  # a bench of no kind that gtdnet bench has
    rows: dict[str, dict[str, Any]] = {}
    with TemporaryDirectory() as folder:
        video = write_video(Path(folder, "video.mp4"))
        watch = LoadWatch()
        for backbone in args.backbones:
            turns: dict[Case, Any] = {}
            models = [f"{method}_{backbone}" for method in ("gtdnet", "tsn")]
            for name in models:
                written = write(name, Path(folder), args.engines)
                for engine in args.engines:
                    file = written / _FILES[engine]
                    stream = StreamingRecognizer(file, device="cpu", precision=engine.split()[1])
                    turns[name, engine] = turns_of(stepping(stream, picture), cpu, 1)
                    if name == models[0]:
                        turns[f"{name} and decoding", engine] = turns_of(
                            whole(stream, video), cpu, 1
                        )
            say(f"{backbone}: {len(turns)} cases")
            rounds = interleave(turns, args.seconds)
            for engine, name in product(args.engines, models[:1]):
                floor, both = (models[1], engine), (f"{name} and decoding", engine)
                rows[f"{name}, {engine}"] = {
                    "cpu_ms": times(rounds, (name, engine), 1)["cpu_ms"],
                    "floor_cpu_ms": times(rounds, floor, 1)["cpu_ms"],
                    "vs_floor": compared(rounds, (name, engine), floor, "cpu"),
                    "cpu_ms_with_decoding": times(rounds, both, 1)["cpu_ms"],
                    "frames_per_cpu_second": times(rounds, both, 1)["clips_per_cpu_second"],
                    "rounds": len(rounds),
                }
            result |= {"load": watch.to_dict(), "threads": 1, "frames": rows}
            save(result, args.output)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--engines", nargs="+", default=ENGINES, choices=ENGINES)
    parser.add_argument("--seconds", type=float, default=60, help="for each backbone")
    parser.add_argument("--output", help="file of the result (*.yaml)")
    args = parser.parse_args(arguments)
    try:
        result = measure(args)
    except InputError as error:
        print(f"benchmarks/streaming.py: {error}", file=sys.stderr)
        return 2
    for name, row in result["frames"].items():
        print(name, row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
