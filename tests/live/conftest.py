"""A model that names the brightest of three colours, videos of colours, and what serves them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from gtdnet.data.calibration import Calibration, EventRules
from gtdnet.data.spec import ClipSpec
from gtdnet.models import create_model, save_model

COLOURS = {"red": (230, 10, 10), "green": (10, 230, 10), "blue": (10, 10, 230), "-": (90, 90, 90)}
NAMES = ("red", "green", "blue")
RULES = EventRules(smoothing=0.2, release=0.8, shortest=0.1)

Paint = Sequence[tuple[str, float]]
"""Colours ("-" for grey, in which nothing happens), and the seconds of each."""


@pytest.fixture(scope="session")
def colour_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights set by hand: each channel goes through the network as it is, to its own class."""
    model = create_model("gtdnet_resnet18", 3, 2, width=0.0625, causal=True)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var") or (name.endswith("bn1.weight") and value.ndim == 1):
                value.fill_(1.0)
            elif value.is_floating_point():
                value.zero_()
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Conv2d) and module.kernel_size in ((7, 7), (1, 1)):
                middle = module.kernel_size[0] // 2
                for channel in range(3):
                    module.weight[channel, channel, middle, middle] = 1.0
            elif "downsample" in name and isinstance(module, torch.nn.BatchNorm2d):
                module.weight.fill_(1.0)
        for channel in range(3):
            model.classifier.weight[channel, channel] = 10.0
    spec = ClipSpec(
        NAMES,
        num_segments=2,
        short_side=32,
        crop_size=32,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        sampling="dense",
        frame_interval=1,
        calibration=Calibration(background=0.6, rules=RULES),
    )
    return save_model(tmp_path_factory.mktemp("colours") / "model.safetensors", model, spec)


@pytest.fixture(scope="session")
def paint() -> Callable[..., Path]:
    """Writes a video of colours."""

    def write(
        path: Path, colours: Paint, *, size: tuple[int, int] = (64, 48), rate: int = 20,
        codec: str = "libx264",
    ) -> Path:  # fmt: skip
        with av.open(str(path), "w") as container:
            options = {"g": str(rate)} | ({"bf": "0"} if codec == "libx264" else {})
            track = container.add_stream(codec, rate=rate, options=options)
            track.width, track.height, track.pix_fmt = *size, "yuv420p"
            for colour, seconds in colours:
                rgb = np.full((size[1], size[0], 3), COLOURS[colour], np.uint8)
                for _ in range(round(seconds * rate)):
                    frame = av.VideoFrame.from_ndarray(rgb)
                    container.mux(track.encode(frame))
            container.mux(track.encode(None))
        return path

    return write


class Station:
    """An HTTP server on 127.0.0.1 that can be killed, frozen and resumed.

    Attributes:
        content: bytes of the video that it serves from now on.
        files: others, by their path.
        freezes_after: bytes after which a connection stays open and silent; None: none does.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.files: dict[str, bytes] = {}
        self.freezes_after: int | None = None
        self.requests: list[str] = []
        self._resumed = threading.Event()
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://user:secret@127.0.0.1:{self._port}/live.ts?token=hidden"

    def start(self) -> None:
        station = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                station.requests.append(self.path)
                self.send_response(200)
                content = station.files.get(self.path, station.content)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                stop = station.freezes_after
                try:
                    self.wfile.write(content[:stop])
                    if stop is not None:
                        self.wfile.flush()
                        station._resumed.wait(20)
                except OSError:
                    pass

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._server.server_close()

    def close(self) -> None:
        self._resumed.set()
        self.stop()


@pytest.fixture
def station() -> Iterator[Callable[[Path], Station]]:
    """Starts a server of a video."""
    stations: list[Station] = []

    def start(video: Path) -> Station:
        stations.append(Station(video.read_bytes()))
        return stations[-1]

    yield start
    for each in stations:
        each.close()
