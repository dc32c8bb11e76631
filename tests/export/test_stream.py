"""gtdnet export --stream: a causal model's step, its memory among the inputs and outputs."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gtdnet.cli import main
from gtdnet.data.spec import ClipSpec
from gtdnet.engines import ENGINES, build_engine, example_clips
from gtdnet.engines.stream import Step, StreamGraph
from gtdnet.errors import InputError
from gtdnet.export import ExportFailed, ExportOptions, export
from gtdnet.export.agreement import Reference
from gtdnet.models import ModelFile, VideoClassifier, create_model, save_model
from gtdnet.models.stream import State

if not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime", "openvino"))):
    pytest.skip("the extra 'export' is not installed", allow_module_level=True)

SPEC = ClipSpec(tuple("abcde"), num_segments=4, short_side=36, crop_size=32)
TinyModel = Callable[..., VideoClassifier]


@pytest.fixture(scope="module")
def model_path(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tiny_model("gtdnet_resnet18", stages=[5], fold_div=4, causal=True)
    return save_model(tmp_path_factory.mktemp("model") / "model.safetensors", model, SPEC)


@pytest.fixture(scope="module")
def result(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("exports") / "exported"
    return export(ExportOptions(str(model_path), str(output), stream=True))


def test_all_formats_agree_with_the_model(result: dict[str, Any]) -> None:
    rows = {row["format"]: row for row in result["formats"]}
    assert {name: row["files"] for name, row in rows.items()} == {
        "onnx": ["stream.onnx"],
        "openvino": ["stream.xml", "stream.bin"],
        "torch": ["stream.pt2"],
    }
    for row in rows.values():
        assert row["relative_difference"] <= row["tolerance"] == 1e-4
        assert row["top1_agreement"] == 1
        assert all(Path(result["output"], file).stat().st_size for file in row["files"])
    assert result["stream"] is True


def test_the_program_of_the_page_runs(
    result: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "streaming.md").read_text(encoding="utf-8")
    program = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[2]
    monkeypatch.chdir(Path(result["output"]).parent)
    exec(compile(program, "docs/streaming.md", "exec"), {})
    assert len(capsys.readouterr().out.split()) == 8


@pytest.mark.parametrize("file", ["stream.onnx", "stream.xml"])
def test_it_is_no_model_for_clips(
    file: str, result: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(Path(result["output"], file))
    assert main(["predict", path, str(Path(__file__)), "--device", "cpu"]) == 2
    assert "give a file of gtdnet export without --stream" in capsys.readouterr().err


def test_whole_clips_in_openvino(tiny_model: TinyModel) -> None:
    """Each frame has its window there as well, for any number of clips."""
    model = tiny_model("gtdnet_resnet18", stages=[5], fold_div=4, causal=True, order=3)
    own = build_engine(model, SPEC, "torch", device="cpu", precision="fp32")
    other = build_engine(model, SPEC, "openvino", device="cpu", precision="fp32")
    for number in (1, 3):
        clips = example_clips(SPEC, number)
        torch.testing.assert_close(other(clips), own(clips), rtol=0, atol=1e-4)


def test_a_step_that_forgets_is_found(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(graph: StreamGraph, path: Path, header: str) -> Step:
        def step(frames: Tensor, state: State) -> tuple[Tensor, State]:
            logits, *after = graph(frames, torch.zeros_like(state[0]), *state[1:])
            return logits, tuple(after)

        return step

    monkeypatch.setattr(ENGINES["torch"], "save_stream", forgetful)
    options = ExportOptions(str(model_path), str(tmp_path / "out"), formats="torch", stream=True)
    with pytest.raises(ExportFailed, match=r"stream.pt2 is not the model.*nothing was written"):
        export(options)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be(tiny_model: TinyModel, model_path: Path, tmp_path: Path) -> None:
    ahead = tiny_model("gtdnet_resnet18", stages=[5])
    path = save_model(tmp_path / "model.safetensors", ahead, SPEC)
    with pytest.raises(InputError, match="cannot be run frame by frame, for its frames see later"):
        export(ExportOptions(str(path), str(tmp_path / "out"), stream=True))
    with pytest.raises(
        InputError, match="--stream writes fp32 or int8; leave out --precision bf16"
    ):
        options = ExportOptions(str(model_path), str(tmp_path / "out"), stream=True)
        options.precision = "bf16"
        export(options)
    assert not (tmp_path / "out").exists()


def test_an_untrained_network_is_called_one(tiny_model: TinyModel) -> None:
    """Rounding alone moves its logits by more than is allowed; the remark says why."""
    torch.manual_seed(0)
    untrained = create_model("gtdnet_resnet50", 5, 4, width=0.25, causal=True).eval()
    remark = Reference.of(ModelFile(untrained, SPEC), example_clips(SPEC, 4)).sensitivity()
    assert "sensitive to rounding, for its batch norms hold the mean 0" in remark
    assert "it has never been trained; export it when it is" in remark
    trained = ModelFile(tiny_model("gtdnet_resnet18", stages=[5], causal=True), SPEC)
    assert Reference.of(trained, example_clips(SPEC, 4)).sensitivity() == ""
    for norm in (m for m in untrained.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean.add_(0.01)  # type: ignore[union-attr]
    remark = Reference.of(ModelFile(untrained, SPEC), example_clips(SPEC, 4)).sensitivity()
    assert "sensitive to rounding, as one that has not been trained can be" in remark
