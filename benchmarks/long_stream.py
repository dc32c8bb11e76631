"""A stream of 100,000 frames: is it still where its last frames alone lead, and what is its memory?

    python benchmarks/long_stream.py --engine onnx --output benchmarks/results/long_stream.yaml

A small causal GTDNet of random weights, whose answers depend on what it remembers, is run frame by
frame on pictures of noise. At points drawn at random, and at the end, the model sees the last
frames as one clip: as many as can have an influence on the newest (number of blocks x T, and that
one itself). The logits of that, in PyTorch, must be the stream's, whether PyTorch runs it or, in a
tenth of the time, ONNX Runtime what ``gtdnet export --stream`` makes of it.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gtdnet import ClipSpec, StreamingRecognizer, create_model
from gtdnet.bench.result import envelope, save
from gtdnet.data.transforms import normalise
from gtdnet.export import ExportOptions, export
from gtdnet.measure.memory import process_mib
from gtdnet.measure.timing import rounded
from gtdnet.models import ModelFile, save_model
from gtdnet.nn import set_num_segments
from gtdnet.text import progress_bar

BLOCKS, SEGMENTS, SIZE = 8, 4, 32
REACH = BLOCKS * SEGMENTS + 1
SPEC = ClipSpec(tuple("abcde"), SEGMENTS, short_side=SIZE, crop_size=SIZE)
EVERY = 1000
"""Frames between two looks at the memory."""


def make_model() -> ModelFile:
    """Of ResNet-18's blocks, with few channels."""
    torch.manual_seed(0)
    model = create_model("gtdnet_resnet18", 5, SEGMENTS, width=0.0625, causal=True, fold_div=2)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if "temporal" in name or name.startswith("classifier"):
                value.normal_(std=0.5)
    return ModelFile(model.eval(), SPEC)


def picture(number: int) -> np.ndarray:
    """Frame ``number`` of the stream, a colour of its own under noise: uint8 [SIZE, SIZE, 3]."""
    rng = np.random.default_rng([0, number])
    noise = rng.integers(0, 56, (SIZE, SIZE, 3))
    return (rng.integers(0, 200, 3) + noise).astype(np.uint8)


@torch.inference_mode()
def of_the_last(file: ModelFile, number: int) -> Tensor:
    """Logits [K] of a frame by the model that sees as one clip what the frame can depend on."""
    frames = np.stack([picture(i) for i in range(max(0, number + 1 - REACH), number + 1)])
    network = copy.deepcopy(file.model)
    set_num_segments(network, len(frames))
    clip = torch.from_numpy(frames).permute(0, 3, 1, 2)[None]
    return network.forward_frames(normalise(clip, SPEC))[0, -1]


def open_stream(file: ModelFile, engine: str) -> StreamingRecognizer:
    """What runs the stream."""
    if engine == "torch":
        return StreamingRecognizer(file, device="cpu")
    with TemporaryDirectory() as folder:
        path, output = save_model(Path(folder, "a.safetensors"), file.model, SPEC), f"{folder}/out"
        export(ExportOptions(str(path), output, formats=engine, stream=True))
        return StreamingRecognizer(output, device="cpu")


def measure(frames: int, points: int, engine: str = "torch") -> dict[str, Any]:
    """The result, JSON-ready."""
    torch.set_num_threads(1)
    command = (
        f"python benchmarks/long_stream.py --frames {frames} --points {points} --engine {engine}"
    )
    result = envelope("stream", "A long stream", command, torch.device("cpu"))
    del result["bench"]  # a bench of no kind that gtdnet bench has
    file = make_model()
    stream = open_stream(file, engine)
    chosen = {*np.random.default_rng(1).choice(frames, points, replace=False).tolist(), frames - 1}
    state, found, memory = stream.start(), {}, {}
    began = time.process_time()
    with progress_bar("frames", frames) as advance:
        for number in range(frames):
            logits, state = stream.step(picture(number), state)
            if number in chosen:
                found[number] = logits[0]
            if (number + 1) % EVERY == 0:
                memory[number + 1] = process_mib()
                advance(EVERY)
    seconds = time.process_time() - began
    wanted = torch.stack([of_the_last(file, number) for number in found])
    difference = (torch.stack([*found.values()]) - wanted).abs().amax(dim=1)
    spread = float(wanted.std())
    settled = [mib for number, mib in memory.items() if number > frames // 10]
    return result | {
        "engine": engine,
        "frames": frames,
        "compared": len(found),
        "frames_seen_for_each": REACH,
        "largest_difference": float(f"{difference.max() / spread:.3g}"),
        "of_the_last_frame": float(f"{difference[-1] / spread:.3g}"),
        "difference_in": "units of the logits' spread",
        "state_bytes": sum(t.nbytes for t in state),
        "resident_mib_after_a_tenth": rounded(settled[0], 5) if settled else None,
        "resident_mib_at_the_end": rounded(settled[-1], 5) if settled else None,
        "resident_mib_most_since": rounded(max(settled), 5) if settled else None,
        "cpu_ms_a_frame": rounded(1e3 * seconds / frames, 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", help="YAML file for the result")
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--engine", choices=("torch", "onnx", "openvino"), default="torch")
    args = parser.parse_args()
    result = measure(args.frames, args.points, args.engine)
    save(result, args.output)
    print({name: value for name, value in result.items() if name not in ("versions", "machine")})
    return 0 if result["largest_difference"] <= 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
