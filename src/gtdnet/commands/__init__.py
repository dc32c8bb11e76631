"""The commands, one file each: what it is told, what it does, what people read of it.

A file NAME.py has ``EXAMPLE``, a command line to start from; ``fill(parser)``, which adds its
arguments; and ``run(args)``, which gives an :data:`Outcome`. :mod:`gtdnet.cli` lists it in a line.
"""

import sys
from typing import Any, TypeAlias

from gtdnet.text import one_line

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_TERMINATED = 0, 1, 2, 130, 143

# Exit code; JSON object (None: another process prints it); what people read: text, a rich table.
Outcome: TypeAlias = tuple[int, dict[str, Any] | None, Any]


def complain(who: str, message: str) -> None:
    """One line on stderr."""
    print(f"{who}: {one_line(message)}", file=sys.stderr)
