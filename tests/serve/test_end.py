"""Ends: told to, the server finishes what it took; killed, it leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from gtdnet.serve.spool import PREFIX, Spool


def half_sent(address: tuple[str, int], video: bytes) -> socket.socket:
    """A request whose body has come half."""
    connection = socket.create_connection(address, timeout=30)
    head = f"PUT /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(video)}\r\n\r\n"
    connection.sendall(head.encode() + video[: len(video) // 2])
    return connection


def rest(connection: socket.socket, video: bytes) -> bytes:
    """The answer to it, when the rest is sent."""
    connection.sendall(video[len(video) // 2 :])
    answer = b""
    while b'"took"' not in answer and b'"code"' not in answer:
        data = connection.recv(65536)
        assert data, answer
        answer += data
    return answer


def test_the_command_from_start_to_end(model: Path, short: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gtdnet", "serve", str(model), "--port=0", "--device=cpu"]
    process = subprocess.Popen(
        [*command, "--decoders=1", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        assert started["models"] == [str(model)]
        address = ("127.0.0.1", int(started["url"].rpartition(":")[2]))
        with httpx.Client(base_url=started["url"], trust_env=False, timeout=30) as client:
            video = short.read_bytes()
            with half_sent(address, video) as taken:
                _wait_for(lambda: "gtdnet_at_hand 1.0" in client.get("/metrics").text)
                process.send_signal(signal.SIGTERM)
                _wait_for(lambda: client.get("/v2/health/ready").status_code == 503)
                late = client.put("/v1/predict", content=video)
                assert (late.status_code, late.json()["code"]) == (503, "ending")
                assert late.headers["retry-after"] == "10"
                assert client.get("/v2/health/live").status_code == 200
                assert rest(taken, video).startswith(b"HTTP/1.1 200 ")
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out) == (143, "")
    said = err.splitlines()
    assert "ending; 1 at hand are answered first" in said
    assert said[-1] == "gtdnet serve: ended; what was taken was answered"
    assert list(tmp_path.iterdir()) == []


def test_what_is_taken_is_finished(serve: Any, model: Path, short: Path) -> None:
    video = short.read_bytes()
    with serve(model) as running, half_sent(running.address, video) as taken:
        _wait_for(lambda: running.server.service.at_hand == 1)
        running.server.end()
        _wait_for(lambda: running.client.get("/v2/models/tiny/ready").status_code == 503)
        running.refused(running.put(short), 503, "ending")
        assert rest(taken, video).startswith(b"HTTP/1.1 200 ")


CRASH = """
import os, sys, signal
from gtdnet.serve.spool import Spool
spool = Spool(sys.argv[1])
with spool.file() as (file, path):
    file.write(b"0" * 1000)
    print(os.path.getsize(path), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_server_leaves_nothing(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", CRASH, str(tmp_path)], capture_output=True)
    assert (run.returncode, run.stdout) == (-signal.SIGKILL, b"1000\n")
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(PREFIX)
    if sys.platform == "linux":
        assert list(left.iterdir()) == []
    (left / "named").write_bytes(b"0")  # as where files need names
    (tmp_path / "other").mkdir()
    spool = Spool(tmp_path)  # the next start
    assert {path.name for path in tmp_path.iterdir()} == {"other", spool.folder.name}
    second = Spool(tmp_path)  # another server beside it
    assert spool.folder.is_dir() and second.folder != spool.folder
    spool.close()
    second.close()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_others_may_not_look_into_the_folder(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    try:
        assert spool.folder.stat().st_mode & 0o077 == 0
    finally:
        spool.close()


def _wait_for(holds: Any, seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never came to hold"
        time.sleep(0.02)


def test_what_others_put_in_its_place(tmp_path: Path) -> None:
    """In a folder that all may write to: a pipe that nobody writes, a link, a file, a folder."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    os.mkfifo(tmp_path / f"{PREFIX}pipe")
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    (tmp_path / f"{PREFIX}file").touch()
    if os.geteuid() == 0:
        (tmp_path / f"{PREFIX}other").mkdir()
        os.chown(tmp_path / f"{PREFIX}other", 12345, 12345)
    before = set(tmp_path.iterdir())
    Spool(tmp_path).close()
    assert set(tmp_path.iterdir()) == before and (elsewhere / "file").exists()


def test_two_that_start_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One makes its folder, and before it has locked it the other removes it as left."""
    made, others = tempfile.mkdtemp, []

    def make(**options: Any) -> str:
        folder = made(**options)
        if not others:
            others.append(None)
            others.append(Spool(tmp_path))
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", make)
    spool = Spool(tmp_path)
    assert spool.folder.is_dir() and others[1].folder.is_dir()
    spool.close()
    others[1].close()
    assert not list(tmp_path.iterdir())
