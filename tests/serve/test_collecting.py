"""Collecting on the page: what comes over the WebSocket becomes clips, or nothing."""

from __future__ import annotations

import io
import json
import multiprocessing
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from gtdnet.data.decode import iter_frames
from gtdnet.data.formats import read_annotations
from gtdnet.errors import InputError
from gtdnet.serve.models import load_models
from gtdnet.serve.options import ServeOptions
from gtdnet.serve.run import Server, check

COLOURS = {"wave": (220, 30, 30), "nod": (30, 30, 220)}


def jpeg(name: str, size: tuple[int, int] = (64, 48)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, COLOURS[name]).save(buffer, "JPEG")
    return buffer.getvalue()


@contextmanager
def page(running: Any, **more: Any) -> Iterator[Any]:
    address = f"ws://127.0.0.1:{running.address[1]}/v1/collect"
    with connect(address, proxy=None, **more) as connection:
        connection.ask = lambda: json.loads(connection.recv(timeout=20))  # type: ignore[attr-defined]
        yield connection


def tell(connection: Any, what: str, name: str | None = None) -> dict[str, Any]:
    connection.send(json.dumps({"do": what, "name": name}))
    return connection.ask()


def show(connection: Any, name: str, pictures: int = 5, apart: float = 0.09) -> None:
    for _ in range(pictures):
        connection.send(jpeg(name))
        assert list(connection.ask()) == ["seen"]
        time.sleep(apart)


def refused(connection: Any, code: str) -> str:
    while "error" not in (message := connection.ask()):
        pass
    assert message["code"] == code
    with pytest.raises(ConnectionClosed):
        connection.recv(timeout=10)
    return message["error"]


def clips(folder: Path) -> list[str]:
    assert not [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".mp4" and p.suffix]
    return sorted(f"{p.parent.name}" for p in folder.glob("*/*.mp4"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mine"


def test_clips_are_those_that_training_reads(serve: Any, folder: Path) -> None:
    with serve(collect=str(folder), classes="wave,nod") as running, page(running) as sitting:
        about = sitting.ask()
        assert about["classes"] == [{"key": "1", "name": "wave"}, {"key": "2", "name": "nod"}]
        assert (about["counts"], about["recording"]) == ({"wave": 0, "nod": 0}, None)
        assert about["folder"] == str(folder)
        for name in ("wave", "nod", "nod"):
            assert tell(sitting, "start", name)["recording"] == name
            show(sitting, name)
            kept = tell(sitting, "stop")
            assert (kept["kept"], kept["recording"]) == (name, None)
        assert kept["counts"] == {"wave": 1, "nod": 2}
        assert running.metric("gtdnet_collected_clips_total") == 3
        undone = tell(sitting, "undo")
        assert (undone["counts"], undone["kept"]) == ({"wave": 1, "nod": 1}, None)
    assert clips(folder) == ["nod", "wave"]
    read = read_annotations(str(folder), "train")
    assert read.class_names == ("nod", "wave")
    for record in read.records:
        frames = np.stack(list(iter_frames(record.path)))
        assert frames.shape == (5, 48, 64, 3)
        wanted = COLOURS[read.class_names[record.classes[0]]]
        assert np.abs(frames.mean((0, 1, 2)) - wanted).max() < 12


def test_a_second_sitting_adds_to_the_folders_that_are_there(serve: Any, folder: Path) -> None:
    for count in (1, 2):
        classes = "wave,nod" if count == 1 else None
        with serve(collect=str(folder), classes=classes) as running, page(running) as sitting:
            assert "wave" in sitting.ask()["counts"]
            tell(sitting, "start", "wave")
            show(sitting, "wave")
            assert tell(sitting, "stop")["counts"]["wave"] == count
        time.sleep(1.1 if count == 1 else 0)  # sittings have names by the second
    assert clips(folder) == ["wave", "wave"]


def test_what_is_not_whole_leaves_nothing(serve: Any, folder: Path) -> None:
    """Dropped, too short, without a picture, with something else for one, or the page goes."""
    with serve(collect=str(folder), classes="wave,nod", camera_idle=0.5) as running:
        with page(running) as sitting:
            sitting.ask()
            tell(sitting, "start", "wave")
            show(sitting, "wave")
            assert tell(sitting, "drop")["kept"] is None
            tell(sitting, "start", "wave")
            show(sitting, "wave", 1, apart=0)
            assert tell(sitting, "stop")["kept"] is None
            tell(sitting, "start", "wave")
            time.sleep(0.4)
            assert tell(sitting, "stop") == {
                "counts": {"wave": 0, "nod": 0}, "recording": None, "kept": None,
            }  # fmt: skip
            tell(sitting, "start", "wave")
            show(sitting, "wave", 2)
            sitting.send(b"no picture")
            assert "not a JPEG" in refused(sitting, "undecodable")
        with page(running) as sitting:
            sitting.ask()
            tell(sitting, "start", "nod")
            show(sitting, "nod")
        with page(running) as sitting:
            assert sitting.ask()["recording"] is None
            tell(sitting, "start", "nod")
            show(sitting, "nod", 2)
            assert "No picture came for 0.5 seconds" in refused(sitting, "idle")
        with page(running) as sitting:
            assert sitting.ask()["counts"] == {"wave": 0, "nod": 0}
    assert clips(folder) == []


def test_limits(serve: Any, folder: Path, tmp_path: Path) -> None:
    options = {"collect": str(folder), "classes": "wave,nod"}
    with serve(**options, collect_seconds=0.5) as running, page(running) as sitting:
        assert sitting.ask()["seconds"] == 0.5
        with page(running) as other:
            assert "Another page is collecting" in refused(other, "busy")
        tell(sitting, "start", "wave")
        until = time.monotonic() + 10
        sitting.send(jpeg("wave"))
        while "seen" in (message := sitting.ask()) and time.monotonic() < until:
            time.sleep(0.05)
            sitting.send(jpeg("wave"))
        assert (message["kept"], message["recording"]) == ("wave", None)
        sitting.send(json.dumps({"do": "start", "name": "../nod"}))
        while "error" not in (message := sitting.ask()):
            pass
        assert message["code"] == "bad_message"
    assert clips(folder) == ["wave"]
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    with serve(**options, collect_megabytes=1e-4) as running, page(running) as sitting:
        sitting.ask()
        sitting.send(json.dumps({"do": "start", "name": "nod"}))
        assert "--collect_megabytes" in refused(sitting, "no_room")
    with serve(**options) as running, page(running) as sitting:
        sitting.ask()
        tell(sitting, "start", "nod")
        sitting.send(jpeg("nod", (2000, 1200)))
        assert "pixels" in refused(sitting, "too_many_pixels")
    assert clips(folder) == ["wave"]


def test_who_may_collect(serve: Any, folder: Path) -> None:
    """As of the rest: the token, the origin, the host; and a page that needs none of it."""
    token = "0123456789-0123456789"
    with serve(collect=str(folder), classes="wave", token=token) as running:
        for more in ({}, {"additional_headers": {"Authorization": "Bearer no"}}):
            with pytest.raises(InvalidStatus) as wrong, page(running, **more):
                pass
            assert wrong.value.response.status_code == 401
        bearer = {"Authorization": f"Bearer {token}"}
        with pytest.raises(InvalidStatus) as wrong:
            headers = {**bearer, "Origin": "https://evil.example"}
            with page(running, additional_headers=headers):
                pass
        assert wrong.value.response.status_code == 403
        with page(running, additional_headers=bearer) as sitting:
            assert sitting.ask()["counts"] == {"wave": 0}
        for path in ("/", "/collect"):
            assert "Collect clips" in running.client.get(path).text
        answer = running.client.put("/v1/predict", content=b"", headers=bearer)
        assert "has no models" in running.refused(answer, 404, "no_model")


def test_an_end_drops_what_is_being_cut(serve: Any, folder: Path) -> None:
    with serve(collect=str(folder), classes="wave") as running, page(running) as sitting:
        sitting.ask()
        tell(sitting, "start", "wave")
        show(sitting, "wave")
        running.server.end()
        refused(sitting, "ending")
    assert clips(folder) == []


def test_without_it_there_is_no_such_page(served: Any) -> None:
    assert served.client.get("/collect").status_code == 404
    assert served.client.get("/v1/models").json()["collects"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "there is nothing to serve; give a model, or --collect FOLDER"),
        ({"classes": "a,b"}, "there is nothing to serve"),
        ({"collect": "x", "classes": "a", "host": "0.0.0.0"}, "give a --token"),
    ],
)
def test_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(ServeOptions([], **options))


def test_classes_without_a_folder() -> None:
    with pytest.raises(InputError, match="--classes goes with --collect"):
        check(ServeOptions(["m"], classes="a"))


def test_a_folder_that_cannot_be_had_leaves_no_server(tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_text("hello")
    options = ServeOptions([], collect=str(file), classes="a", decoders=1, device="cpu")
    before = set(multiprocessing.active_children())
    with pytest.raises(InputError, match="is a file; give a folder for the clips"):
        Server(options, load_models([]), None)
    assert set(multiprocessing.active_children()) == before


def test_a_clip_that_cannot_be_written_counts_for_nothing(serve: Any, folder: Path) -> None:
    """Its folder is gone before it ends."""
    with serve(collect=str(folder), classes="wave") as running:
        with page(running) as sitting:
            sitting.ask()
            tell(sitting, "start", "wave")
            show(sitting, "wave")
            shutil.rmtree(folder / "wave")
            sitting.send(json.dumps({"do": "stop"}))
            assert "The clip was not written" in refused(sitting, "not_written")
        with page(running) as sitting:
            assert sitting.ask()["counts"] == {"wave": 0}
            tell(sitting, "start", "wave")
            show(sitting, "wave")
            assert tell(sitting, "stop")["counts"] == {"wave": 1}
    assert clips(folder) == ["wave"]
