"""Who may ask: hosts, origins, tokens; and what every answer carries."""

from __future__ import annotations

import base64
import socket
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from gtdnet.errors import InputError
from gtdnet.hosts import host_of
from gtdnet.serve.guard import route_of
from gtdnet.serve.options import ServeOptions
from gtdnet.serve.run import check, is_loopback

TOKEN = "a token is long: 0123456789".replace(" ", "-")

HOSTS = [
    ("localhost:8000", "localhost"),
    ("LocalHost.", "localhost"),
    ("127.0.0.1:1", "127.0.0.1"),
    ("[::1]:8000", "::1"),
    ("evil.example:8000", "evil.example"),
    ("localhost:port", None),
    ("user@localhost", None),
    ("localhost/evil", None),
    ("", None),
]


@pytest.mark.parametrize(("given", "name"), HOSTS)
def test_the_name_in_a_host_header(given: str, name: str | None) -> None:
    assert host_of(given) == name


LOOPBACK = [
    ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
    ("0.0.0.0", False), ("::", False), ("192.168.1.2", False), ("example.org", False),
]  # fmt: skip


@pytest.mark.parametrize(("host", "is_it"), LOOPBACK)
def test_beyond_loopback_there_is_a_token(
    host: str, is_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GTDNET_TOKEN", raising=False)
    assert is_loopback(host) == is_it
    if is_it:
        assert check(ServeOptions(["model"], host=host)) is None
    else:
        with pytest.raises(InputError, match=r"give a --token .* or set GTDNET_TOKEN"):
            check(ServeOptions(["model"], host=host))
    monkeypatch.setenv("GTDNET_TOKEN", TOKEN)
    assert check(ServeOptions(["model"], host=host)) == TOKEN


@pytest.mark.parametrize(
    "token", ["short", "with a space in it", "ünïcödé-ünïcödé-ünïcödé", "\n" * 20]
)
def test_a_token_that_is_none(token: str) -> None:
    with pytest.raises(InputError, match="the token must"):
        check(ServeOptions(["model"], token=token))


HEADERS = [
    ({"Host": "evil.example"}, "wrong_host"),  # its name has been led here
    ({"Host": "evil.example:8000"}, "wrong_host"),
    ({"Host": "127.0.0.1@evil.example"}, "wrong_host"),
    ({"Host": "localhost"}, None),
    ({"Host": "[::1]:80"}, None),
    ({"Origin": "http://evil.example"}, "wrong_origin"),
    ({"Origin": "null"}, "wrong_origin"),
    ({"Origin": "http://127.0.0.1:1"}, "wrong_origin"),  # another server of this machine
    ({"Origin": "http://["}, "wrong_origin"),
    ({"Origin": "http://[::g]"}, "wrong_origin"),
    ({"Host": "localhost:5", "Origin": "http://localhost:5"}, None),
]


@pytest.mark.parametrize(("headers", "code"), HEADERS)
def test_hosts_and_origins(
    served: Any, short: Path, headers: dict[str, str], code: str | None
) -> None:
    response = served.client.put("/v1/predict", content=short.read_bytes(), headers=headers)
    if code is None:
        assert response.status_code == 200
        return
    served.refused(response, 421 if code == "wrong_host" else 403, code)
    with pytest.raises(InvalidStatus) as refused:
        _camera(served, headers)
    assert refused.value.response.status_code == response.status_code


def _camera(running: Any, headers: dict[str, str]) -> None:
    """A WebSocket that says such things of itself."""
    host = headers.get("Host", f"127.0.0.1:{running.address[1]}").rpartition("@")[2]
    others = {name: value for name, value in headers.items() if name != "Host"}
    with socket.create_connection(running.address) as sock:
        connect(f"ws://{host}/v1/camera", sock=sock, proxy=None, additional_headers=others).close()


def test_a_name_of_ones_own(serve: Any, model: Path) -> None:
    with serve(model, names="videos.example, other.example") as running:
        get = running.client.get
        assert get("/v2", headers={"Host": "Videos.Example:80"}).status_code == 200
        assert get("/v2", headers={"Host": "evil.example"}).status_code == 421


def test_a_token(serve: Any, model: Path, short: Path) -> None:
    with serve(model, token=TOKEN) as running:
        get = running.client.get
        for path in ("/", "/page.css", "/page.js", "/v2/health/live", "/v2/health/ready"):
            assert get(path).status_code == 200
        wrong = ({}, {"Authorization": "Bearer no"}, {"Authorization": f"Basic {TOKEN}"})
        for path in ("/v1/models", "/metrics", "/openapi.json", "/v2/models/tiny", "/nowhere"):
            for headers in wrong:
                response = get(path, headers=headers)
                sentence = running.refused(response, 401, "no_token")
                assert response.headers["www-authenticate"] == "Bearer"
                assert sentence.endswith("send it as Authorization: Bearer TOKEN.")
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert get("/v1/models", headers=right).status_code == 200
        answer = running.client.put("/v1/predict", content=short.read_bytes(), headers=right)
        assert answer.status_code == 200
        running.refused(running.put(short), 401, "no_token")

        address = f"ws://127.0.0.1:{running.address[1]}/v1/camera"
        coded = base64.urlsafe_b64encode(TOKEN.encode()).decode().rstrip("=")
        for protocols in (["gtdnet"], ["gtdnet", "bearer.bm8"], ["gtdnet", "bearer.&"]):
            with pytest.raises(InvalidStatus) as refused:
                connect(address, subprotocols=protocols, proxy=None)  # type: ignore[arg-type]
            assert refused.value.response.status_code == 401
        ours: Any = ["gtdnet", f"bearer.{coded}"]
        with connect(address, subprotocols=ours, proxy=None) as camera:
            assert camera.subprotocol == "gtdnet"  # and not the token
        with connect(address, additional_headers=right, proxy=None) as camera:
            assert '"rate"' in str(camera.recv())


def test_what_every_answer_carries(served: Any) -> None:
    for path in ("/", "/v1/models", "/nowhere"):
        headers = served.client.get(path).headers
        policy = headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "style-src 'self'"} <= set(policy)
        assert not any("unsafe" in part or "http" in part for part in policy)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers and "access-control-allow-origin" not in headers


def test_routes_as_metrics_count_them() -> None:
    """No client makes a metric grow without end."""
    assert route_of("/v1/predict") == "/v1/predict"
    assert route_of("/v2/models/a") == route_of("/v2/models/b") == "/v2/models/M"
    assert route_of("/v2/models/a/ready") == "/v2/models/M/ready"
    assert route_of("/anything") == route_of("/v1/predict/") == "other"
