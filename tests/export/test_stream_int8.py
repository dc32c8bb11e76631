"""gtdnet export --stream --precision int8: the step of a stream with convolutions in int8."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from gtdnet import StreamingRecognizer, open_live
from gtdnet.data.spec import ClipSpec
from gtdnet.data.synthetic import write_dataset
from gtdnet.engines import example_clips, open_model
from gtdnet.engines.header import make_header
from gtdnet.engines.stream import Shown, StreamGraph
from gtdnet.errors import InputError
from gtdnet.export import ExportFailed, ExportOptions, agreement, export
from gtdnet.export.agreement import Reference
from gtdnet.export.stream import write_stream
from gtdnet.models import VideoClassifier, load_model, save_model

if not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf"))):
    pytest.skip("the extra 'export' is not installed", allow_module_level=True)

SPEC = ClipSpec(tuple("abcde"), num_segments=4, short_side=36, crop_size=32)


@pytest.fixture(scope="module")
def model_path(
    tiny_model: Callable[..., VideoClassifier], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    model = tiny_model("gtdnet_resnet18", stages=[5], fold_div=4, causal=True, width=0.0625)
    return save_model(tmp_path_factory.mktemp("model") / "model.safetensors", model, SPEC)


@pytest.fixture(scope="module")
def result(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("int8")
    data = root / "data"
    write_dataset(data, format="list", edition="easy", train=12, validation=12, size=36, workers=1)
    for name in ("train.txt", "val.txt"):
        lines = (data / name).read_text().splitlines()
        kept = [line for line in lines if int(line.split()[-1]) < SPEC.num_classes]
        (data / name).write_text("\n".join(kept))
    (data / "classes.txt").unlink()
    options = ExportOptions(
        str(model_path), str(root / "exported"), stream=True, precision="int8", data=str(data),
        calibration_clips=4, num_workers=0, force=True,
    )  # fmt: skip
    return export(options)


def test_the_file_and_its_report(result: dict[str, Any], model_path: Path) -> None:
    (row,) = result["formats"]
    assert row["files"] == ["stream.xml", "stream.bin"]
    assert 0 < row["relative_difference"] <= row["tolerance"] == 1
    assert set(result["left_out"]) == {"onnx", "torch"}
    report = yaml.safe_load(Path(result["output"], "quantization.yaml").read_text())
    assert report == result["quantization"]
    assert (report["clips"], report["calibration_clips"]) == (5, 4)
    assert "--precision int8" in report["command"] and "--stream" in report["command"]
    small, large = (p.stat().st_size for p in (Path(result["output"], "stream.bin"), model_path))
    assert small < 0.6 * large


def test_it_is_run_as_a_stream(result: dict[str, Any], model_path: Path) -> None:
    """By its folder, in int8 whatever else is asked for, one stream and several."""
    file = open_model(result["output"])
    assert (file.precision, file.stream) == ("int8", True)  # type: ignore[union-attr]
    own = StreamingRecognizer(model_path, 2, "cpu")
    other = StreamingRecognizer(result["output"], 2, "cpu", precision="fp32")
    live = open_live(result["output"], device="cpu")
    assert other.precision == "int8"
    rng = np.random.default_rng(0)
    for number in range(6):
        frames = rng.integers(0, 256, (2, 40, 52, 3), dtype=np.uint8)
        wanted, found = own.scores(frames), other.scores(frames)
        torch.testing.assert_close(found, wanted, rtol=0, atol=0.1)
        assert not torch.equal(found, wanted)
        assert live.scores([frames[0]], streams=[0], times=[number / 4]).shape == (1, 5)


def test_it_must_agree_in_int8_as_well(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In fp32 the same graph did."""
    monkeypatch.setattr("gtdnet.engines.openvino._quantised", lambda graph, shown, number: graph)
    monkeypatch.setattr(agreement, "TOLERANCES", {"fp32": 1e-4, "int8": 1e-9})
    monkeypatch.setattr(agreement, "ROUNDING", {"fp32": 2**-18, "int8": 1e-9})
    model_file = load_model(str(model_path))
    header = make_header(model_file, "int8", {}, stream=True)
    clips, path = example_clips(SPEC, 4), tmp_path / "stream.xml"
    message = r"the exported stream.xml is not the model: .* int8 allows 1e-09; nothing was written"
    with pytest.raises(ExportFailed, match=message):
        write_stream("openvino", path, Reference.of(model_file, clips), header, clips[:1])


def test_states_are_those_of_the_stream(model_path: Path) -> None:
    model_file = load_model(str(model_path))
    graph, clips = StreamGraph(model_file.model, SPEC).eval(), example_clips(SPEC, 2)
    shown = Shown(graph, clips)
    given = list(shown)
    assert len(shown) == len(given) == 4  # frames 1 and 3 of either clip
    assert [bool(inputs["started"].all()) for inputs in given] == [True] * 4
    state = graph.step.start()
    with torch.no_grad():
        for frame in clips[1, :3]:
            _, *state = graph(frame[None], *state)
    assert np.array_equal(given[3]["frames"], clips[1, 3:4].numpy())
    for name, kept in zip(graph.inputs[1:], state, strict=True):
        np.testing.assert_array_equal(given[3][name], kept.numpy())


def test_bf16_is_refused_with_what_to_do(model_path: Path, tmp_path: Path) -> None:
    options = ExportOptions(str(model_path), str(tmp_path / "out"), stream=True, precision="bf16")
    with pytest.raises(InputError, match=r"fp32 or int8; leave out --precision bf16 \(OpenVINO"):
        export(options)
