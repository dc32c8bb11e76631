"""Whether a version is slower than another: the same work in both by turns, in CPU time.

    git worktree add ../before 060c8b3
    python benchmarks/two_versions.py --before ../before/src --videos VIDEOS --output speed.yaml

VIDEOS is any folder of videos. Each version is a process of its own with one thread; a round lets
each do each piece of work once, in an order that changes from round to round. What is reported is
the median over the rounds of the ratio after/before, and the middle half of the ratios. The work
uses names that both versions have: pieces that neither version changed show how noisy it was.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

WORKER = "--worker"
HERE = Path(__file__).resolve()


def work_of(videos: Path) -> dict[str, Callable[[], object]]:
    """By name, a piece of work of a second or less."""
    import warnings

    warnings.simplefilter("ignore")  # moved names say so
    import numpy as np
    import torch

    from gtdnet import create_model
    from gtdnet.data.dataset import Augmentation, TrainClips, collate
    from gtdnet.data.decode import read_frames
    from gtdnet.data.spec import ClipSpec

    # Where the version before has it; later ones know the name still.
    read_annotations = import_module("gtdnet.data.annotations").read_annotations
    torch.set_num_threads(1)
    works: dict[str, Callable[[], object]] = {}
    for file in sorted(videos.iterdir()):
        works[f"8 frames of {file.name}"] = lambda file=file: read_frames(
            file, lambda count: np.arange(8) * count // 8
        )
    folder = videos.parent / "frames"
    works["8 of a folder's JPEGs, 40 times"] = lambda: [
        read_frames(folder, lambda count: np.arange(8) * count // 8) for _ in range(40)
    ]
    records = read_annotations(videos.parent, "train", "list").records
    clips = TrainClips(records, ClipSpec(class_names=("a",)), Augmentation(), 0)
    works["training clips, read, cut and put together"] = lambda: collate(
        [clips[(1, index)] for index in range(len(clips))]
    )

    def steps(name: str) -> Callable[[], object]:
        torch.manual_seed(0)
        model = create_model(name, num_classes=10, num_segments=8)
        model.train()
        sgd = torch.optim.SGD(model.parameters(), lr=1e-3)
        x, y = torch.rand(2, 8, 3, 112, 112), torch.tensor([0, 1])

        def step() -> None:
            sgd.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            sgd.step()

        return step

    for name in ("gtdnet_resnet18", "gtdnet_resnet50", "tsm_resnet18"):
        works[f"a training step of {name}"] = steps(name)
    model = create_model("gtdnet_resnet18", num_classes=10, num_segments=8).eval()
    x = torch.rand(1, 8, 3, 224, 224)

    def infer() -> None:
        with torch.inference_mode():
            model(x)

    works["a clip through gtdnet_resnet18"] = infer
    return works


def worker(videos: Path) -> None:
    """Do what stdin names, a line each, and say its CPU seconds on stdout."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    works = work_of(videos)
    for call in works.values():
        call()
    print(json.dumps(list(works)), file=answers, flush=True)
    for line in sys.stdin:
        call, start = works[line.rstrip("\n")], time.process_time()
        call()
        print(time.process_time() - start, file=answers, flush=True)


def compare(before: Path, after: Path, videos: Path, seconds: float) -> dict[str, Any]:
    """The ratios after/before of each piece of work, over as many rounds as the seconds allow."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    processes = {
        name: subprocess.Popen(
            [sys.executable, str(HERE), WORKER, str(videos)],
            env={**environment, "PYTHONPATH": str(source)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, source in (("before", before), ("after", after))
    }

    def told(name: str) -> Any:
        out = processes[name].stdout
        assert out is not None
        return json.loads(out.readline())

    both = [told(name) for name in processes]
    names: list[str] = both[0]
    order, start, rounds = random.Random(0), time.monotonic(), 0
    ratios: dict[str, list[float]] = {name: [] for name in names}
    spent: dict[str, list[float]] = {name: [] for name in names}
    while time.monotonic() - start < seconds:
        rounds += 1
        for name in names:
            found = {}
            for version in order.sample(sorted(processes), 2):
                stdin = processes[version].stdin
                assert stdin is not None
                stdin.write(f"{name}\n")
                stdin.flush()
                found[version] = told(version)
            ratios[name].append(found["after"] / found["before"])
            spent[name].append(found["after"])
        print(f"\rround {rounds}", end="", file=sys.stderr)
    for process in processes.values():
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
    cases = []
    for name in names:
        low, middle, high = statistics.quantiles(ratios[name], n=4)
        ms = 1e3 * statistics.median(spent[name])
        figures = {"ratio": middle, "from": low, "to": high}
        cases.append(
            {"work": name, "cpu_ms": round(ms, 1), **{k: round(v, 3) for k, v in figures.items()}}
        )
    return {"rounds": rounds, "work": cases}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="src folder of the one before")
    parser.add_argument("--videos", type=Path, required=True, help="folder of videos")
    parser.add_argument("--names", nargs="+", help="files of it; default: all")
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--output", type=Path, required=True, help="YAML file to write")
    args = parser.parse_args(arguments)
    import tempfile

    import av

    from gtdnet.bench.result import envelope, save
    from gtdnet.device import resolve_device

    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary)
        videos, frames = data / "videos", data / "frames"
        videos.mkdir()
        frames.mkdir()
        names = args.names or sorted(file.name for file in args.videos.iterdir())
        for name in names:
            (videos / name).symlink_to((args.videos / name).resolve())
        (data / "train.txt").write_text("".join(f"videos/{name} 0\n" for name in names))
        with av.open(str(videos / names[0])) as container:
            for index, frame in zip(range(60), container.decode(video=0), strict=False):
                frame.to_image().save(frames / f"{index:05d}.jpg", quality=90)
        found = compare(args.before.resolve(), HERE.parent.parent / "src", videos, args.seconds)
    line = "python benchmarks/two_versions.py --before ../before/src --videos VIDEOS --names "
    about = envelope(
        "versions",
        "What a version costs beside the one before (CPU time, after / before)",
        line + " ".join(names),
        resolve_device("cpu"),
        ("av",),
    )
    about.pop("bench")  # no bench of gtdnet's own
    save({**about, **found}, args.output)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == [WORKER]:
        worker(Path(sys.argv[2]))
    else:
        sys.exit(main())
