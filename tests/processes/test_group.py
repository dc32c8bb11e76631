"""Processes of a launcher, of which one is killed, and that are told to end while they find out."""

from __future__ import annotations

import os
import subprocess
import sys

from gtdnet.processes.group import distributed

PROGRAM = """
import os, signal, sys, threading
from gtdnet.errors import ProcessLost
from gtdnet.processes import group, joined
from gtdnet.workers import sigterm_raises

group._ROLL_CALL = 0.6
try:
    with sigterm_raises(), joined(1.0, False) as it:
        if it.rank == {killed}:
            os.kill(os.getpid(), signal.SIGKILL)
        # As torchrun does it for all that are left.
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        it.share(1)
except ProcessLost as error:
    print(error)
"""


def test_who_is_lost_is_said_though_a_launcher_ends_the_rest() -> None:
    """Whichever it is; the store is the launcher's, as torchrun's."""
    for killed in (0, 1):
        store = distributed().TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        environment = {
            **os.environ,
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_RUN_ID": "none",
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
        running = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM.format(killed=killed)],
                stdout=subprocess.PIPE,
                text=True,
                env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in (0, 1)
        ]
        said = [process.communicate(timeout=120)[0] for process in running]
        sentence = f"process {killed} of 2 ended or cannot be reached; start the command again\n"
        assert said[killed] == "" and said[1 - killed] == sentence
