"""What a timeline of a long video costs, part by part, beside another version of gtdnet.

    python benchmarks/predict.py --before OLD/src --output benchmarks/results/predict.yaml

OLD is a checkout of the version to compare with. The video is made here: half a minute of H.264
with moving shapes, its packets repeated until it is as long as asked for. Each part runs in a
process of its own with one thread, the versions by turns. What counts is CPU time; that of reading
(decoding every frame, nothing else) stands beside it. Memory: the most that a part takes beyond
what its process has when it begins.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from gtdnet.bench.result import envelope, save
from gtdnet.data.spec import ClipSpec
from gtdnet.measure.timing import rounded
from gtdnet.models import create_model, save_model

SECONDS = 30  # that are encoded
RATE = 30

# What is run in each version: nothing but names that both have.
PARTS = {
    "decoding alone": """
import av
with av.open(VIDEO) as container:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    for frame in container.decode(stream):
        pass
""",
    "windows": """
from gtdnet.data.spec import ClipSpec
from gtdnet.infer.timeline import read_windows
from gtdnet.models import load_model
spec = load_model(MODEL).spec
for _ in read_windows(VIDEO, spec, WINDOW, STRIDE):
    pass
""",
    "predict": """
from gtdnet.cli import main
words = ["predict", MODEL, VIDEO, "--window", str(WINDOW), "--stride", str(STRIDE), "--json"]
assert main([*words, "--engine", "torch", "--device", "cpu", "--num_workers", "0"]) == 0
""",
}

_RUN = """
import resource, torch
torch.set_num_threads(1)
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
def memory(which):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024
import gtdnet.infer.predict, gtdnet.cli
open("/proc/self/clear_refs", "w").write("5")
start, before = cpu(), memory("VmRSS")
{part}
import json, sys
print("\\n" + json.dumps([cpu() - start, memory("VmHWM") - before]))
"""


def write_video(path: Path, seconds: int, size: tuple[int, int]) -> None:
    """H.264 at 30 frames/s, ``size`` (width, height): shapes that move over a textured ground."""
    width, height = size
    rng = np.random.default_rng(0)
    ground = np.kron(rng.integers(60, 200, (height // 8, width // 8, 3)), np.ones((8, 8, 1)))
    with (
        tempfile.TemporaryDirectory() as folder,
        av.open(f"{folder}/part.mp4", "w") as container,
    ):
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = 5 * RATE
        for i in range(SECONDS * RATE):
            picture = np.roll(ground, i, axis=1).astype(np.uint8)
            y, x = (int((0.5 + 0.4 * np.sin(i / n)) * s) for n, s in ((23, height), (31, width)))
            picture[max(0, y - 40) : y + 40, max(0, x - 40) : x + 40] = (220, 40, i % 200)
            noise = rng.integers(-4, 5, (height, width, 1))
            picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
        container.close()
        _repeat(Path(folder, "part.mp4"), path, -(-seconds // SECONDS))


def _repeat(part: Path, path: Path, times: int) -> None:
    """The packets of a video again and again, their times moved on."""
    with av.open(str(part)) as source, av.open(str(path), "w") as target:
        given = source.streams.video[0]
        stream = target.add_stream_from_template(given)
        packets = [p for p in source.demux(given) if p.size]
        data = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets]
        length = Fraction(SECONDS) / Fraction(given.time_base)  # pyright: ignore[reportArgumentType]
        for i in range(times):
            for content, pts, dts, is_key in data:
                packet = av.Packet(content)
                packet.stream, packet.time_base = stream, given.time_base
                packet.pts, packet.dts = (int(t + i * length) for t in (pts, dts))
                packet.is_keyframe = is_key
                target.mux(packet)


def measure(source: Path, part: str, values: dict[str, Any]) -> tuple[float, float]:
    """CPU seconds and MiB beyond the imports of one part in a process of its own."""
    names = "\n".join(f"{key} = {value!r}" for key, value in values.items())
    program = _RUN.format(part=names + PARTS[part])
    environment = {**os.environ, "PYTHONPATH": str(source.resolve()), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{part} failed in {source}: {done.stderr.strip().splitlines()[-1]}")
    cpu, peak = json.loads(done.stdout.splitlines()[-1])
    return cpu, peak


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="src of the other version")
    parser.add_argument("--minutes", type=float, default=10, help="length of the video")
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 720), help="width and height")
    parser.add_argument("--window", type=float, default=2.0, help="seconds")
    parser.add_argument("--stride", type=float, default=2.0, help="seconds")
    parser.add_argument("--rounds", type=int, default=3, help="by turns; the medians are kept")
    parser.add_argument("--output", default=None, help="YAML file to write")
    args = parser.parse_args(arguments)
    sources = {"before": args.before, "now": Path(__file__).resolve().parents[1] / "src"}
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        video, model = Path(folder, "long.mp4"), Path(folder, "model.safetensors")
        write_video(video, round(60 * args.minutes), tuple(args.size))
        spec = ClipSpec(tuple(map(str, range(21))), num_segments=8, short_side=128, crop_size=112)
        save_model(model, create_model("gtdnet_resnet18", 21, 8, width=0.25), spec)
        values = {"VIDEO": str(video), "MODEL": str(model)}
        values |= {"WINDOW": args.window, "STRIDE": args.stride}
        for _ in range(args.rounds):
            for part in PARTS:
                for name, source in sources.items():
                    row = found.setdefault(part, {}).setdefault(name, [])
                    row.append(measure(source, part, values))
                    print(f"{part}, {name}: {row[-1][0]:.1f} CPU seconds", file=sys.stderr)
    result = {
        **envelope(
            "predict",
            "A timeline of a long video",
            "python benchmarks/predict.py --before OLD/src "
            f"--minutes {args.minutes:g} --size {args.size[0]} {args.size[1]}",
            torch.device("cpu"),
            ("av",),
        ),
        "video": f"{args.minutes:g} minutes of H.264, {args.size[0]}x{args.size[1]}, {RATE}/s",
        "windows": f"{args.window:g} s every {args.stride:g} s",
        "spec": spec.describe(),
        "model": "gtdnet_resnet18, width 0.25, one thread",
        "before": _version(args.before),
        "rounds": args.rounds,
        "parts": {part: _row(rows) for part, rows in found.items()},
    }
    save(result, args.output)
    print(json.dumps(result["parts"], indent=2))
    return 0


def _version(source: Path) -> str:
    """Commit and day of a checkout's source."""
    words = ["git", "-C", str(source), "log", "-1", "--format=%h of %cs"]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip() or "not in git"


def _row(rows: dict[str, list[tuple[float, float]]]) -> dict[str, float | None]:
    cpu = {name: float(np.median([row[0] for row in rows[name]])) for name in rows}
    peak = {name: float(np.median([row[1] for row in rows[name]])) for name in rows}
    ratios = [b[0] / n[0] for b, n in zip(rows["before"], rows["now"], strict=True)]
    return {
        "before_cpu_seconds": rounded(cpu["before"]),
        "now_cpu_seconds": rounded(cpu["now"]),
        "before_over_now": rounded(float(np.median(ratios))),
        "before_mib": rounded(peak["before"]),
        "now_mib": rounded(peak["now"]),
    }


if __name__ == "__main__":
    sys.exit(main())
