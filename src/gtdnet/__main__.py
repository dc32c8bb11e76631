"""python -m gtdnet, and the command gtdnet."""

import os
import signal
import sys
from types import FrameType


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"gtdnet: interrupted\n")
    os._exit(128 + number)  # nothing has been begun yet that could be left half done


def _end_quietly(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)  # all is done and said; what is left is slow


def main() -> int:
    """:func:`gtdnet.cli.main`; Ctrl-C before and after it ends this without a traceback."""
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, _end)
    from gtdnet.cli import main as run

    try:
        if is_ours and signal.getsignal(signal.SIGINT) is _end:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = run()
        if is_ours:
            signal.signal(signal.SIGINT, _end_quietly)
    except KeyboardInterrupt:  # just before the command began or after it was done
        code = 128 + signal.SIGINT
    # "python -m" would end by the signal, whatever the status, if the latest text that was
    # executed (as for a dataclass) has been interrupted.
    exec("")
    return code


if __name__ == "__main__":
    sys.exit(main())
