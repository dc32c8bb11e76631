"""Cameras over WebSockets: JPEGs go, answers come; cameras that vanish leave nothing."""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import DecodeError
from gtdnet.serve.camera import MAX_BYTES, rate_of, window_of
from gtdnet.serve.decoder import read_jpeg


def jpeg(number: int, size: tuple[int, int] = (64, 48), kind: str = "JPEG") -> bytes:
    rng = np.random.default_rng(number)
    picture = rng.integers(0, 255, (1, 1, 3)) * np.ones((size[1], size[0], 1))
    buffer = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


@contextmanager
def camera(running: Any, **query: Any) -> Iterator[Any]:
    """A connection whose ``ask`` gives the next message."""
    words = "&".join(f"{name}={value}" for name, value in query.items())
    address = f"ws://127.0.0.1:{running.address[1]}/v1/camera?{words}"
    with connect(address, proxy=None, max_size=None) as connection:
        connection.ask = lambda: json.loads(connection.recv(timeout=20))  # type: ignore[attr-defined]
        yield connection


def refused(connection: Any, code: str, closed: int) -> str:
    """The sentence with which the server lets a camera go."""
    while "error" not in (message := connection.ask()):
        pass
    assert message["code"] == code
    with pytest.raises(ConnectionClosed):
        connection.recv(timeout=10)
    assert connection.close_code == closed
    return message["error"]


def idle(running: Any) -> bool:
    until = time.monotonic() + 10
    while running.metric("gtdnet_cameras ") and time.monotonic() < until:
        time.sleep(0.05)
    return running.metric("gtdnet_cameras ") == 0


@pytest.fixture(scope="module")
def watched(serve: Any, model: Path, causal: Path) -> Any:
    with serve(model, causal, cameras=2, camera_idle=5) as running:
        yield running


@pytest.mark.parametrize("name", ["tiny", "causal"])
def test_pictures_are_answered(watched: Any, name: str) -> None:
    with camera(watched, model=name, topk=2) as connection:
        hello = connection.ask()
        assert (hello["model"], hello["rate"], hello["side"]) == (name, 5.0, 36)
        answered = 0
        for i in range(40):
            connection.send(jpeg(0))
            message = connection.ask()
            assert message["seen"] == i + 1
            if "scores" in message:
                answered += 1
                assert (len(message["scores"]) == 2 and message["event"] is None) or answered > 1
            if message.get("event"):
                break
            time.sleep(0.05)
        assert answered >= 2
    assert idle(watched)


def test_the_same_picture_is_what_a_video_of_it_is(watched: Any, causal: Path) -> None:
    """A still: every frame of a causal network, and any window, see the same."""
    from gtdnet import StreamingRecognizer

    content = jpeg(3)
    wanted = StreamingRecognizer(causal, 1, "cpu")(read_jpeg(content), 6)
    with camera(watched, model="causal", topk=6) as connection:
        connection.ask()
        connection.send(content)
        scores = connection.ask()["scores"]
    assert [s["name"] for s in scores] == [s.name for s in wanted]
    found = [s["probability"] for s in scores]
    np.testing.assert_allclose(found, [s.probability for s in wanted], atol=1e-5)


def test_an_action_that_goes_on_is_an_event(watched: Any) -> None:
    """The tiny model is sure of most pictures; after half a second it says so."""
    with camera(watched, model="tiny") as connection:
        connection.ask()
        until, event = time.monotonic() + 15, None
        while event is None and time.monotonic() < until:
            connection.send(jpeg(1))
            event = connection.ask().get("event")
            time.sleep(0.1)
    assert event is not None and event["kind"] == "begin" and event["probability"] >= 0.6


def test_the_newest_picture_wins(watched: Any) -> None:
    dropped = watched.metric("gtdnet_camera_frames_dropped_total")
    with camera(watched, model="tiny") as connection:
        connection.ask()
        for i in range(60):
            connection.send(jpeg(i))
        messages = [connection.ask()]
        while messages[-1]["seen"] < 60:
            messages.append(connection.ask())
    assert len(messages) < 60
    assert watched.metric("gtdnet_camera_frames_dropped_total") - dropped == 60 - len(messages)


NO_PICTURES = {
    "text": "hello",
    "noise": b"no JPEG",
    "png": jpeg(0, kind="PNG"),
    "cut": jpeg(0, (400, 300))[:700],
    "large": jpeg(0, (4000, 3000)),
}


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_ends_it(watched: Any, name: str) -> None:
    with camera(watched) as connection:
        connection.ask()
        connection.send(NO_PICTURES[name])
        code = {"text": "no_picture", "large": "too_many_pixels"}.get(name, "undecodable")
        assert refused(connection, code, 1008).endswith(".")
    assert idle(watched)


def test_more_bytes_than_a_picture_has(watched: Any) -> None:
    with camera(watched) as connection:
        connection.ask()
        connection.send(b"0" * (MAX_BYTES + 1))
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=10)
        assert connection.close_code == 1009
    assert idle(watched)


def test_no_more_cameras_than_there_may_be(watched: Any) -> None:
    with camera(watched) as first, camera(watched) as second:
        assert first.ask()["model"] == second.ask()["model"] == "tiny"
        with camera(watched) as third:
            sentence = refused(third, "busy", 1013)
        assert sentence == "The server has as many requests as it takes; try again in 5 seconds."
    assert idle(watched)
    with camera(watched) as again:
        assert again.ask()["model"] == "tiny"


def test_an_unknown_model(watched: Any) -> None:
    with camera(watched, model="other") as connection:
        assert "choose tiny, causal" in refused(connection, "no_model", 1008)


def test_cameras_that_vanish(watched: Any) -> None:
    """Without a word: the connection is cut."""
    for _ in range(4):
        with camera(watched) as connection:
            connection.ask()
            connection.send(jpeg(1))
            connection.socket.close()
    assert idle(watched)


def test_a_camera_that_stands_still_is_let_go(serve: Any, model: Path) -> None:
    with serve(model, camera_idle=0.4) as running, camera(running) as connection:
        connection.ask()
        sentence = refused(connection, "idle", 1000)
    assert sentence == "No picture came for 0.4 seconds, so the camera was let go."


def test_the_end_is_told(serve: Any, model: Path) -> None:
    with serve(model) as running, camera(running) as connection:
        connection.ask()
        running.server.end()
        assert refused(connection, "ending", 1001).startswith("The server is ending")


def test_a_server_without_cameras(serve: Any, model: Path) -> None:
    with serve(model, cameras=0) as running, camera(running) as connection:
        assert refused(connection, "no_cameras", 1008).startswith("This server watches no cameras")


RATES = [
    ({"num_segments": 8}, 2.0, 8.0),
    ({"num_segments": 4}, 2.0, 5.0),  # not fewer
    ({"num_segments": 8, "sampling": "dense", "frame_interval": 8}, 2.56, 6.25),
    ({"num_segments": 8, "sampling": "rate", "rate": 5}, 1.6, 10.0),
    ({"num_segments": 16, "sampling": "dense", "frame_interval": 1}, 0.64, 25.0),  # not more
]


@pytest.mark.parametrize(("values", "window", "rate"), RATES)
def test_how_many_pictures_a_model_wants(
    values: dict[str, Any], window: float, rate: float
) -> None:
    spec = ClipSpec(("a", "b"), **values)
    assert (window_of(spec), rate_of(spec)) == (pytest.approx(window), rate)


def test_a_jpeg_is_read_as_it_is() -> None:
    assert read_jpeg(jpeg(2, (20, 10))).shape == (10, 20, 3)
    with pytest.raises(DecodeError):
        read_jpeg(b"")


# ------------------------------------------------------------------------- those that do not read


HANDSHAKE = (
    "GET /v1/camera HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
PING = bytes([0x89, 0x80 | 125, 0, 0, 0, 0]) + b"p" * 125


@contextmanager
def deaf(running: Any) -> Iterator[socket.socket]:
    """A camera that reads nothing."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect(running.address)
        connection.sendall(f"{HANDSHAKE}\r\n".encode())
        until = time.monotonic() + 10
        while running.metric("gtdnet_cameras ") == 0:
            assert time.monotonic() < until
            time.sleep(0.02)
        yield connection


def test_a_camera_that_does_not_read_is_let_go(
    serve: Any, causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers wait to be read, and so does the one that says goodbye."""
    monkeypatch.setattr("gtdnet.serve.connections.UNTAKEN", 0.5)
    with serve(causal, camera_idle=0.5) as running, deaf(running) as connection:
        with suppress(OSError):
            connection.sendall(PING * 40_000)
        assert idle(running), "it holds its place"


def test_pongs_that_nobody_reads_take_no_memory(served: Any) -> None:
    with deaf(served) as connection:
        connection.sendall(PING * 100_000)  # 13 MB
        time.sleep(0.5)
        waiting = [one.transport.get_write_buffer_size() for one in served.server.connections]
    assert max(waiting) < 1 << 20


BAD = {
    "a body": "Content-Length: 10\r\n",
    "chunks": "Transfer-Encoding: chunked\r\n",
    "many headers": "X: 1\r\n" * 200,
    "a long header": f"X: {'1' * 9000}\r\n",
}


@pytest.mark.parametrize("more", BAD.values(), ids=BAD)
def test_a_handshake_that_is_none_is_answered(served: Any, more: str) -> None:
    with socket.create_connection(served.address, timeout=10) as connection:
        connection.sendall(f"{HANDSHAKE}{more}\r\n".encode())
        answer = b""
        while data := connection.recv(1000):
            answer += data
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"This is no handshake of a WebSocket." in answer
