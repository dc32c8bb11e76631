"""Clips that kill the processes that read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gtdnet import workers


@pytest.fixture
def deadly(plugins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes new processes die of clips by name, as a plugin that they import does it.

    ``{"clip5.mp4": 2}``: the first two times that ``check`` or ``pack`` decodes it. Gives the file
    that has a line for each death.
    """

    def make(times: dict[str, int]) -> Path:
        log, name = tmp_path / "deaths.txt", f"deadly_{tmp_path.name}"
        (plugins / f"{name}.py").write_text(
            f"""import os
import gtdnet.data.check.clips as check
import gtdnet.data.pack.encode as pack

plain = check.scan_frames

def scan_frames(path, *arguments):
    name = os.path.basename(path)
    there = open({str(log)!r}).read().splitlines() if os.path.exists({str(log)!r}) else []
    if there.count(name) < {times!r}.get(name, 0):
        with open({str(log)!r}, "a") as file:
            file.write(name + "\\n")
        os.kill(os.getpid(), 9)
    return plain(path, *arguments)

check.scan_frames = pack.scan_frames = scan_frames
"""
        )
        monkeypatch.setattr(workers, "_registering", [name])
        return log

    return make
