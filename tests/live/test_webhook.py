"""The webhook and the metrics, against real servers."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from gtdnet.errors import InputError
from gtdnet.live import webhook
from gtdnet.live.metrics import serve_metrics
from gtdnet.live.reports import SourceStats, Spread, StatsReport
from gtdnet.live.webhook import Webhook


class Listener:
    """Answers with the codes in turn, 200 after them; ``slow`` holds each answer back."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.headers: dict[str, str] = {}
        self.codes: list[int] = []
        self.go = threading.Event()
        self.go.set()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.heard.append(json.loads(body))
                listener.headers = dict(self.headers)
                listener.go.wait(10)
                self.send_response(listener.codes.pop(0) if listener.codes else 200)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setattr(webhook, "_PAUSE", 0.01)
    listener = Listener()
    yield listener
    listener.go.set()
    listener.server.shutdown()
    listener.server.server_close()


def test_messages_come_in_order(listener: Listener) -> None:
    hook = Webhook(listener.url.replace("//", "//me:p%40ss@"))
    for number in range(20):
        hook.send({"number": number})
    hook.close()
    assert [message["number"] for message in listener.heard] == list(range(20))
    assert hook.counts == {"sent": 20, "failed": 0, "dropped": 0}
    assert listener.headers["Content-Type"] == "application/json"
    assert listener.headers["Authorization"] == "Basic bWU6cEBzcw=="  # me:p@ss
    assert "p%40ss" not in hook.name and "p@ss" not in hook.name


def test_a_server_in_trouble_is_asked_again(listener: Listener) -> None:
    listener.codes = [503, 429, 200]
    hook = Webhook(listener.url)
    hook.send({"a": 1})
    hook.close()
    assert listener.heard == 3 * [{"a": 1}]
    assert hook.counts == {"sent": 1, "failed": 0, "dropped": 0}


@pytest.mark.parametrize(("codes", "tries"), [([404], 1), ([302], 1), ([500, 500, 500], 3)])
def test_what_fails_is_counted(listener: Listener, codes: list[int], tries: int) -> None:
    listener.codes = [*codes]
    hook = Webhook(listener.url)
    hook.send({"a": 1})
    hook.close()
    assert len(listener.heard) == tries  # no redirection is followed
    assert hook.counts == {"sent": 0, "failed": 1, "dropped": 0}
    assert hook.error.startswith(f"it answers {codes[0]}")


def test_nobody_is_there(listener: Listener) -> None:
    listener.server.shutdown()
    listener.server.server_close()
    hook = Webhook(listener.url)
    hook.send({"a": 1})
    hook.close()
    assert hook.counts == {"sent": 0, "failed": 1, "dropped": 0}
    assert hook.error == "Connection refused"


@pytest.mark.parametrize("rest", ["hook?token=se cret", "a b?token=secret", "x?token=secret\xe9"])
def test_no_reason_shows_what_is_secret(rest: str) -> None:
    """An address with a space or an umlaut, of which HTTP knows no such thing."""
    hook = Webhook(f"http://user:pass@127.0.0.1:1/{rest}")
    hook.send({})
    hook.close()
    assert hook.counts == {"sent": 0, "failed": 1, "dropped": 0}
    assert hook.error == "it is no address; write spaces and other letters in it as %20"


def test_a_slow_server_never_holds_up_the_watch(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "_MOST", 8)
    listener.go.clear()
    hook = Webhook(listener.url)
    start = time.monotonic()
    for number in range(100):
        hook.send({"number": number})
    hook.close(patience=0.1)
    assert time.monotonic() - start < 1
    assert hook.counts["sent"] == hook.counts["failed"] == 0
    assert hook.counts["dropped"] == 100


@pytest.mark.parametrize("url", ["ftp://h/x", "nonsense", "http://", "file:///etc/passwd"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(InputError):
        Webhook(url)


def test_metrics() -> None:
    pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")
    spread, none = Spread(2.0, 5.0), Spread(None, None)
    source = SourceStats('do"or', 10, 5, 2, 1, 3, 4, 25.0, spread, none, None)
    close = serve_metrics(lambda: StatsReport(0.0, 1.0, spread, [source]), 0)
    with urllib.request.urlopen(f"http://127.0.0.1:{close.port}/metrics") as answer:
        text = answer.read().decode()
    close()
    assert 'gtdnet_watch_frames_total{source="do\\"or"} 10.0' in text
    assert 'gtdnet_watch_dropped_total{source="do\\"or"} 2.0' in text
    assert 'gtdnet_watch_decode_seconds{quantile="0.95",source="do\\"or"} 0.005' in text
    assert 'gtdnet_watch_inference_seconds{quantile="0.5"} 0.002' in text


def test_metrics_are_for_this_machine(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """A page of a stranger that leads its name here reads nothing; who is silent is let go."""
    pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")
    monkeypatch.setattr("gtdnet.live.metrics._SILENCE", 0.3)
    close = serve_metrics(lambda: StatsReport(0.0, 1.0, Spread(None, None), []), 0)
    for host, status in (("evil.example", 421), ("localhost:9100", 200), ("127.0.0.1", 200)):
        asked = urllib.request.Request(f"http://127.0.0.1:{close.port}/", headers={"Host": host})
        try:
            with urllib.request.urlopen(asked) as answer:
                assert (host, answer.status) == (host, status)
        except urllib.error.HTTPError as error:
            assert (host, error.code) == (host, status)
            assert b"gtdnet" not in error.read()
    with socket.create_connection(("127.0.0.1", close.port), timeout=5) as silent:
        silent.sendall(b"GET")
        assert silent.recv(1) == b""
    close()
    assert capfd.readouterr().err == ""
