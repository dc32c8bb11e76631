"""What gtdnet export --stream wrote, run as a stream by this package."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from gtdnet import StreamingRecognizer, open_live
from gtdnet.data.spec import ClipSpec
from gtdnet.engines import open_model
from gtdnet.engines.header import METADATA_KEY
from gtdnet.errors import InputError
from gtdnet.export import ExportOptions, export
from gtdnet.infer import Recognizer
from gtdnet.models import create_model, save_model

if not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime", "openvino"))):
    pytest.skip("the extra 'export' is not installed", allow_module_level=True)

SPEC = ClipSpec(tuple("abcde"), 4, "rate", rate=5, short_side=36, crop_size=32)
FILES = ("stream.onnx", "stream.xml")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.safetensors, and one beside it with what was exported of it."""
    root = tmp_path_factory.mktemp("stream")
    torch.manual_seed(0)
    model = create_model("gtdnet_resnet18", 5, 4, width=0.0625, causal=True, fold_div=2)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if "temporal" in name or name.startswith("classifier"):
                nn.init.normal_(value, std=0.5)
    save_model(root / "model.safetensors", model, SPEC)
    export(ExportOptions(str(root / "model.safetensors"), str(root / "exported"), stream=True))
    return root


def video(frames: int, seed: int = 0) -> NDArray[np.uint8]:
    """Each frame has colours of its own."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 200, (frames, 1, 1, 3))
    return (colours + rng.integers(0, 56, (frames, 40, 52, 3))).astype(np.uint8)


def replayed(stream: StreamingRecognizer) -> torch.Tensor:
    """Three streams of which one waits now and then, and one begins anew."""
    videos, found = [video(7, seed) for seed in range(3)], []
    for at in range(7):
        if at == 4:
            stream.reset(1)
        of = [2, 0] if at in (2, 5) else [0, 1, 2]
        found.append(stream.scores([videos[s][at] for s in of], streams=of))
    return torch.cat(found)


@pytest.mark.parametrize("file", FILES)
def test_a_file_says_what_the_model_says(file: str, exported: Path) -> None:
    own = replayed(StreamingRecognizer(exported / "model.safetensors", 3, "cpu"))
    other = StreamingRecognizer(exported / "exported" / file, 3, "cpu")
    assert (other.spec, other.precision, other.device.type) == (SPEC, "fp32", "cpu")
    torch.testing.assert_close(replayed(other), own, rtol=0, atol=1e-4)
    assert own.std(dim=0).max() > 0.05


@pytest.mark.parametrize("file", FILES)
def test_one_stream_and_the_step_by_itself(file: str, exported: Path) -> None:
    own = StreamingRecognizer(exported / "model.safetensors", device="cpu")
    other = StreamingRecognizer(exported / "exported" / file, device="cpu")
    for frame in video(6):
        torch.testing.assert_close(other.scores(frame), own.scores(frame), rtol=0, atol=1e-4)
    mine, theirs = own.start(2), other.start(2)
    assert [t.shape for t in mine] == [t.shape for t in theirs]
    for pair in zip(video(3, 4), video(3, 5), strict=True):
        logits, mine = own.step(list(pair), mine)
        found, theirs = other.step(list(pair), theirs)
        torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-3)


def test_bf16_of_openvino(exported: Path) -> None:
    own = replayed(StreamingRecognizer(exported / "model.safetensors", 3, "cpu"))
    stream = StreamingRecognizer(exported / "exported" / "stream.xml", 3, "cpu", precision="bf16")
    assert stream.precision in ("bf16", "fp32")  # the latter on a processor without the former
    torch.testing.assert_close(replayed(stream), own, rtol=0, atol=0.1)
    with pytest.raises(InputError, match="onnx computes in fp32, not in bf16"):
        StreamingRecognizer(exported / "exported" / "stream.onnx", precision="bf16")


def test_live_by_the_folder(exported: Path) -> None:
    """At 10 frames/s every second one is shown."""
    own = open_live(exported / "model.safetensors", device="cpu")
    other = open_live(exported / "exported", device="cpu")
    assert other.describe() == own.describe()
    assert other.describe().startswith("causal: 5 frames a second are shown")
    shown = []
    for number, frame in enumerate(video(8)):
        assert own.due(0, number / 10) == other.due(0, number / 10)
        if other.due(0, number / 10):
            shown.append(number)
            found, wanted = (
                live.scores([frame], streams=[0], times=[number / 10]) for live in (other, own)
            )
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    assert shown == [0, 2, 4, 6]


# -------------------------------------------------------------------------------------- refusals


def test_files_that_are_no_streams(exported: Path, tmp_path: Path) -> None:
    options = ExportOptions(str(exported / "model.safetensors"), str(tmp_path / "clips"))
    options.formats = "onnx"
    export(options)
    clips = tmp_path / "clips" / "model.onnx"
    with pytest.raises(InputError, match="network for whole clips; export it with --stream"):
        StreamingRecognizer(clips)
    assert open_live(clips).describe().startswith("a window of the last 0.8 s")
    with pytest.raises(InputError, match="pickled code"):
        StreamingRecognizer(exported / "exported" / "stream.pt2")
    for file in FILES:
        with pytest.raises(InputError, match="without --stream"):
            Recognizer(open_model(exported / "exported" / file), "cpu")


@pytest.mark.parametrize(
    "changes", [{"crop_size": 36}, {"class_names": list("abc")}], ids=["crop", "classes"]
)
def test_a_header_of_another_graph(changes: dict[str, object], exported: Path) -> None:
    import onnx

    model = onnx.load(exported / "exported" / "stream.onnx")
    (entry,) = (p for p in model.metadata_props if p.key == METADATA_KEY)
    header = json.loads(entry.value)
    header["spec"].update(changes)
    header["fingerprint"] = ClipSpec.from_dict(header["spec"]).fingerprint
    entry.value = json.dumps(header)
    path = exported / f"{next(iter(changes))}.onnx"
    onnx.save(model, path)
    with pytest.raises(InputError, match="not the step of a stream with the classes and pictures"):
        StreamingRecognizer(path, device="cpu")
