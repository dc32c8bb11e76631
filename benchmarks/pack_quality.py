"""What `gtdnet pack` costs in room and in pictures, by the quality of its JPEG files.

    gtdnet synth data/quality --format folder --train 40 --validation 0 --size 256
    python benchmarks/pack_quality.py data/quality

Of each dataset one split is packed with several qualities, and every frame is compared with the
original one, reduced to the same short side: what differs is the JPEG compression alone. With
--model, where its classes are the dataset's, also the first answers for packed and original clips
are compared.

Results go to benchmarks/results/pack_quality.yaml.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import gtdnet
from gtdnet.data.decode import iter_frames
from gtdnet.data.formats import VideoRecord, list_splits, read_annotations
from gtdnet.data.pack.write import PackOptions, pack
from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import resize_short_side
from gtdnet.errors import InputError
from gtdnet.files import write_text
from gtdnet.measure.machine import describe_machine
from gtdnet.measure.provenance import versions
from gtdnet.text import say

RESULTS = Path(__file__).parent / "results" / "pack_quality.yaml"
Pairs = list[tuple[VideoRecord, VideoRecord]]


def measure(
    data: Path, split: str, quality: int, short_side: int, recognizer: gtdnet.Recognizer | None
) -> dict[str, Any]:
    """One row: the split packed with one quality."""
    with tempfile.TemporaryDirectory() as folder:
        options = PackOptions(str(data), f"{folder}/packed", splits=split)
        options.quality, options.short_side = quality, short_side
        result = pack(options)
        if result["failed"]:
            first = result["failed"][0]
            raise InputError(f"{first['path']}: {first['reason']}; give whole clips alone")
        found = read_annotations(data, split, allow_missing=True)
        originals = found.records
        pairs = list(
            zip(originals, read_annotations(folder + "/packed", split).records, strict=True)
        )
        squared, absolute, values = differences(pairs, short_side)
        row: dict[str, Any] = {
            "data": shown(data),
            "clips": result["clips"],
            "quality": quality,
            "kB_per_clip": round(result["bytes"] / result["clips"] / 1e3),
            "kB_per_frame": round(result["bytes"] / result["frames"] / 1e3, 1),
            "times_originals": round(result["bytes"] / sum(size(clip) for clip in originals), 1),
            "mean_difference": round(absolute / values, 2),
            "psnr_db": round(20 * math.log10(255) - 10 * math.log10(squared / values), 1),
        }
        if recognizer and set(found.class_names) <= set(recognizer.spec.class_names):
            same = [answer(recognizer, a) == answer(recognizer, b) for a, b in pairs]
            row["same_top1_percent"] = round(100 * sum(same) / len(same), 1)
        return row


def differences(pairs: Pairs, short_side: int) -> tuple[float, float, int]:
    """Of all frames: sums of squared and of absolute differences, and the number of values."""
    squared, absolute, values = 0.0, 0.0, 0
    for original, packed in pairs:
        for a, b in zip_longest(iter_frames(original.path), iter_frames(packed.path)):
            difference = reduced(a, short_side).astype(np.int32) - b
            squared += float((difference**2).sum())
            absolute += float(np.abs(difference).sum())
            values += difference.size
    return squared, absolute, values


def reduced(frame: np.ndarray, short_side: int) -> np.ndarray:
    """The frame [H, W, 3] as it is packed, but for the compression."""
    if min(frame.shape[:2]) <= short_side:
        return frame
    spec = ClipSpec(("any",), short_side=short_side, crop_size=short_side)
    picture = torch.from_numpy(frame).permute(2, 0, 1)[None]
    return resize_short_side(picture, spec)[0].permute(1, 2, 0).numpy()


def size(clip: VideoRecord) -> int:
    """Bytes of a video, or of the pictures of a clip."""
    path = Path(clip.path)
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def answer(recognizer: gtdnet.Recognizer, clip: VideoRecord) -> int:
    return recognizer.predict(clip.path, topk=1)[0].label


def shown(path: Path) -> str:
    """A path as it is below the working folder, or else its last two parts."""
    path, here = path.resolve(), Path.cwd()
    inside = path.relative_to(here) if path.is_relative_to(here) else Path(*path.parts[-2:])
    return inside.as_posix()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+", help="datasets as gtdnet pack takes them")
    parser.add_argument("--split", help="default: the first that there is")
    parser.add_argument("--qualities", type=int, nargs="+", default=[75, 85, 90, 95])
    parser.add_argument(
        "--short_side", type=int, default=256, help="of the packed pictures, pixels"
    )
    parser.add_argument("--model", type=Path, help="model file whose answers are compared")
    parser.add_argument("--results", type=Path, default=RESULTS, help="YAML file; written anew")
    args = parser.parse_args(arguments)
    words = ["python benchmarks/pack_quality.py", *map(shown, args.data)]
    for name, value in vars(args).items():
        if name != "data" and value != parser.get_default(name):
            values = value if isinstance(value, list) else [value]
            words += [f"--{name}", *(shown(v) if isinstance(v, Path) else str(v) for v in values)]
    rows = []
    try:
        recognizer = gtdnet.load(args.model, device="cpu") if args.model else None
        for data in args.data:
            split = args.split or list_splits(data)[0]
            for quality in args.qualities:
                rows.append(measure(data, split, quality, args.short_side, recognizer))
                say(f"{data}, quality {quality}: {rows[-1]['psnr_db']} dB")
        result = {
            "title": "What packing costs, by the quality of the pictures",
            "command": " ".join(words),
            "date": date.today().isoformat(),
            "machine": describe_machine(torch.device("cpu")),
            "versions": versions(["pillow", "av"]),
            "short_side": args.short_side,
            "packed": rows,
        }
        text = yaml.safe_dump(result, sort_keys=False, width=100)
        write_text(args.results, text)
    except InputError as error:
        print(f"benchmarks/pack_quality.py: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
