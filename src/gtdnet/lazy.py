"""Names of a room, imported when they are first asked for, so that reading options takes no torch.

    __getattr__ = lazy.names(__name__, {"load": "recognizer"})

in ``infer/__init__.py`` lets ``gtdnet.infer.load`` be that of ``gtdnet.infer.recognizer``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


def names(room: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a room: names, and the modules of the room that have them."""

    class Room(ModuleType):
        def __setattr__(self, name: str, value: object) -> None:
            # Importing a module sets it as an attribute of its room; a name of ours goes first.
            if not (isinstance(value, ModuleType) and name in places):
                super().__setattr__(name, value)

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        return getattr(import_module(f"{room}.{places[name]}"), name)

    sys.modules[room].__class__ = Room
    return find
