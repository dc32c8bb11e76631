"""What benchmarks/ablation.yaml is run on: clips to learn actions from, and weights to start at.

    python benchmarks/ablation_data.py
    gtdnet ablate benchmarks/ablation.yaml

The published networks start from ImageNet: weights that know pictures and no motion. Here a plain
2D network (TSN, one frame) learns the colour and shape of what moves, in clips of another seed, so
that no variant begins with features that were made for a neighbour's temporal modules. Everything
goes to data/ablation/; what is there already is not made again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path("data/ablation")
TRAIN_CLIPS, VALIDATION_CLIPS = 4000, 1100  # of 22 actions
STILL_CLIPS, STILL_EPOCHS = 4000, 6
CLIP_SEED, STILL_SEED = 0, 1
SIZE = 104  # shorter side in pixels, of which 96 are seen


def run(*words: str) -> None:
    """One gtdnet command; its failure ends everything."""
    print("gtdnet", *words, flush=True)
    subprocess.run([sys.executable, "-m", "gtdnet", *words], check=True)


def synth(root: Path, format: str, train: int, validation: int, seed: int) -> None:
    run(
        "synth", str(root), "--edition", "full", "--format", format, "--size", str(SIZE),
        "--seed", str(seed), "--train", str(train), "--validation", str(validation),
    )  # fmt: skip


def write_lists(clips: Path, lists: Path) -> None:
    """Lists of clips that show one thing, labelled by its colour and shape ("red ball")."""
    lists.mkdir(parents=True, exist_ok=True)
    videos = Path("..", clips.name, "20bn-something-something-v2")  # as seen from the lists
    names: set[str] = set()
    for split in ("train", "validation"):
        lines = []
        for item in json.loads((clips / "labels" / f"{split}.json").read_text(encoding="utf-8")):
            if len(item["placeholders"]) == 1:
                name = item["placeholders"][0].partition(" ")[2]  # without "a" or "an"
                names.add(name)
                lines.append(f"{videos / item['id']}.webm {name}\n")
        (lists / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
    text = "".join(f"{name}\n" for name in sorted(names))
    (lists / "classes.txt").write_text(text, encoding="utf-8")


def main() -> None:
    """Make what is not there yet."""
    synth(ROOT / "clips", "folder", TRAIN_CLIPS, VALIDATION_CLIPS, CLIP_SEED)
    # This format tells what each clip shows.
    synth(ROOT / "still_clips", "something-v2", STILL_CLIPS, 440, STILL_SEED)
    write_lists(ROOT / "still_clips", ROOT / "stills")
    start = ROOT / "start"
    if (start / "model.safetensors").is_file():
        return
    if (start / "last.ckpt").is_file():
        run("train", "--resume", str(start))
        return
    run(
        "train", "--recipe", "synth_full", "--data", str(ROOT / "stills"), "--output", str(ROOT),
        "--name", start.name, "--model", "tsn_resnet18", "--num_segments", "1",
        "--short_side", str(SIZE), "--crop_size", "96", "--epochs", str(STILL_EPOCHS),
        "--batch_size", "32", "--dropout", "0.2",
    )  # fmt: skip


if __name__ == "__main__":
    main()
