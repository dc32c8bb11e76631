"""Make docs/results.md of benchmarks/results/*.yaml, or see whether they agree.

    python benchmarks/results.py            # writes the page
    python benchmarks/results.py --check    # exit status 1 and one sentence if it is another

The files are what measurements leave behind; nobody edits them or the page by hand. What shows them
is in benchmarks/sections; a file that no section is made for is shown plainly.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import yaml
from sections import SECTIONS, look_up
from sections.markdown import Results

from gtdnet.files import write_text

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"

INTRODUCTION = """\
# Results

What this project has measured itself. `python benchmarks/results.py` makes this page of the files
in `benchmarks/results`, and `make lint` sees that it still agrees with them; each section names the
command that wrote its file.

No row of the GTDNet paper's table on Something-Something or Kinetics has been reproduced yet: that
takes the datasets and GPUs. [reproduce.md](reproduce.md) has the commands.
"""


def page(folder: Path) -> str:
    """The page of all files in a folder, in the order of ``SECTIONS``, then by name."""
    order = list(SECTIONS)
    paths = sorted(
        folder.glob("*.yaml"),
        key=lambda p: (order.index(p.stem) if p.stem in order else len(order), p.stem),
    )
    return "\n".join([INTRODUCTION, *(section(path) for path in paths)])


def section(path: Path) -> str:
    """What one file says, under a heading."""
    try:
        results = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        sys.exit(f"{path} is not YAML: {' '.join(str(error).split())}")
    if not isinstance(results, dict):
        sys.exit(f"{path} holds no mapping of names to results; write it anew by its command")
    title, render = look_up(path.stem, results)
    try:
        body = render(results)
    except KeyError as error:
        sys.exit(f"{path} lacks {error}; write it anew by its command")
    return f"## {title}\n\n{origin(path, results)}\n\n{body}\n"


def origin(path: Path, results: Results) -> str:
    """Which command wrote the file, when, with and on what."""
    facts = [str(results.get("date") or results.get("written", ""))[:10]]
    versions = results.get("versions", {})
    facts += [f"{name} {version}" for name, version in versions.items()]
    machine = results.get("machine", "")
    if isinstance(machine, Mapping):
        machine = ", ".join(f"{k} {v}" for k, v in machine.items() if k != "system")
    facts.append(str(machine))
    told = ", ".join(fact for fact in facts if fact)
    return f"`{results.get('command', path.name)}` ({told or 'no date'}):"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if they disagree")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the files")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page")
    args = parser.parse_args(arguments)
    wanted = page(args.results)
    if not args.check:
        write_text(args.page, wanted)
        return 0
    there = args.page.read_text(encoding="utf-8") if args.page.is_file() else ""
    if there == wanted:
        return 0
    lines = zip_longest(there.splitlines(), wanted.splitlines())
    first = next((n for n, (old, new) in enumerate(lines, 1) if old != new), 1)
    print(
        f"{args.page} is not what the files in {args.results} say, from line {first} on; "
        f"make it anew with: python benchmarks/results.py",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
