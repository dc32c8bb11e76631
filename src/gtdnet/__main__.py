"""python -m gtdnet, and the command gtdnet."""

import atexit
import os
import signal
import sys
from types import FrameType


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"gtdnet: interrupted\n")
    os._exit(128 + number)  # nothing has been begun yet that could be left half done


def main() -> int:
    """:func:`gtdnet.cli.main`; Ctrl-C while it is still being imported ends without a traceback."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, _end)
    from gtdnet.cli import main as run

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = run()
    if ours:
        signal.signal(signal.SIGINT, lambda *_: os._exit(code))  # all is said; what is left is slow
    if code == 128 + signal.SIGINT:
        # Where Ctrl-C came within an exec, as of a dataclass that is being imported, Python would
        # not exit with this code, but kill itself, although the exception was caught.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
