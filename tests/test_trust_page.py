"""docs/trust.md names a test for each kind of fault: they are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
NAMED = re.compile(r"([\w/]+\.py)::(test_\w+)")


def test_every_test_of_the_page_is_there() -> None:
    named = NAMED.findall((TESTS.parent / "docs" / "trust.md").read_text(encoding="utf-8"))
    assert len(named) > 50
    for file, name in named:
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in functions, f"{file} has no {name}"


def test_every_row_has_a_test() -> None:
    page = (TESTS.parent / "docs" / "trust.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "| kind" not in line]
    assert rows and all(NAMED.search(row) for row in rows)
