"""A server on a free port, in a thread, with a tiny model and decoders of its own."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
import torch
from torch import nn

from gtdnet.data.spec import ClipSpec
from gtdnet.models import create_model, save_model
from gtdnet.serve.models import load_models
from gtdnet.serve.options import ServeOptions
from gtdnet.serve.run import Server, check, listen

CLASSES = ("clap", "jump", "nod", "run", "turn", "wave")


def make_model(folder: Path, name: str = "gtdnet_resnet18", **options: Any) -> Path:
    """A model file of 6 classes, with scores that differ."""
    torch.manual_seed(0)
    model = create_model(name, 6, 4, width=0.125, **options)
    nn.init.normal_(model.classifier.weight, std=2.0)
    spec = ClipSpec(CLASSES, num_segments=4, short_side=36, crop_size=32)
    folder.mkdir()
    return save_model(folder / "model.safetensors", model, spec)


@pytest.fixture(scope="module")  # what drives it has a loop of its own, which others may not meet
def browser() -> Iterator[Any]:
    """Debian's chromium with a fake camera; skips where it, or what drives it, is not there."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not (chromium := shutil.which("chromium") or shutil.which("chromium-browser")):
        pytest.skip("Debian's chromium is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without GTD blocks."""
    return make_model(tmp_path_factory.mktemp("models") / "plain", "tsn_resnet18")


@pytest.fixture(scope="session")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "causal", causal=True)


def _write_video(
    path: Path, seconds: float, size: tuple[int, int] = (64, 48), fps: int = 10
) -> Path:
    """A square that moves; the second half has other colours."""
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        total = round(seconds * fps)
        for i in range(total):
            colour = (40, 90, 160) if 2 * i < total else (190, 60, 30)
            rgb = np.full((height, width, 3), colour, np.uint8)
            rgb[8:24, (3 * i) % (width - 16) :][:, :16] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    return _write_video


@pytest.fixture(scope="session")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds."""
    return _write_video(tmp_path_factory.mktemp("videos") / "short.mp4", 2)


@pytest.fixture(scope="session")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds."""
    return _write_video(tmp_path_factory.mktemp("videos") / "long.mp4", 12)


class Running:
    """A running server, and what talks to it."""

    def __init__(self, server: Server, url: str) -> None:
        self.server, self.url = server, url
        self.client = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self.address = ("127.0.0.1", int(url.rpartition(":")[2]))

    def put(self, video: Path | bytes, **query: Any) -> Any:
        content = video if isinstance(video, bytes) else video.read_bytes()
        return self.client.put("/v1/predict", content=content, params=query)

    @contextmanager
    def halted(self) -> Iterator[None]:
        """Within it the decoders stand still, as over a video that takes very long."""
        pids = self.server.service.decoders.processes()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGCONT)
                except ProcessLookupError:  # it was replaced
                    continue

    def refused(self, response: Any, status: int, code: str) -> str:
        """The sentence of a refusal of this status and word."""
        assert (response.status_code, response.json()["code"]) == (status, code)
        assert response.headers["content-type"] == "application/json"
        sentence = response.json()["error"]
        assert sentence.endswith(".") and "\n" not in sentence
        return sentence

    def metric(self, name: str) -> float:
        """The sum of those whose line begins so."""
        lines = self.server.service.metrics.text().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


Serve = Callable[..., AbstractContextManager[Running]]


@contextmanager
def serving(*models: Path | str, **options: Any) -> Iterator[Running]:
    values = {"port": 0, "device": "cpu", "decoders": 1, "cameras": 1, **options}
    asked = ServeOptions([str(model) for model in models], **values)
    token = check(asked)
    listening = listen(asked.host, asked.port)
    server, ready = Server(asked, load_models(asked.models, "cpu"), token), threading.Event()
    urls: list[str] = []

    def note(url: str) -> None:
        urls.append(url)
        ready.set()

    thread = threading.Thread(target=server.run, args=(listening, note), daemon=True)
    thread.start()
    try:
        assert ready.wait(30)
        yield Running(server, urls[0])
    finally:
        server.end()
        thread.join(30)
        server.close()
        listening.close()
    assert not thread.is_alive()
    assert not server.service.spool.folder.exists()


@pytest.fixture(scope="session")
def serve() -> Serve:
    return serving


@pytest.fixture(scope="session")
def served(model: Path) -> Iterator[Running]:
    """One with the usual limits; tests leave it as it is."""
    with serving(model) as running:
        yield running
