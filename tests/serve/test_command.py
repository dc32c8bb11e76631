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


def test_the_page_of_limits_is_true() -> None:
    """Every default in docs/serve.md is that of the option beside it, or of the constant."""
    from dataclasses import fields

    from gtdnet.serve import answers, camera, connections, options, run, service

    page = Path(__file__).parents[2] / "docs" / "serve.md"
    lines = page.read_text(encoding="utf-8").split("## Limits")[1].split("\n\n")[1].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    defaults = {field.name: field.default for field in fields(options.ServeOptions)}
    said = {row[2].strip("`-"): float(row[1].split()[0]) for row in rows if row[2]}
    assert said == {name: defaults[name] for name in said}
    limits = {n for n in defaults if n.startswith("max_")}
    limits |= {"queue", "timeout", "decoder_memory", "cameras", "camera_idle"}
    limits |= {"collect_seconds", "collect_megabytes"}
    assert set(said) == limits
    assert {row[0]: row[1] for row in rows if not row[2]} == {
        "windows of a video": f"{run.WINDOWS}",
        "silence within an upload": f"{service.SILENCE:g} s",
        "scores of windows in an answer": f"{answers.MOST_SCORES}",
        "connections": f"{connections.CONNECTIONS}",
        "a connection without a request": f"{connections.FIRST_REQUEST:g} s",
        "an answer that nobody reads": f"{connections.UNTAKEN:g} s",
        "a camera's picture": f"{camera.MAX_BYTES >> 20} MiB, 1920x1080",
        "pages that collect": "1",
    }
    assert camera.MAX_PIXELS == 1920 * 1080
