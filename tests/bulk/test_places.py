"""Files here and elsewhere, and what is shown of where they are; shards in an object store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gtdnet import places
from gtdnet.bulk import shards
from gtdnet.bulk.shards import Answer, Counts, Shards
from gtdnet.errors import InputError
from gtdnet.infer.answers import ClassScore
from gtdnet.places import FetchError, beside, fetched, is_url, shown

MIB = 2**20
TOO_LARGE = r"is larger than 1 MiB, the most that --max-mib lets be fetched"


@pytest.mark.parametrize(
    ("path", "url", "expected"),
    [
        ("clips/a.mp4", False, "clips/a.mp4"),
        ("a::b?c.mp4", False, "a::b?c.mp4"),
        ("C:/a.mp4", False, "C:/a.mp4"),
        ("s3://bucket/a.mp4", True, "s3://bucket/a.mp4"),
        ("https://me:word@host:8/a.mp4?X-Signature=1#x", True, "https://host:8/a.mp4"),
        ("ftp://me:w@rd@host/a", True, "ftp://host/a"),
        ("https://[bad@host/a", True, "https://..."),
    ],
)
def test_what_lets_people_in_is_not_shown(path: str, url: bool, expected: str) -> None:
    assert (is_url(path), shown(path)) == (url, expected)


@pytest.mark.parametrize(
    ("base", "name", "expected"),
    [
        ("lists/a.csv", "clips/a.mp4", "lists/clips/a.mp4"),
        ("a.csv", "/clips/a.mp4", "/clips/a.mp4"),
        ("a.csv", "s3://b/a.mp4", "s3://b/a.mp4"),
        ("s3://b/lists/a.csv", "a.mp4", "s3://b/lists/a.mp4"),
        ("https://h/lists/a.csv?key=1", "a.mp4", "https://h/lists/a.mp4"),
        ("file:///lists/a.csv", "a.mp4", "/lists/a.mp4"),
    ],
)
def test_paths_are_relative_to_the_table(base: str, name: str, expected: str) -> None:
    assert beside(base)(name) == expected


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A web server of tmp_path."""
    pytest.importorskip("aiohttp", reason="fsspec reads http with aiohttp")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_clip_from_elsewhere_is_a_copy_that_goes_again(server: str, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"a clip")
    with fetched(f"{server}/clip.mp4?key=1", 1) as path:
        assert (path.suffix, path.read_bytes()) == (".mp4", b"a clip")
    assert not path.exists() and not path.parent.exists()
    with pytest.raises(InputError, match="no such file"), fetched(f"{server}/none.mp4", 1):
        pass


def test_a_place_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp", reason="fsspec reads http with aiohttp")
    monkeypatch.setattr(places, "_FIRST_WAIT", 0.001)
    url = "http://127.0.0.1:9/a.mp4"
    with pytest.raises(FetchError, match="cannot be fetched"), fetched(url, 1):
        pass


class _Endless(_Quiet):
    """Gives 256 MiB of any file, and says so where the query is ?told; counts what it has sent."""

    sent = 0

    def do_GET(self) -> None:
        self.send_response(200)
        if self.path.endswith("?told"):
            self.send_header("Content-Length", str(256 * MIB))
        self.end_headers()
        try:
            for _ in range(256):
                _Endless.sent += self.wfile.write(bytes(MIB))
        except OSError:  # nobody listens any more
            pass


@pytest.mark.parametrize("query", ["?told", ""])
def test_no_more_of_a_clip_is_read_than_is_allowed(query: str) -> None:
    pytest.importorskip("aiohttp", reason="fsspec reads http with aiohttp")
    _Endless.sent = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), _Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.mp4{query}"
        with pytest.raises(InputError, match=TOO_LARGE), fetched(url, 1):
            pass
        server.shutdown()
    assert _Endless.sent < 64 * MIB  # what the sockets hold


@pytest.mark.parametrize("protocol", ["memory", "local"])
def test_a_store_is_asked_how_large_a_clip_is(
    protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setattr(places, "PROTOCOLS", (protocol,))
    folder = f"{protocol}://{tmp_path}"
    for name, size in (("fits", MIB), ("large", MIB + 1)):
        with fsspec.open(f"{folder}/{name}.mp4", "wb") as file:
            file.write(bytes(size))
    with fetched(f"{folder}/fits.mp4", 1) as path:
        assert path.stat().st_size == MIB
    system = type(fsspec.filesystem(protocol))
    monkeypatch.setattr(system, "get_file", lambda *_, **__: pytest.fail("it was fetched"))
    with pytest.raises(InputError, match=TOO_LARGE), fetched(f"{folder}/large.mp4", 1):
        pass


def test_shards_in_an_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec's store in memory stands for one: the same calls, and objects appear whole."""
    pytest.importorskip("pyarrow", reason="bulk writes Parquet: gtdnet[parquet]")
    monkeypatch.setattr(places, "PROTOCOLS", ("memory",))
    store = Shards("memory://bucket/answers")
    assert (store.read_run(), store.done("run")) == (None, {})
    with store.alone():
        store.begin({"bulk": 1})
        answers = [
            Answer("a", "https://me:word@host/a.mp4?sign=1", None, [ClassScore(2, "jump", 0.5)]),
            Answer("b", "b.mp4", "no such file"),
        ]
        assert store.write(7, answers, "run", None) == Counts(2, 1)
        store.write(8, answers, "another", None)
    assert store.read_run() == {"bulk": 1}
    assert store.done("run") == {7: Counts(2, 1)}
    with pytest.raises(InputError, match="holds files, but no run of gtdnet bulk"):
        store.begin({"bulk": 1})
    from pyarrow import parquet  # pyright: ignore[reportMissingImports]

    with store._open("part-00000007.parquet") as file:
        assert parquet.read_table(file).to_pylist() == [
            {
                "id": "a",
                "path": "https://host/a.mp4",
                "reason": None,
                "labels": [2],
                "names": ["jump"],
                "probabilities": [0.5],
            },
            {
                "id": "b",
                "path": "b.mp4",
                "reason": "no such file",
                "labels": None,
                "names": None,
                "probabilities": None,
            },
        ]


def test_a_run_file_of_others(tmp_path: Path) -> None:
    (tmp_path / shards.RUN).write_text("[]")
    with pytest.raises(InputError, match=r"_run.json is not ours"):
        Shards(str(tmp_path)).read_run()
