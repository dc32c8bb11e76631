"""Modules of other packages, imported for what they register: methods, formats, commands, ..."""

import argparse
import sys
from importlib import metadata
from pathlib import Path

from gtdnet.errors import InputError
from gtdnet.text import first_line
from gtdnet.workers import import_registering


def import_given(words: list[str]) -> list[str]:
    """Import the module of each --import MODULE, also from this folder; gives the other words.

    New processes import them too. What stands behind -- is no option.

    Raises:
        InputError: a module that cannot be imported.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--import", action="append", default=[], dest="modules")
    end = words.index("--") if "--" in words else len(words)
    try:
        given, others = parser.parse_known_args(words[:end])
    except argparse.ArgumentError as error:
        raise InputError(str(error)) from error
    if given.modules:
        sys.path.insert(0, str(Path.cwd()))
    for module in given.modules:
        _load(f"--import {module}", module)
    return [*others, *words[end:]]


def import_installed() -> None:
    """Import what installed packages name under the entry point group "gtdnet.plugins".

    Raises:
        InputError: a module that cannot be imported.
    """
    for plugin in metadata.entry_points(group="gtdnet.plugins"):
        _load(f"the plugin {plugin.name} ({plugin.value})", plugin.value.partition(":")[0])


def _load(what: str, module: str) -> None:
    try:
        import_registering(module)
    except Exception as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"{what} cannot be imported ({why}); mend it or leave it out") from error
