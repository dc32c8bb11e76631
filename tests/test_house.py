"""The layers of the house: imports go down, and nowhere in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import gtdnet

ROOT = Path(gtdnet.__file__).parent

# From the ground up. A room imports from its own and from lower layers; rooms of one layer do not
# know each other.
LAYERS: list[set[str]] = [
    {"errors"},
    {"text", "files", "hosts", "workers", "moved", "pages", "lazy", "ranking"},
    {"device", "places", "threads", "processes", "spread"},
    {"measure", "nn"},
    {"data", "weights"},
    {"models"},
    {"engines", "weights.convert"},
    {"infer", "train"},
    {"evaluate", "live"},
    {"ablate", "bench", "bulk", "calibrate", "collect", "export", "hub", "report", "show"},
    {"serve"},
    {""},  # gtdnet itself: the public names
    {"commands"},
    {"cli"},
    {"__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def modules() -> list[str]:
    """Names of all modules below gtdnet: "nn.gtd", "nn" for its __init__, "" for gtdnet's own."""
    names = (".".join(p.relative_to(ROOT).with_suffix("").parts) for p in ROOT.rglob("*.py"))
    return sorted(name.removesuffix("__init__").rstrip(".") for name in names)


def room_of(module: str) -> str:
    """The longest named room that a module is in."""
    parts = module.split(".")
    for i in range(len(parts), 0, -1):
        if (room := ".".join(parts[:i])) in LEVEL:
            return room
    raise AssertionError(f"{module}: is in no layer; give its room a place in LAYERS")


@cache
def imports(module: str) -> frozenset[str]:
    """The modules that one imports, anywhere in it, but for what only type checkers see."""
    path = ROOT / Path(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    known, found = set(modules()), set()
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "gtdnet":
            base = (node.module or "").removeprefix("gtdnet").lstrip(".")
            inner = {f"{base}.{alias.name}".lstrip(".") for alias in node.names}
            found |= inner & known
            if inner - known:
                found.add(base)
        elif isinstance(node, ast.Import):
            names = {a.name for a in node.names if a.name.partition(".")[0] == "gtdnet"}
            found |= {name.removeprefix("gtdnet").lstrip(".") for name in names}
    return frozenset(found - {module})


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _nodes(node)


@pytest.mark.parametrize("module", modules())
def test_imports_go_down(module: str) -> None:
    room = room_of(module)
    for other in imports(module):
        if other == "" and module != "":  # __version__, which lies on the ground
            continue
        below = room_of(other)
        assert room == below or LEVEL[below] < LEVEL[room], f"{module} imports {other}"


def test_no_circles() -> None:
    graph = {module: imports(module) - {""} for module in modules() if module}
    assert tuple(TopologicalSorter(graph).static_order())  # CycleError names the circle


def test_files_are_of_a_size_that_one_reads() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in ROOT.rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > 550} == {}


HEAVY = ("torch", "numpy", "lightning", "openvino", "onnx", "matplotlib", "jinja2", "rich")


def test_import_gtdnet_is_light() -> None:
    program = "import sys, gtdnet; print(*sorted({n.partition('.')[0] for n in sys.modules}))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not set(HEAVY) & set(run.stdout.split())


def test_all_public_names_are_there() -> None:
    assert {name for name in gtdnet.__all__ if not hasattr(gtdnet, name)} == set()
    assert set(gtdnet.__all__) <= set(dir(gtdnet))
