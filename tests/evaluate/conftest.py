"""A dataset of videos of one colour each, a model that sees colours, and a tiny real one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gtdnet.data.spec import ClipSpec
from gtdnet.models import ModelFile, create_model, save_model

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 230)}
CLASSES = ("blue", "green", "red")  # as a dataset of folders sorts them

MakeData = Callable[[Path, Mapping[str, Sequence[str]]], Path]


class ByColour(nn.Module):
    """Logits [N, 3], blue, green, red: how much of each colour the clip has."""

    def forward(self, clip: Tensor) -> Tensor:
        return 10 * clip.mean(dim=(1, 3, 4)).flip(1)


@pytest.fixture(scope="session")
def make_data() -> MakeData:
    """Writes list annotations, classes.txt and one video per entry of {class: shown colours}.

    "broken" is a file that is no video, "missing" none at all.
    """

    def make(root: Path, classes: Mapping[str, Sequence[str]]) -> Path:
        root.mkdir(parents=True)
        lines = []
        for label, (name, clips) in enumerate(classes.items()):
            for i, colour in enumerate(clips):
                path = root / f"{name}-{i}.mp4"
                lines.append(f"{path.name} {label}")
                if colour == "broken":
                    path.write_bytes(b"this is no video")
                elif colour != "missing":
                    _write_video(path, colour)
        (root / "val.txt").write_text("\n".join(lines))
        (root / "classes.txt").write_text("\n".join(classes))
        return root

    return make


def _write_video(path: Path, colour: str, num_frames: int = 6) -> None:
    """Brightness rises from frame to frame, so that order can be seen."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for i in range(num_frames):
            share = (i + 3) / (num_frames + 3)
            rgb = np.full((32, 48, 3), np.array(COLOURS[colour]) * share, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture
def by_colour() -> ModelFile:
    spec = ClipSpec(CLASSES, num_segments=4, short_side=32, crop_size=32)
    return ModelFile(ByColour(), spec)  # type: ignore[arg-type]


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    """A model file of a tiny GTDNet for the three classes, with scores that differ."""
    torch.manual_seed(0)
    model = create_model("gtdnet_resnet18", 3, 4, width=0.125)
    nn.init.normal_(model.classifier.weight, std=0.1)
    spec = ClipSpec(CLASSES, num_segments=4, short_side=36, crop_size=32)
    return save_model(tmp_path / "run" / "model.safetensors", model, spec)
