"""A still picture where a video is expected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gtdnet.data.decode import read_frames
from gtdnet.errors import DecodeError


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WebP"])
def test_a_picture_is_no_video_and_is_told_so(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.mp4"  # whatever it is called
    Image.new("RGB", (32, 24)).save(path, kind)
    with pytest.raises(DecodeError) as found:
        read_frames(str(path), np.arange)
    assert found.value.reason == (
        f"it is a picture ({kind}), not a video; give a video, or a folder of its frames"
    )
