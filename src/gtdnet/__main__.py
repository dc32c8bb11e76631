"""python -m gtdnet, and the command gtdnet."""

import os
import signal
import sys
from types import FrameType


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)  # nothing has been begun yet that could be left half done


def main() -> int:
    """:func:`gtdnet.cli.main`; Ctrl-C while it is still being imported ends without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    from gtdnet.cli import main as run

    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()


if __name__ == "__main__":
    sys.exit(main())
