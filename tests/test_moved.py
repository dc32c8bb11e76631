"""Public names of earlier versions still work, or say where they went."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest

from gtdnet.moved import RENAMED

NAMES: dict[str, list[str]] = json.loads(
    (Path(__file__).parent / "files" / "names_0_1_0.json").read_text(encoding="utf-8")
)


@pytest.mark.filterwarnings("ignore:gtdnet.* has moved:DeprecationWarning")
@pytest.mark.parametrize("module", NAMES)
def test_names_of_0_1_0(module: str) -> None:
    found = import_module(f"gtdnet.{module}".rstrip("."))
    missing = {name for name in NAMES[module] if not hasattr(found, name)}
    assert missing == {name for name in NAMES[module] if f"{module}.{name}" in RENAMED}


def test_a_moved_module_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "gtdnet.progress", raising=False)
    with pytest.warns(DeprecationWarning, match=r"gtdnet\.progress has moved to gtdnet\.text"):
        from gtdnet.progress import say  # pyright: ignore[reportMissingImports]
    from gtdnet import text

    assert say is text.say
    with pytest.raises(ImportError, match="cannot import name 'shout'"):
        from gtdnet.progress import shout  # pyright: ignore[reportMissingImports] # noqa: F401
