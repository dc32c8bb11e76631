from __future__ import annotations

import base64
import io
from pathlib import Path

import av
import numpy as np
import pytest

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.report.frames import clip_pictures, find_clips


def test_frames_are_what_the_video_shows(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(20):
            rgb = np.full((64, 96, 3), (10 * i, 250 - 10 * i, 20), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    pictures = clip_pictures(str(path), ClipSpec(("push",), num_segments=10, frames_per_segment=2))
    assert [picture.number for picture in pictures] == [1, 3, 7, 9, 11, 13, 17, 19]
    for picture in pictures:
        assert (picture.width, picture.height) == (168, 112)
        content = base64.b64decode(picture.uri.partition(",")[2])
        with av.open(io.BytesIO(content), format="mjpeg") as image:
            shown = next(image.decode(video=0)).to_ndarray(format="rgb24")
        expected = (10 * picture.number, 250 - 10 * picture.number, 20)
        assert np.abs(shown.mean((0, 1)) - expected).max() < 8


def test_a_dataset_that_moved_with_its_run_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = tmp_path / "new" / "runs" / "one" / "eval"
    clip = tmp_path / "new" / "data" / "tiny" / "val" / "walk" / "a.mp4"
    for folder in (evaluation, clip.parent, clip.parents[2] / "train" / "walk"):
        folder.mkdir(parents=True)
    clip.touch()
    monkeypatch.chdir(tmp_path)
    protocol = {"protocol": {"split": "validation"}}
    for recorded in ("data/tiny", "/no/such/place/data/tiny"):
        metrics = {"data": {"path": recorded, "format": "folder"}, **protocol}
        assert list(find_clips(metrics, None, evaluation).values()) == [str(clip)]
    metrics = {"data": {"path": "/elsewhere/tiny", "format": "folder"}, **protocol}
    with pytest.raises(InputError, match=r"no longer at /elsewhere/tiny; say where .* --data"):
        find_clips(metrics, None, evaluation)
    assert find_clips(metrics, str(clip.parents[2]), evaluation)
