"""A lost picture of a codec that numbers none leaves a gap in time, which is remarked on."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from gtdnet.data.check import check_dataset, inspect_clip


def write(path: Path, codec: str, lost: tuple[int, ...] = (), times: Any = range(30)) -> Path:
    """30 frames, 25 a second but for ``times``, without some of their packets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (48, 200, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        packets = []
        for i, time in enumerate(times):
            picture = np.ascontiguousarray(noise[:, 3 * i : 3 * i + 64])
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = time
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for number, packet in enumerate(packets):
            if number not in lost:
                container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("mpeg4", ".mp4"), ("mpeg4", ".mkv"), ("libvpx", ".webm"), ("libvpx-vp9", ".webm")],
)
def test_lost_pictures_leave_gaps(tmp_path: Path, codec: str, suffix: str) -> None:
    assert inspect_clip(str(write(tmp_path / f"a{suffix}", codec))).gaps == 0
    lost = inspect_clip(str(write(tmp_path / f"b{suffix}", codec, (9, 20))))
    assert (lost.error, lost.gaps) == (None, 2)
    varied = [i * i for i in range(30)]
    assert inspect_clip(str(write(tmp_path / f"c{suffix}", codec, times=varied))).gaps == 0


def test_it_is_a_remark(tmp_path: Path) -> None:
    write(tmp_path / "train/up/1.mkv", "mpeg4", (9,))
    write(tmp_path / "train/down/1.mkv", "mpeg4")
    (found,) = [f for f in check_dataset(tmp_path, workers=0).findings if f.code == "gaps"]
    assert (found.severity, found.count) == ("info", 1)
    assert found.examples[0].endswith("1.mkv: 1 gap in 29 frames")
