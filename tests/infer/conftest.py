"""Small videos of one colour at a time, a model that sees colours, and a tiny real one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from torch import Tensor, nn

from gtdnet.data.spec import ClipSpec
from gtdnet.infer import Recognizer
from gtdnet.models import ModelFile

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 230)}

VideoWriter = Callable[[Path, Sequence[str]], Path]


class ByColour(nn.Module):
    """Logits [N, 3] are the mean red, green and blue of the clip: it knows no order of frames."""

    def forward(self, clip: Tensor) -> Tensor:
        return 10 * clip.mean(dim=(1, 3, 4))


@pytest.fixture(scope="session")
def write_video() -> VideoWriter:
    """Writes an MP4 file at 10 frames/s with one frame of each of the named colours."""

    def write(path: Path, colours: Sequence[str]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
            for colour in colours:
                rgb = np.full((32, 48, 3), COLOURS[colour], np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
            container.mux(stream.encode(None))
        return path

    return write


@pytest.fixture
def by_colour() -> Recognizer:
    spec = ClipSpec(tuple(COLOURS), num_segments=4, short_side=32, crop_size=32)
    return Recognizer(ModelFile(ByColour(), spec), "cpu")  # type: ignore[arg-type]
