"""Each limit is refused in a sentence, whatever a client says of itself; the next one is served."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from gtdnet.serve import service
from gtdnet.serve.connections import HttpConnection, most_connections

MEGABYTE = 10**6


def raw(running: Any, head: str, *parts: bytes, pause: float = 0.0) -> bytes:
    """What the server answers to these bytes, sent one after another; the head has our Host."""
    with socket.create_connection(running.address, timeout=30) as connection:
        lines = [*head.splitlines(), f"Host: 127.0.0.1:{running.address[1]}", "", ""]
        connection.sendall("\r\n".join(lines).encode())
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:  # it has answered and closed
                break
            time.sleep(pause)
        answer = b""
        while data := connection.recv(65536):
            answer += data
            if b'"code"' in answer or b'"took"' in answer:
                break
        return answer


def chunk(size: int) -> bytes:
    return b"%x\r\n" % size + b"\0" * size + b"\r\n"


@pytest.fixture(scope="module")
def small(serve: Any, model: Path) -> Any:
    """A server with low limits."""
    with serve(model, max_megabytes=1, max_seconds=5, max_pixels=10_000) as running:
        yield running


# ----------------------------------------------------------------------------------------- bytes


def test_a_stated_length_beyond_the_limit_is_refused_before_it_comes(small: Any) -> None:
    head = "PUT /v1/predict HTTP/1.1\nContent-Length: 5000000000\nExpect: 100-continue"
    answer = raw(small, head)
    assert answer.startswith(b"HTTP/1.1 413 ") and b"100 Continue" not in answer
    assert b"The video has more than 1 MB; send a shorter or smaller one." in answer


def test_without_a_length_bytes_are_counted(small: Any) -> None:
    parts = [chunk(MEGABYTE // 4)] * 40
    answer = raw(small, "PUT /v1/predict HTTP/1.1\nTransfer-Encoding: chunked", *parts)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_little_is_read_before_it_is_anothers_turn(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In chunks of one byte 256 KiB took three seconds, in which nobody else was answered."""
    reads: list[int] = []
    take = HttpConnection.data_received

    def note(self: HttpConnection, data: bytes) -> None:
        reads.append(len(data))
        take(self, data)

    monkeypatch.setattr(HttpConnection, "data_received", note)
    small.refused(small.put(b"\0" * MEGABYTE), 422, "undecodable")
    assert sum(reads) > MEGABYTE and max(reads) <= 1 << 15


def test_who_sends_on_gets_the_answer_too(small: Any) -> None:
    """httpx sends all before it reads."""
    response = small.put(b"\0" * 30 * MEGABYTE)
    small.refused(response, 413, "too_large")


def test_a_lying_length_is_no_way_round(small: Any, short: Path) -> None:
    """More than it says: what is over is no part of it, and no request either."""
    video = short.read_bytes()
    head = f"PUT /v1/predict HTTP/1.1\nContent-Length: {len(video)}"
    assert raw(small, head, video + b"\0" * MEGABYTE).startswith(b"HTTP/1.1 200 ")
    for wrong in ("-1", "many", "1\nContent-Length: 2"):
        answer = raw(small, f"PUT /v1/predict HTTP/1.1\nContent-Length: {wrong}", b"0" * 9)
        assert answer.startswith(b"HTTP/1.1 400 ")


def test_no_bytes(small: Any) -> None:
    sentence = small.refused(small.put(b""), 400, "empty")
    assert sentence == "There is no video in the request; send its bytes as the body."


# ---------------------------------------------------------------------------------- the video


def test_seconds(small: Any, long: Path) -> None:
    sentence = small.refused(small.put(long), 422, "too_long")
    assert sentence == (
        "The video was not read: it is 12 seconds long, and 5 are the limit; cut it."
    )


def test_pixels(small: Any, write_video: Any, tmp_path: Path) -> None:
    video = write_video(tmp_path / "wide.mp4", 1, size=(128, 96))
    sentence = small.refused(small.put(video), 422, "too_many_pixels")
    assert sentence == (
        "The video was not read: its pictures of 128x96 have more pixels than the limit of 10000; "
        "send a smaller one."
    )


def test_windows(serve: Any, model: Path, long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gtdnet.serve.run.WINDOWS", 10)
    with serve(model) as running:
        sentence = running.refused(running.put(long, window=1), 422, "too_many_windows")
    assert sentence == (
        "The video was not read: it has 12 windows, and 10 are the limit; give a longer stride."
    )


def test_scores(served: Any, long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of a million takes memory, and the time of all others while it is written."""
    monkeypatch.setattr("gtdnet.serve.answers.MOST_SCORES", 60)
    assert served.put(long, window=1, topk=5).status_code == 200  # 12 windows
    assert served.put(long, topk=1000).status_code == 200
    sentence = served.refused(served.put(long, window=1, topk=1000), 422, "too_many_scores")
    assert sentence == (
        "The answer would have more than 60 scores; ask for fewer classes (topk), or a longer "
        "stride."
    )


def test_memory(serve: Any, model: Path, write_video: Any, tmp_path: Path) -> None:
    """4K pictures of 25 MB do not fit into 64 MiB beside the decoder's own."""
    video = write_video(tmp_path / "large.mp4", 0.2, size=(4096, 2160))
    with serve(model, decoder_memory=64) as running:
        sentence = running.refused(running.put(video), 422, "too_much_memory")
        assert "more than 64 MiB of memory" in sentence


NO_VIDEOS = {
    "text": b"hello\n" * 100,
    "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n",
    "picture": b"\xff\xd8\xff\xe0" + b"\0" * 500,
}


@pytest.mark.parametrize("name", NO_VIDEOS)
def test_what_is_no_video(served: Any, name: str) -> None:
    """A text that names other files for FFmpeg to open is not a video."""
    sentence = served.refused(served.put(NO_VIDEOS[name]), 422, "undecodable")
    assert sentence.startswith("The video was not read: it is ")
    assert "/proc" not in sentence and "/tmp" not in sentence


def test_a_cut_video(served: Any, short: Path) -> None:
    sentence = served.refused(served.put(short.read_bytes()[:-1000]), 422, "undecodable")
    assert sentence.startswith("The video was not read: ")


def test_a_full_disk(serve: Any, model: Path, short: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with serve(model) as running:
        spool = running.server.service.spool
        spool.file, file = full_disk, spool.file
        response = running.put(short)
        assert response.headers["retry-after"] == "60"
        running.refused(response, 507, "no_room")
        spool.file = file
        assert running.put(short).status_code == 200


@contextmanager
def full_disk() -> Iterator[tuple[Any, str]]:
    with open("/dev/full", "wb", buffering=0) as file:  # noqa: PTH123
        yield file, "/dev/full"


# ----------------------------------------------------------------------------------------- time


def test_an_upload_that_stands_still(
    served: Any, monkeypatch: pytest.MonkeyPatch, short: Path
) -> None:
    monkeypatch.setattr(service, "SILENCE", 0.3)
    head = "PUT /v1/predict HTTP/1.1\nContent-Length: 100000"
    started = time.monotonic()
    answer = raw(served, head, b"0" * 1000)
    assert answer.startswith(b"HTTP/1.1 408 ") and time.monotonic() - started < 5
    assert b"Nothing of the video came for 0.3 seconds; send it again." in answer
    assert served.server.service.at_hand == 0


def test_an_upload_that_trickles(serve: Any, model: Path) -> None:
    with serve(model, timeout=1) as running:
        head = "PUT /v1/predict HTTP/1.1\nContent-Length: 100000"
        answer = raw(running, head, *[b"0"] * 12, pause=0.15)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"The video did not arrive within 1 seconds" in answer


def test_time_for_a_request(serve: Any, model: Path, short: Path) -> None:
    with serve(model, timeout=1) as running:
        with running.halted():
            sentence = running.refused(running.put(short), 504, "out_of_time")
        assert sentence == (
            "There was no answer within 1 seconds; send a shorter or smaller video."
        )
        assert running.put(short).status_code == 200  # by a new process
        assert running.metric('gtdnet_decoders_replaced_total{why="stopped"}') == 1


def test_the_queue(serve: Any, model: Path, short: Path) -> None:
    with serve(model, queue=3) as running, ThreadPoolExecutor(3) as clients:
        with running.halted():
            taken = [clients.submit(running.put, short) for _ in range(3)]
            _wait_for(lambda: running.server.service.at_hand == 3)
            _wait_for(lambda: running.metric("gtdnet_waiting ") == 2)
            response = running.put(short)
            assert response.headers["retry-after"] == "5"
            sentence = running.refused(response, 503, "busy")
            assert sentence == (
                "The server has as many requests as it takes; try again in 5 seconds."
            )
        assert [one.result().status_code for one in taken] == [200] * 3
        assert running.metric("gtdnet_at_hand ") == 0


def test_many_at_once(served: Any, short: Path) -> None:
    with ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(served.put, [short] * 12))
    assert {answer.status_code for answer in answers} == {200}
    assert len({str(answer.json()["scores"]) for answer in answers}) == 1


# ------------------------------------------------------------------------------------- processes


def test_a_decoder_that_dies(serve: Any, model: Path, short: Path) -> None:
    with serve(model) as running, ThreadPoolExecutor(1) as clients:
        with running.halted():
            answer = clients.submit(running.put, short)
            _wait_for(lambda: running.server.service.at_hand == 1)
            time.sleep(0.2)
            os.kill(running.server.service.decoders.processes()[0], signal.SIGKILL)
            sentence = running.refused(answer.result(), 422, "decoder_died")
        assert sentence.startswith("The video was not read: the decoder broke down over it")
        assert running.put(short).status_code == 200
        os.kill(running.server.service.decoders.processes()[0], signal.SIGKILL)  # between two
        time.sleep(0.2)
        assert running.put(short).status_code == 200
        assert running.metric('gtdnet_decoders_replaced_total{why="died"}') == 2


def test_who_goes_is_not_worked_for(serve: Any, model: Path, short: Path) -> None:
    video = short.read_bytes()
    with serve(model) as running:
        with running.halted(), socket.create_connection(running.address) as connection:
            head = f"PUT /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(video)}"
            connection.sendall(f"{head}\r\n\r\n".encode() + video)
            _wait_for(lambda: running.server.service.at_hand == 1)
            time.sleep(0.3)
            connection.close()
            _wait_for(lambda: running.server.service.at_hand == 0)
        assert running.put(short).status_code == 200


def test_connections(serve: Any, model: Path, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that send nothing; and who is too many is told, if he can be."""
    monkeypatch.setattr("gtdnet.serve.connections.CONNECTIONS", 16)
    with serve(model) as running, ExitStack() as stack:

        def more(number: int) -> list[socket.socket]:
            return [
                stack.enter_context(socket.create_connection(running.address, timeout=10))
                for _ in range(number)
            ]

        idle = more(16)
        response = running.put(short)
        assert (response.headers["retry-after"], response.headers["connection"]) == ("5", "close")
        sentence = running.refused(response, 503, "full")
        assert sentence == (
            "The server has as many connections as it takes; try again in 5 seconds."
        )
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://127.0.0.1:{running.address[1]}/v1/camera", proxy=None)
        assert refused.value.response.status_code == 503
        beyond = more(10)
        for one in beyond[-4:]:
            with suppress(ConnectionResetError):
                assert one.recv(1) == b""
        assert len(running.server.connections) <= 20
        for one in (*idle, *beyond):
            one.close()
        _wait_for(lambda: running.put(short).status_code == 200)


@pytest.mark.parametrize(("files", "most"), [(256, 128), (1024, 512), (10**6, 512), (-1, 512)])
def test_connections_leave_room_for_files(
    files: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda what: (files, files))
    assert most_connections() == most


STANDING = {
    "half of the first request": b"GET / HTTP/1.1\r\nHost: 127.0",
    "half of the second": b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /",
    "a body that nobody wants": (
        b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n0"
    ),
}


@pytest.mark.parametrize("sent", STANDING.values(), ids=STANDING)
def test_a_connection_without_a_request_is_closed(
    served: Any, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """However it trickles: bytes are no request."""
    monkeypatch.setattr("gtdnet.serve.connections.FIRST_REQUEST", 0.3)
    with socket.create_connection(served.address, timeout=0.2) as connection:
        connection.sendall(sent)
        started = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - started < 10:
                try:
                    if not connection.recv(1000):
                        break
                except TimeoutError:
                    connection.sendall(b"0")
    assert time.monotonic() - started < 4  # uvicorn's pause between two requests is 5 s


def test_a_connection_without_a_handshake_of_tls_is_closed(
    serve: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (openssl := shutil.which("openssl")):
        pytest.skip("there is no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    asked = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost"
    where = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([openssl, *asked.split(), *where], check=True, capture_output=True)
    monkeypatch.setattr("gtdnet.serve.connections.FIRST_REQUEST", 2.0)
    with (
        serve(model, certificate=str(certificate), key=str(key)) as running,
        socket.create_connection(running.address, timeout=10) as connection,
    ):
        assert connection.recv(1) == b""  # asyncio's own patience is a minute
        response = httpx.get(f"{running.url}/v2/health/ready", verify=False, trust_env=False)
        assert response.status_code == 200


def test_who_does_not_read_is_not_waited_for(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gtdnet.serve.connections.UNTAKEN", 0.3)
    asked = 3000
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect(served.address)
        connection.sendall(b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * asked)
        time.sleep(1.5)
        taken = 0
        with suppress(ConnectionResetError):
            while data := connection.recv(1 << 20):
                taken += len(data)
    assert 0 < taken < asked * len(served.client.get("/page.js").content)


def test_nothing_lies_in_the_folder(served: Any, short: Path) -> None:
    """Files have no names, and what they held is given back."""
    folder = served.server.service.spool.folder
    names: list[Path] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.005):
            names.extend(folder.iterdir())

    watcher = threading.Thread(target=look)
    watcher.start()
    for _ in range(5):
        assert served.put(short).status_code == 200
    stop.set()
    watcher.join()
    assert names == []


def _wait_for(holds: Any, seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never came to hold"
        time.sleep(0.02)
