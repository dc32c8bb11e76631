"""Where a result comes from: the command, the versions, the time."""

from __future__ import annotations

import datetime
import platform
import shlex
from collections.abc import Iterable
from dataclasses import MISSING, fields
from importlib import metadata
from typing import Any

import torch

import gtdnet


def now() -> str:
    """The time in UTC, as 2026-01-31T12:00:00+00:00."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """Of gtdnet, Python, PyTorch and those of the packages that are installed."""
    found = {
        "gtdnet": gtdnet.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def provenance(**more: Any) -> dict[str, Any]:
    """What a model file says first of where it comes from, JSON-ready; then ``more``."""
    return {"gtdnet": gtdnet.__version__, "torch": str(torch.__version__), "written": now(), **more}


def command(program: str, options: Any, positional: str = "") -> str:
    """The command line that gives these options: those that are not at their defaults.

    Without --overwrite, which changes no result.

    ``positional`` names the field, one text or several, that is given without its name.
    """
    given = getattr(options, positional) if positional else ()
    line = [*program.split(), *([given] if isinstance(given, str) else map(str, given))]
    for option in fields(options):
        value = getattr(options, option.name)
        made = option.default_factory
        default = option.default if made is MISSING else made()
        if option.name in (positional, "overwrite") or value == default:
            continue
        if isinstance(value, dict):
            for key, entry in value.items():
                line += [f"--{option.name}.{key}", _word(entry)]
        else:
            line += [f"--{option.name}", _word(value)]
    return shlex.join(line)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
