"""The commands, one file each: what it is told, what it does, what people read of it.

A file NAME.py has ``EXAMPLE``, a command line to start from; ``fill(parser)``, which adds its
arguments; and ``run(args)``, which gives an :data:`Outcome`. One that runs networks also says
``COMPUTES = True``, and takes --threads; one that several processes may run together, ``SPREADS =
True``, and takes --devices, --num_nodes and --timeout; ``OLD_NAMES`` are options that were called
otherwise. :mod:`gtdnet.cli` lists it in a line.
"""

import json
import re
import sys
from typing import Any, TypeAlias

from gtdnet.text import in_width, one_line, printable, terminal_width

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_TERMINATED = 0, 1, 2, 130, 143

# Exit code; JSON object (None: another process prints it); what people read: text, a rich table.
# Text that programs read too (CSV, YAML, a script) is AsIs: no terminal breaks its lines.
Outcome: TypeAlias = tuple[int, dict[str, Any] | None, Any]


class AsIs(str):
    """Text whose lines stay as they are on a terminal too."""


_MOST = 2000  # characters of a complaint, whatever it quotes


def complain(who: str, message: str) -> None:
    """One line on stderr."""
    line = one_line(message)
    if len(line) > _MOST:
        line = f"{line[: _MOST // 2]} ... {line[-_MOST // 2 :]}"
    print(in_width(printable(f"{who}: {line}"), terminal_width(sys.stderr)), file=sys.stderr)


def write(result: str | dict[str, Any]) -> None:
    """Text, or an object as JSON in one line, on stdout, whatever it holds and stdout can take.

    On a terminal lines of text end between words, but for :class:`AsIs`.
    """
    encoding = sys.stdout.encoding or "utf-8"
    if isinstance(result, str):
        text = printable(result)
        if not isinstance(result, AsIs):
            text = in_width(text, terminal_width(sys.stdout))
    else:  # a reader gets back what JSON escapes
        plain = json.dumps(result, ensure_ascii=encoding.lower().replace("-", "") != "utf8")
        text = _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", plain)
    print(text.encode(encoding, "backslashreplace").decode(encoding), end="\n" if text else "")


_ESCAPED = re.compile(r"[\x7f-\x9f\ud800-\udfff]")
