"""How the help of a command looks: what each option takes and is by default, in few words."""

from __future__ import annotations

import re
import textwrap
from argparse import SUPPRESS, Action
from typing import Any

from jsonargparse import DefaultHelpFormatter

_PLACEHOLDERS = {"int": "INT", "float": "FLOAT"}
_PATHS = (
    *("data", "output", "to", "sheet", "manifest", "features", "timeline", "draw", "record"),
    *("background", "marks", "certificate", "key", "preview"),
)


_TELLS = re.compile(r"\b(default|required)\b")  # what is without the option


class HelpFormatter(DefaultHelpFormatter):
    """argparse's layout. A placeholder tells the type, brackets behind the text what is required or
    the default, where the text does not; a line of the epilog stays as it can be typed."""

    def _get_default_metavar_for_optional(self, action: Action) -> str:
        of_type = (self._get_type_str(action) or "").partition(" | ")[0]
        if of_type.startswith("list["):
            return f"[{_PLACEHOLDERS.get(of_type[5:-1], 'ITEM')},...]"
        if of_type == "str" and action.dest in _PATHS:
            return "PATH"
        return _PLACEHOLDERS.get(of_type) or super()._get_default_metavar_for_optional(action)

    def _get_default_metavar_for_positional(self, action: Action) -> str:
        return action.dest.upper()

    def _format_action_invocation(self, action: Action) -> str:
        names = [name for name in action.option_strings if not name.endswith("+")]
        if not names or action.nargs == 0:
            return super()._format_action_invocation(action)
        if (self._get_type_str(action) or "").startswith("dict"):
            return f"{names[0]}.NAME VALUE"
        if str(action.metavar).startswith("{true,false"):  # "true" may be left out
            return f"{', '.join(names)} [true|false]"
        takes = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(names)} {takes}"

    def _get_help_string(self, action: Action) -> str:
        text = (action.help or "").replace("``", "")
        if ". " not in text:
            text = text.removesuffix(".")
        if action.required:
            return f"{text} (required)" if action.option_strings else text
        is_told = _is_told(action.default)
        if not is_told and (not action.option_strings or _TELLS.search(text)):
            return text
        if action.dest in ("help", "debug", "import"):
            return text
        return f"{text} (default: {_in_words(action.default)})"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(
            line for given in text.split("\n") for line in _typed(given, width, indent)
        )


def _is_told(default: Any) -> bool:
    return default not in (None, "", [], {}, SUPPRESS)


def _in_words(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, list):
        return " ".join(map(str, default)) or "none"
    return str(default) if _is_told(default) else "none"


def _typed(line: str, width: int, indent: str) -> list[str]:
    """A line in lines; of a command, such as a shell takes them for one."""
    is_command = line.startswith("  ")
    broken = textwrap.wrap(
        line.strip(),
        width - 4 if is_command else width,
        break_on_hyphens=False,
        break_long_words=False,
    )
    if not is_command:
        return [indent + part for part in broken] or [""]
    ends = [" \\"] * (len(broken) - 1) + [""]
    starts = ["  "] + ["    "] * (len(broken) - 1)
    return [start + part + end for start, part, end in zip(starts, broken, ends, strict=True)]
