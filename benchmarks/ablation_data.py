"""What benchmarks/ablation.yaml is run on: clips to learn actions from, and weights to start at.

    python benchmarks/ablation_data.py
    gtdnet ablate benchmarks/ablation.yaml

The published networks start from ImageNet: weights that know pictures and no motion. Here a plain
2D network (TSN, one frame) learns where a thing is and how large, from stills of other clips, so
that no variant begins with features that were made for a neighbour's temporal modules. Everything
goes to data/ablation/; what is there already is not made again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from gtdnet.data.synthetic import class_names, compose, render

ROOT = Path("data/ablation")
TRAIN_CLIPS, VALIDATION_CLIPS = 4400, 1100  # 200 and 50 of each action
STILLS = {"train": 6000, "validation": 540}
STILL_EPOCHS = 8
CLIP_SEED, STILL_SEED = 0, 1
HEIGHT, WIDTH, CROP = 72, 96, 64  # in pixels; the crop is what networks see
SMALL, LARGE = 0.11, 0.16  # a thing's radius in shorter sides


def run(*words: str) -> None:
    """One gtdnet command; its failure ends everything."""
    print("gtdnet", *words, flush=True)
    subprocess.run([sys.executable, "-m", "gtdnet", *words], check=True)


def write_still(root: Path, split: str, number: int) -> None:
    """One frame of a clip with one thing, in the folder that tells where it is and how large.

    The picture is a clip of one frame: a folder with one numbered picture.
    """
    names = class_names("full")
    single = [i for i, name in enumerate(names) if name.lower().count("something") == 1]
    index = number if split == "train" else STILLS["train"] + number
    scene = compose("full", single[number % len(single)], STILL_SEED, index)
    rng = np.random.default_rng((STILL_SEED, index))
    t = int(rng.integers(len(scene.brightness)))
    frame = slice(t, t + 1)
    things = tuple(
        replace(
            thing,
            x=thing.x[frame],
            y=thing.y[frame],
            angle=thing.angle[frame],
            scale=thing.scale[frame],
            depth=thing.depth[frame],
        )
        for thing in scene.things
    )
    still = replace(
        scene, things=things, shake=scene.shake[frame], brightness=scene.brightness[frame]
    )
    thing = things[0]
    x = float(thing.x[0]) - (WIDTH / HEIGHT - 1) / 2  # in the square in the middle, where crops are
    y, radius = float(thing.y[0]), thing.extent * float(thing.scale[0])
    column = "left" if x < 1 / 3 else "middle" if x < 2 / 3 else "right"
    row = "top" if y < 1 / 3 else "centre" if y < 2 / 3 else "bottom"
    size = "small" if radius < SMALL else "medium" if radius < LARGE else "large"
    folder = root / split / f"{column} {row} {size}" / f"{number:06d}"
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(render(still, HEIGHT, WIDTH)[0]).save(folder / "000001.jpg", quality=90)


def write_stills(root: Path) -> None:
    """All of them; again if it was interrupted."""
    done = root / "done"
    if done.is_file():
        return
    jobs = [(root, split, i) for split, count in STILLS.items() for i in range(count)]
    print(f"{len(jobs)} stills: {root}", flush=True)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write_still, *zip(*jobs, strict=True), chunksize=64))
    done.touch()


def main() -> None:
    """Make what is not there yet."""
    run(
        "synth", str(ROOT / "clips"), "--edition", "full", "--format", "folder",
        "--size", str(HEIGHT), "--seed", str(CLIP_SEED),
        "--train", str(TRAIN_CLIPS), "--validation", str(VALIDATION_CLIPS),
    )  # fmt: skip
    write_stills(ROOT / "stills")
    start = ROOT / "start"
    if (start / "model.safetensors").is_file():
        return
    if (start / "last.ckpt").is_file():
        run("train", "--resume", str(start))
        return
    run(
        "train", "--recipe", "synth_full", "--data", str(ROOT / "stills"), "--output", str(ROOT),
        "--name", start.name, "--model", "tsn_resnet18", "--num_segments", "1",
        "--short_side", str(HEIGHT), "--crop_size", str(CROP), "--epochs", str(STILL_EPOCHS),
        "--batch_size", "32", "--dropout", "0.2",
    )  # fmt: skip


if __name__ == "__main__":
    main()
