"""What installing takes: minutes, megabytes, and the packages that are largest.

    python benchmarks/install.py --output benchmarks/results/install.yaml

Makes a new virtual environment twice, as README says for users (the package and what it needs) and
as ``make install`` does (requirements.lock), with what the pip of this machine is set up to take: a
CPU build of PyTorch counts as such by its version. Sizes are what files occupy on the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WAYS = {
    "pip install torch==VERSION, pip install .": (("torch==",), (".",)),
    "make install": (("-r", "requirements.lock"), ("--no-deps", ".")),
}
_LIST = (
    "import json; from importlib.metadata import distributions as all; "
    "print(json.dumps({d.metadata['Name']: [str(d.locate_file(f)) for f in d.files or ()] "
    "for d in all()}))"
)


def mebibytes(paths: list[Path]) -> float:
    """What files occupy; a link counts as itself, a file that is not there nothing."""
    found = (path.lstat() for path in paths if os.path.lexists(path))
    return sum(512 * stat.st_blocks for stat in found) / 2**20


def measure(steps: tuple[tuple[str, ...], ...], torch: str, folder: Path) -> dict[str, Any]:
    """Install in a new environment in a folder, and what that took."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    for words in steps:
        given = [f"torch=={torch}" if word == "torch==" else word for word in words]
        pip = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir", *given]
        subprocess.run(pip, cwd=ROOT, check=True)
    minutes = (time.perf_counter() - start) / 60
    listed = subprocess.run([python, "-c", _LIST], capture_output=True, text=True, check=True)
    packages = {name: [Path(f) for f in files] for name, files in json.loads(listed.stdout).items()}
    sizes = Counter({name: mebibytes(files) for name, files in packages.items()})
    version = [python, "-c", "import torch; print(torch.__version__)"]
    done = subprocess.run(version, capture_output=True, text=True, check=True)
    return {
        "minutes": round(minutes, 1),
        "mebibytes": round(mebibytes([*folder.rglob("*")])),
        "packages": len(packages),
        "torch": done.stdout.strip(),
        "largest_mebibytes": {name: round(size) for name, size in sizes.most_common(8)},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", help="YAML file for the result")
    args = parser.parse_args()
    import torch

    from gtdnet.bench.result import envelope, save
    from gtdnet.measure.machine import LoadWatch

    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pinned = next(line.split()[0][7:] for line in lines if line.startswith("torch=="))
    result = envelope("install", "Installing", "python benchmarks/install.py", torch.device("cpu"))
    del result["bench"]  # a bench of no kind that gtdnet bench has
    watch, ways = LoadWatch(), {}
    for name, steps in WAYS.items():
        with tempfile.TemporaryDirectory() as folder:
            ways[name] = measure(steps, pinned, Path(folder) / "venv")
        print(f"{name}: {ways[name]}")
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    watch.child_cpu = own.ru_utime + own.ru_stime
    save(result | {"load": watch.to_dict(), "ways": ways}, args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
