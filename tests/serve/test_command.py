"""What gtdnet serve says before it serves."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gtdnet.cli import main

Fails = Callable[..., str]


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Fails:
    """The one line that is said of bad input, on stderr alone, with exit code 2."""
    monkeypatch.delenv("GTDNET_TOKEN", raising=False)

    def call(*words: object) -> str:
        code = main(["serve", *map(str, words)])
        out, err = capsys.readouterr()
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err.rstrip("\n").removeprefix("gtdnet serve: ")

    return call


def test_it_says_what_is_wrong(fails: Fails, model: Path) -> None:
    assert fails(model, "--host=0.0.0.0") == (
        "--host 0.0.0.0 can be reached from other machines; give a --token that requests must "
        "bring, or set GTDNET_TOKEN"
    )
    assert fails("nowhere/model.safetensors").startswith(
        "nowhere/model.safetensors: no such model file"
    )
    assert fails(model, "--queue=0") == "queue must be at least 1, got 0"
    assert fails(model, "--timeout=-1") == "timeout must be positive, got -1.0"
    assert fails(model, "--port=70000") == "port must be from 0 to 65535, got 70000"
    assert fails(model, "--certificate=none.pem") == (
        "--certificate none.pem: there is no such file; check the path"
    )
    assert fails(model, "--host=192.0.2.1", "--token=0123456789abcdef").startswith(
        "192.0.2.1 port 8000: cannot be listened on"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert fails(model, f"--port={port}") == (
            f"127.0.0.1 port {port}: cannot be listened on (Address already in use); give another "
            f"--port"
        )
    assert fails(f"a={model}", f"a={model}", "--port=0") == (
        f"two models are called a; give one another: NAME={model}"
    )


def test_it_says_what_to_install(
    fails: Fails, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("gtdnet.serve.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert fails(model) == (
        'uvicorn is not installed, which serve needs: pip install "gtdnet[serve]"'
    )
