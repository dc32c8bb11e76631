"""Public names of earlier versions still work, or say where they went."""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from gtdnet.moved import RENAMED

NAMES: dict[str, list[str]] = json.loads(
    (Path(__file__).parent / "files" / "names_0_1_0.json").read_text(encoding="utf-8")
)


@pytest.mark.filterwarnings("ignore:gtdnet.* has moved:DeprecationWarning")
@pytest.mark.parametrize("module", NAMES)
def test_names_of_0_1_0(module: str) -> None:
    found = import_module(f"gtdnet.{module}".rstrip("."))
    missing = set()
    for name in NAMES[module]:
        try:
            getattr(found, name)
        except (AttributeError, ImportError) as error:
            if len(name) > 1:
                missing.add(name)
                assert f"gtdnet.{module}.{name} is now {RENAMED[f'{module}.{name}']}" in str(error)
    assert missing == {name for name in NAMES[module] if f"{module}.{name}" in RENAMED}


@pytest.mark.filterwarnings("ignore:gtdnet.* has moved:DeprecationWarning")
@pytest.mark.parametrize("old", RENAMED)
def test_an_import_of_a_renamed_thing_says_what_it_is_now(old: str) -> None:
    module, _, name = f"gtdnet.{old}".rpartition(".")
    with pytest.raises(ImportError, match=re.escape(f"gtdnet.{old} is now {RENAMED[old]}")):
        exec(f"from {module} import {name}")


@pytest.mark.filterwarnings("ignore:gtdnet.* has moved:DeprecationWarning")
def test_all_of_a_moved_module_can_be_imported() -> None:
    found: dict[str, Any] = {}
    exec("from gtdnet.models.zoo import *", found)
    from gtdnet.models import build, methods

    assert found["create_model"] is build.create_model
    assert found["before_layer"] is methods.before_layer
    assert not [name for name in found if name.startswith("_") and name != "__builtins__"]


def test_a_moved_module_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "gtdnet.progress", raising=False)
    with pytest.warns(DeprecationWarning, match=r"gtdnet\.progress has moved to gtdnet\.text"):
        from gtdnet.progress import say  # pyright: ignore[reportMissingImports]
    from gtdnet import text

    assert say is text.say
    with pytest.raises(ImportError, match="cannot import name 'shout'"):
        from gtdnet.progress import shout  # pyright: ignore[reportMissingImports] # noqa: F401
