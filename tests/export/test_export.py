"""gtdnet export: files that answer as the model does, or no files."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

import gtdnet
from gtdnet.cli import main
from gtdnet.data.spec import ClipSpec
from gtdnet.data.synthetic import write_dataset
from gtdnet.engines import Choice, ExportedFile, base, example_clips, open_model
from gtdnet.engines import open as open_module
from gtdnet.engines.header import check_logits
from gtdnet.errors import InputError
from gtdnet.evaluate import EvaluateOptions, evaluate
from gtdnet.export import ExportFailed, ExportOptions, agreement, export, quantisation, run
from gtdnet.export.agreement import Agreement
from gtdnet.models import VideoClassifier, save_model
from gtdnet.nn import TemporalConv2d

if not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf"))):
    pytest.skip("the extra 'export' is not installed", allow_module_level=True)

NAMES = ("Moving up", "Moving down", "a \"b\" <c> & 'd'", "Öffnen\nund schließen", "拿起")


@pytest.fixture(scope="module")
def model_path(
    tiny_model: Callable[..., VideoClassifier], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    spec = ClipSpec(NAMES, num_segments=4, short_side=36, crop_size=32, mean=(0.4, 0.5, 0.6))
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    model = tiny_model("gtdnet_resnet18", stages=[5])
    return save_model(path, model, spec, provenance={"data": "mine"}, metrics={"val_top1": 0.5})


@pytest.fixture(scope="module")
def result(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of an export to all formats in fp32."""
    output = tmp_path_factory.mktemp("exports") / "deep" / "exported"
    return export(ExportOptions(str(model_path), str(output)))


@pytest.fixture(scope="module")
def exported(result: dict[str, Any]) -> Path:
    return Path(result["output"])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of five classes with the model's names."""
    root = tmp_path_factory.mktemp("data")
    made = root / "made"
    write_dataset(made, format="list", edition="easy", train=12, validation=12, size=36, workers=1)
    for name in ("train.txt", "val.txt"):
        lines = (made / name).read_text().splitlines()
        kept = [line for line in lines if int(line.split()[-1]) < len(NAMES)]
        (made / name).write_text("\n".join(kept))
    (made / "classes.txt").unlink()
    return made


def nothing_is_left(output: Path) -> bool:
    return not any(output.parent.glob(f"*{output.name}*"))


# -------------------------------------------------------------------------------- what is written


def test_all_formats(result: dict[str, Any], exported: Path) -> None:
    assert sorted(p.name for p in exported.iterdir()) == [
        "model.bin", "model.onnx", "model.pt2", "model.xml",
    ]  # fmt: skip
    assert [p.name for p in exported.parent.iterdir()] == ["exported"]
    assert [row["format"] for row in result["formats"]] == ["onnx", "openvino", "torch"]
    for row in result["formats"]:
        assert 0 <= row["relative_difference"] <= row["tolerance"] == 1e-4
        assert row["top1_agreement"] == 1
        size = sum((exported / name).stat().st_size for name in row["files"])
        assert row["megabytes"] == size / 1e6
    assert result["left_out"] == {}
    assert result["clips"] == {"source": "the built-in easy edition", "number": 12, "variants": 0}
    json.dumps(result)


@pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
def test_a_file_answers_as_the_model_it_was_made_of(
    name: str, exported: Path, model_path: Path
) -> None:
    recognizer, original = gtdnet.load(exported / name), gtdnet.load(model_path, "cpu")
    assert recognizer.spec == original.spec
    assert recognizer.metrics == {"val_top1": 0.5}
    assert recognizer.provenance["data"] == "mine"
    assert recognizer.provenance["exported_from"] == "model.safetensors"
    assert (recognizer.precision, recognizer.device.type) == ("fp32", "cpu")
    views = example_clips(original.spec, 6).unflatten(0, (3, 2))
    torch.testing.assert_close(
        recognizer.scores(views, 4), original.scores(views), rtol=0, atol=1e-5
    )
    with pytest.raises(InputError, match="holds no PyTorch network; give the model file"):
        recognizer.model  # noqa: B018


def test_torch_export_program(exported: Path, model_path: Path) -> None:
    extra = {"gtdnet": ""}
    program = torch.export.load(exported / "model.pt2", extra_files=extra)
    header = json.loads(extra["gtdnet"])
    assert header["spec"]["class_names"] == list(NAMES)
    original = gtdnet.load(model_path, "cpu")
    clips = example_clips(original.spec, 5)
    torch.testing.assert_close(program.module()(clips), original.engine(clips), rtol=0, atol=1e-4)


def test_files_hold_no_paths_of_the_machine(exported: Path) -> None:
    here = str(Path(gtdnet.__file__).parent).encode()
    for path in exported.iterdir():
        assert here not in path.read_bytes(), path


def test_evaluate_and_predict_read_it(
    exported: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"data": str(data), "num_workers": 0, "device": "cpu"}
    plain = evaluate(
        EvaluateOptions(str(exported / "model.xml"), output=str(tmp_path / "xml"), **options)
    )
    assert plain["protocol"]["engine"] == "openvino"
    assert plain["protocol"]["precision"] == "fp32"
    assert plain["model"]["name"] == "gtdnet_resnet18"
    video = str(next(data.rglob("*.mp4")))
    assert main(["predict", str(exported / "model.onnx"), video, "--topk=1", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["videos"][0]["scores"][0]["name"] in NAMES
    assert "engine onnx, fp32, on cpu\n" in err


def test_command(
    model_path: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(model_path), str(tmp_path / "a"), "--formats=torch"]
    assert main(words) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("format  file")
    assert table[1].split()[:2] == ["torch", "model.pt2"]
    assert main([*words, "--json"]) == 2  # what is there is not overwritten
    words[2] = str(tmp_path / "b")
    assert main([*words, "--clips", str(data), "--json"]) == 0
    out, _ = capsys.readouterr()
    assert json.loads(out)["clips"]["source"] == str(data)


def test_predict_takes_openvino_for_many_videos(
    model_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words = ["predict", str(model_path), str(next(data.rglob("*.mp4"))), "--device=cpu", "--csv"]
    assert main(words) == 0
    few = capsys.readouterr()
    assert "engine" not in few.err
    monkeypatch.setattr("gtdnet.infer.predict._WORTHWHILE", 1)
    assert main([*words, "--num_workers=0"]) == 0
    many = capsys.readouterr()
    assert "engine openvino, fp32, on cpu\n" in many.err
    answers = [
        [row["class"] for row in csv.DictReader(io.StringIO(text))] for text in (few.out, many.out)
    ]
    assert answers[0] == answers[1]
    assert len(answers[0]) == 5


def test_a_format_of_ones_own(
    model_path: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that is registered is exported to, checked, and predicts from its files."""
    from gtdnet.engines.onnx import OnnxEngine

    class Mine(OnnxEngine):
        name, suffixes = "mine", (".mine",)

    monkeypatch.setitem(base._registered, "mine", Mine)
    result = export(ExportOptions(str(model_path), str(tmp_path / "a"), formats="mine"))
    assert [row["files"] for row in result["formats"]] == [["model.mine"]]
    path = tmp_path / "a" / "model.mine"
    assert f"use it with: gtdnet predict {path} VIDEO" in run.summary(result)
    recognizer = gtdnet.load(path)
    assert (recognizer.engine.name, recognizer.precision) == ("mine", "fp32")
    video = next(data.rglob("*.mp4"))
    assert recognizer.predict(video)[0].label == gtdnet.load(model_path).predict(video)[0].label
    assert Mine.cannot_save("int8") == "int8 is made for openvino alone"


def test_nobody_is_told(exported: Path, model_path: Path, tmp_path: Path) -> None:
    """OpenVINO and NNCF make a folder "intel" at home for what they report."""
    program = f"""if True:
        import gtdnet
        from gtdnet.engines import example_clips
        from gtdnet.engines.openvino import quantise, to_openvino

        gtdnet.load({str(exported / "model.xml")!r})
        file = gtdnet.load_model({str(model_path)!r})
        quantise(to_openvino(file.model, file.spec), example_clips(file.spec))
        """
    environment = {k: v for k, v in os.environ.items() if k != "CI"} | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert not (tmp_path / "intel").exists()


def test_bf16(model_path: Path, tmp_path: Path) -> None:
    output = tmp_path / "half"
    result = export(ExportOptions(str(model_path), str(output), precision="bf16"))
    assert [row["format"] for row in result["formats"]] == ["openvino", "torch"]
    assert list(result["left_out"]) == ["onnx"]
    for row in result["formats"]:
        assert 0 < row["relative_difference"] <= row["tolerance"]
    assert open_model(output / "model.xml").precision == "bf16"  # type: ignore[union-attr]
    assert (output / "model.pt2").stat().st_size < 1.5e6  # weights of two bytes


def test_int8(
    model_path: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "int8"
    options = {"data": str(data), "num_workers": 0, "precision": "int8", "calibration_clips": 4}
    result = export(ExportOptions(str(model_path), str(output), force=True, **options))
    assert capfd.readouterr().out == ""  # NNCF's progress is not there, where results go
    assert [row["format"] for row in result["formats"]] == ["openvino"]
    assert set(result["left_out"]) == {"onnx", "torch"}
    report = yaml.safe_load((output / "quantization.yaml").read_text())
    assert report == result["quantization"]
    assert report["calibration_clips"] == 4
    assert report["top1_lost"] == pytest.approx(report["top1_before"] - report["top1_after"])
    assert "--precision int8" in report["command"]
    recognizer = gtdnet.load(output / "model.xml", precision="fp32")
    assert recognizer.precision == "int8"
    small, large = (p.stat().st_size for p in (output / "model.bin", model_path))
    assert small < 0.6 * large


# ------------------------------------------------------------------------------ what is refused


class Leaks(nn.Module):
    """A shift that does not see where a clip ends: wrong with several clips, and in silence."""

    def __init__(self, conv: TemporalConv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        # Zero for the first frame of the batch, so that one clip alone is right.
        before = torch.cat([torch.zeros_like(x[:1]), x[:-1]])
        of_clip = x.unflatten(0, (-1, 4))
        right = torch.cat([torch.zeros_like(of_clip[:, :1]), of_clip[:, :-1]], dim=1).flatten(0, 1)
        return self.conv(x) + (before - right).mean()


class Repeats(nn.Module):
    """Gives every clip of the batch what it computes for the first."""

    def __init__(self, conv: TemporalConv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        of_clip = self.conv(x).unflatten(0, (-1, 4))
        return of_clip[:1].expand_as(of_clip).flatten(0, 1)


class Constant(nn.Module):
    """Takes the number of clips that it is traced with for a constant."""

    def __init__(self, conv: TemporalConv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.reshape(int(x.shape[0]), *x.shape[1:]))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (Leaks, r"model\.xml is not the model: its logits differ by up to .* fp32 allows 0\.0001"),
        (Constant, r"model\.xml does not run on 1 and 3 clips at a time"),
    ],
)
def test_a_wrong_graph_is_found_and_nothing_is_left(
    form: Callable[[TemporalConv2d], nn.Module],
    message: str,
    model_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("gtdnet.engines.openvino.for_openvino", form)
    output = tmp_path / "wrong"
    with pytest.raises(ExportFailed, match=message):
        export(ExportOptions(str(model_path), str(output), formats="openvino"))
    assert nothing_is_left(output)
    assert main(["export", str(model_path), str(output), "--formats=openvino"]) == 1
    assert nothing_is_left(output)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("gtdnet export: the exported model.xml ")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_few_clips_find_a_wrong_graph(
    number: int, model_path: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for i in range(number):  # the same one: as hard as it can be
        shutil.copy(next(data.rglob("*.mp4")), clips / f"{i}.mp4")
    monkeypatch.setattr("gtdnet.engines.openvino.for_openvino", Repeats)
    options = ExportOptions(str(model_path), str(tmp_path / "wrong"), formats="openvino")
    options.clips = str(clips)
    with pytest.raises(ExportFailed, match=r"model\.xml is not the model"):
        export(options)
    assert nothing_is_left(tmp_path / "wrong")


def test_a_loss_of_accuracy_is_refused_unless_forced(
    model_path: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = {
        "top1_before": 0.9, "top1_after": 0.894, "top1_lost": 0.006,
        "top1_lost_interval": [0.001, 0.011], "clips": 1000, "failed_clips": 0,
    }  # fmt: skip
    monkeypatch.setattr(quantisation, "measure_loss", lambda *args: loss)
    monkeypatch.setattr("gtdnet.engines.openvino.quantise", lambda graph, clips: graph)
    output = tmp_path / "int8"
    options = {"precision": "int8", "data": str(data), "calibration_clips": 2}
    message = (
        r"int8 takes top-1 from 90\.00 % to 89\.40 %, 0\.60 points less \[0\.10, 1\.10; 95 % "
        r"confidence\] on 1000 clips, more than the 0\.5 points .*; nothing was written; .*--force"
    )
    with pytest.raises(ExportFailed, match=message):
        export(ExportOptions(str(model_path), str(output), **options))
    assert nothing_is_left(output)
    result = export(ExportOptions(str(model_path), str(output), **options, force=True))
    assert result["quantization"]["forced"] is True
    assert (output / "quantization.yaml").is_file()


def test_clips_of_the_user(
    model_path: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for i, video in enumerate(sorted(data.rglob("*.mp4"))[:3]):
        shutil.copy(video, clips / f"{i}.mp4")
    (clips / "broken.mp4").write_bytes(b"no video")
    options = ExportOptions(str(model_path), str(tmp_path / "a"), formats="openvino")
    options.clips = str(clips)
    result = export(options)
    assert result["clips"] == {"source": str(clips), "number": 3, "variants": 1}
    assert f"on 3 clips of {clips} and 1 made of them" in run.summary(result)
    assert "left out: " in capsys.readouterr().err
    options.clips, options.output = str(clips / "broken.mp4"), str(tmp_path / "b")
    with pytest.raises(InputError, match="none of the 1 clips can be read"):
        export(options)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"precision": "fp16"},
            r"unknown precision 'fp16' \(did you mean bf16\?\): choose one of fp32",
        ),
        ({"formats": "tflite"}, "unknown format 'tflite': choose from onnx, openvino, torch"),
        ({"precision": "int8"}, "--precision int8 needs --data"),
        ({"data": "somewhere"}, "--data is for --precision int8; leave it out for fp32"),
        ({"precision": "bf16", "formats": "onnx"}, "format onnx: ONNX Runtime has no convolutions"),
        ({"calibration_clips": 0}, "calibration_clips must be at least 1, got 0"),
        ({"calibration_clips": 300}, "--calibration_clips is for --precision int8; leave it out"),
        ({"validation_clips": 9, "precision": "bf16"}, "leave it out for bf16"),
        (
            {"precision": "int8", "data": "somewhere", "num_workers": -3},
            "num_workers must not be negative, got -3",
        ),
        ({"validation_clips": 0}, "validation_clips must be at least 1, got 0"),
        ({"model": "model.onnx"}, r"model\.onnx: is exported already"),
    ],
)
def test_bad_options(
    options: dict[str, Any], message: str, model_path: Path, tmp_path: Path
) -> None:
    given = {"model": str(model_path), "output": str(tmp_path / "out"), **options}
    with pytest.raises(InputError, match=message):
        export(ExportOptions(**given))
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_overwritten(model_path: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files already; choose another folder"):
        export(ExportOptions(str(model_path), str(tmp_path)))
    with pytest.raises(InputError, match="is a file already"):
        export(ExportOptions(str(model_path), str(tmp_path / "mine.txt")))


@pytest.mark.parametrize("place", [".", "link"])
def test_a_folder_that_is_there_and_empty_gets_the_files(
    place: str, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not replaced: it may be a mount, a link, or where somebody works."""
    folder, beside = tmp_path / "here", tmp_path / "elsewhere"
    folder.mkdir()
    beside.mkdir()
    (beside / "link").symlink_to(folder)
    monkeypatch.chdir(folder if place == "." else beside)
    before = folder.stat().st_ino
    options = ExportOptions(str(model_path), place, formats="torch")
    with monkeypatch.context() as patch:
        patch.setattr(agreement, "compare", lambda *logits: Agreement(12, math.nan, 1.0, 1.0))
        with pytest.raises(ExportFailed):
            export(options)
    assert list(folder.iterdir()) == []
    assert export(options)["output"] == place
    assert [p.name for p in folder.iterdir()] == ["model.pt2"]
    assert folder.stat().st_ino == before
    assert {p.name for p in tmp_path.iterdir()} == {"here", "elsewhere"}
    assert (beside / "link").is_symlink()


def test_what_appears_meanwhile_is_not_overwritten(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    output.mkdir()

    def provenance(*args: Any) -> dict[str, Any]:
        (output / "model.pt2").write_text("mine")
        return {}

    monkeypatch.setattr(run, "_provenance", provenance)
    with pytest.raises(InputError, match="holds files already"):
        export(ExportOptions(str(model_path), str(output), formats="torch"))
    assert [p.read_text() for p in output.iterdir()] == ["mine"]


def test_formats_that_are_not_installed(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    output = tmp_path / "out"
    result = export(ExportOptions(str(model_path), str(output)))
    assert [p.name for p in output.iterdir()] == ["model.pt2"]
    assert set(result["left_out"]) == {"onnx", "openvino"}
    assert 'pip install "gtdnet[export]"' in result["left_out"]["onnx"]
    with pytest.raises(InputError, match="format onnx: onnx is not installed"):
        export(ExportOptions(str(model_path), str(tmp_path / "b"), formats="onnx"))


def test_a_model_that_has_diverged(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        agreement, "in_batches", lambda compute, clips: torch.full((12, 5), math.nan)
    )
    with pytest.raises(InputError, match="its logits are not finite"):
        export(ExportOptions(str(model_path), str(tmp_path / "out")))


# -------------------------------------------------------------- files that are not what they seem


def copied(exported: Path, folder: Path) -> Path:
    return Path(shutil.copytree(exported, folder / "copy"))


def onnx_with(path: Path, change: Callable[[Any], None]) -> Path:
    import onnx

    model = onnx.ModelProto.FromString(path.read_bytes())
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def test_foreign_files(exported: Path, tmp_path: Path) -> None:
    folder = copied(exported, tmp_path)
    path = onnx_with(folder / "model.onnx", lambda model: model.ClearField("metadata_props"))
    with pytest.raises(InputError, match=r"holds no gtdnet header .* another program wrote it"):
        gtdnet.load(path)
    text = (folder / "model.xml").read_text()
    (folder / "model.xml").write_text(text.replace("<gtdnet ", "<other "))
    with pytest.raises(InputError, match="holds no gtdnet header"):
        gtdnet.load(folder / "model.xml")


def graph_of(
    inputs: dict[str, tuple[int, list[Any]]], outputs: dict[str, tuple[int, list[Any]]], *nodes: Any
) -> Callable[[Any], None]:
    """Puts another graph into an ONNX file, whose header stays."""
    from onnx import helper

    def change(model: Any) -> None:
        ins, outs = (
            [helper.make_tensor_value_info(name, *kind) for name, kind in some.items()]
            for some in (inputs, outputs)
        )
        model.graph.CopyFrom(helper.make_graph(list(nodes), "g", ins, outs))

    return change


CLIPS, LOGITS = ["n", 4, 3, 32, 32], ["n", 5]


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ({"clips": (2, CLIPS), "more": (1, [1])}, {"logits": (1, LOGITS)}, "has 2 inputs"),
        ({}, {"logits": (1, LOGITS)}, "has 0 inputs|cannot run it"),
        ({"clips": (2, CLIPS)}, {"logits": (1, LOGITS), "b": (1, LOGITS)}, "has 2 outputs"),
        ({"frames": (2, CLIPS)}, {"logits": (1, LOGITS)}, r"uint8\) 'frames' to "),
        ({"clips": (2, CLIPS)}, {"scores": (1, LOGITS)}, "to tensor.float. 'scores'"),
        ({"clips": (1, CLIPS)}, {"logits": (1, LOGITS)}, r"maps tensor\(float\) 'clips'"),
        ({"clips": (2, CLIPS)}, {"logits": (8, LOGITS)}, r"to tensor\(string\)|cannot run it"),
        (
            {"clips": (2, CLIPS[:4])},
            {"logits": (1, LOGITS)},
            r"maps clips \[None, 4, 3, 32\]",
        ),
        ({"clips": (2, [])}, {"logits": (1, [])}, r"maps clips \[\]"),
        ({"clips": (2, None)}, {"logits": (1, None)}, r"maps clips \[\]"),
        ({"clips": (2, CLIPS)}, {"logits": (1, CLIPS)}, r"to logits \[None, 4, 3, 32, 32\]"),
    ],
)
def test_other_graphs(
    inputs: dict[str, Any], outputs: dict[str, Any], message: str, exported: Path, tmp_path: Path
) -> None:
    from onnx import helper

    to, dtype = next(iter(outputs)), next(iter(outputs.values()))[0]
    nodes = [helper.make_node("Cast", [next(iter(inputs), "none")], [to], to=dtype)]
    nodes += [helper.make_node("Identity", [to], [name]) for name in list(outputs)[1:]]
    shutil.copy(exported / "model.onnx", tmp_path / "other.onnx")
    path = onnx_with(tmp_path / "other.onnx", graph_of(inputs, outputs, *nodes))
    with pytest.raises(InputError, match=rf"other\.onnx: .*({message})") as error:
        gtdnet.load(path).predict(np.zeros((8, 36, 36, 3), np.uint8))
    assert "\n" not in str(error.value)


def test_a_graph_that_fails_when_it_runs(exported: Path, tmp_path: Path) -> None:
    from onnx import helper

    node = helper.make_node("Cast", ["clips"], ["x"], to=1)
    reshape = helper.make_node("Reshape", ["x", "shape"], ["logits"])
    shape = helper.make_node("Constant", [], ["shape"], value_ints=[-1, 7919])
    change = graph_of({"clips": (2, CLIPS)}, {"logits": (1, LOGITS)}, node, shape, reshape)
    shutil.copy(exported / "model.onnx", tmp_path / "fails.onnx")
    path = onnx_with(tmp_path / "fails.onnx", change)
    with pytest.raises(InputError, match=r"fails\.onnx: ") as error:
        gtdnet.load(path).predict(np.zeros((8, 36, 36, 3), np.uint8))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('element_type="u8"', 'element_type="f32"', "maps f32 to f32|no OpenVINO model"),
        ('shape="?,4,3,32,32"', 'shape="?,?,3,32,32"', "its graph maps clips|no OpenVINO model"),
        ("<gtdnet ", '<gtdnet><a value="1"/></gtdnet><unused ', "gtdnet header"),
    ],
)
def test_other_openvino_graphs(
    old: str, new: str, message: str, exported: Path, tmp_path: Path
) -> None:
    folder = copied(exported, tmp_path)
    text = (folder / "model.xml").read_text()
    assert old in text
    (folder / "model.xml").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=rf"model\.xml: .*({message})"):
        gtdnet.load(folder / "model.xml")


def test_a_model_of_one_class(tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = ClipSpec(("only",), num_segments=4, short_side=36, crop_size=32)
    model = gtdnet.create_model("tsm_resnet18", 1, 4, width=0.125)
    path = save_model(tmp_path / "one.safetensors", model, spec)
    result = export(ExportOptions(str(path), str(tmp_path / "out"), formats="onnx"))
    for row in result["formats"]:
        assert row["relative_difference"] <= row["tolerance"]
    json.dumps(result, allow_nan=False)
    recognizer = gtdnet.load(tmp_path / "out" / "model.onnx")
    assert recognizer.predict(np.zeros((8, 36, 36, 3), np.uint8)) == [(0, "only", 1.0)]


@pytest.mark.parametrize(
    "logits",
    [np.zeros((2, 3), np.float32), np.zeros((3, 5), np.float32), np.zeros((2, 5)), ["a"], None],
)
def test_what_a_graph_gives_is_checked(logits: Any) -> None:
    spec = ClipSpec(NAMES, num_segments=4)
    check_logits("a.onnx", spec, 2, np.zeros((2, 5), np.float32))
    with pytest.raises(InputError, match=r"a\.onnx: its graph gave .* for 2 clips of 5 classes"):
        check_logits("a.onnx", spec, 2, logits)


def test_weights_outside_of_an_onnx_file_are_not_opened(exported: Path, tmp_path: Path) -> None:
    """Wherever the tensor is: an initializer, or deep within a node."""
    from onnx import TensorProto, helper

    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1000))

    def outside() -> TensorProto:
        tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[10])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=str(secret))
        return tensor

    def in_node(model: Any) -> None:
        body = helper.make_graph(
            [helper.make_node("Constant", [], ["t"], value=outside())], "body", [], []
        )
        model.graph.node.append(
            helper.make_node("If", ["c"], ["x"], then_branch=body, else_branch=body)
        )

    for i, change in enumerate((lambda model: model.graph.initializer.append(outside()), in_node)):
        path = tmp_path / f"{i}.onnx"
        shutil.copy(exported / "model.onnx", path)
        with pytest.raises(InputError, match="keeps weights in other files"):
            gtdnet.load(onnx_with(path, change))


def test_damaged_files(exported: Path, tmp_path: Path) -> None:
    folder = copied(exported, tmp_path)
    for name in ("model.onnx", "model.bin"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"model\.onnx: is no ONNX file, or a damaged one"):
        gtdnet.load(folder / "model.onnx")
    with pytest.raises(InputError, match=r"model\.xml: is no OpenVINO model, or a damaged one"):
        gtdnet.load(folder / "model.xml")
    (folder / "model.bin").unlink()
    with pytest.raises(InputError, match=r"model\.bin: no such file; an OpenVINO model is two"):
        gtdnet.load(folder / "model.xml")
    with pytest.raises(InputError, match=r"none\.onnx: no such file; gtdnet export makes one"):
        gtdnet.load(folder / "none.onnx")
    with pytest.raises(InputError, match=r"model\.bin: it holds only weights; give the \.xml"):
        gtdnet.load(folder / "model.bin")
    with pytest.raises(InputError, match=r"gtdnet does not read torch\.export programs"):
        gtdnet.load(folder / "model.pt2")


def test_weights_that_are_not_the_graphs(exported: Path, tmp_path: Path) -> None:
    """As long as its own: another model's, or partly lost."""
    folder = copied(exported, tmp_path)
    path = folder / "model.bin"
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + bytes(4096) + content[half + 4096 :])
    with pytest.raises(
        InputError, match=r"model\.bin: is not the file that model\.xml was written"
    ):
        gtdnet.load(folder / "model.xml")
    path.write_bytes(content)
    assert gtdnet.load(folder / "model.xml").engine.name == "openvino"
    text = (folder / "model.xml").read_text()
    (folder / "model.xml").write_text(text.replace("<gtdnet_bin_sha256 ", "<other "))
    with pytest.raises(
        InputError, match=r"model\.bin: is not the file that model\.xml was written"
    ):
        gtdnet.load(folder / "model.xml")


def test_a_graph_that_openvino_cannot_compile(exported: Path) -> None:
    from gtdnet.engines.openvino import OpenVinoEngine

    file = open_model(exported / "model.xml")
    assert isinstance(file, ExportedFile)
    with pytest.raises(InputError, match=r"model\.xml: OpenVINO cannot run it \("):
        OpenVinoEngine.open(file, Choice("openvino", torch.device("cpu"), "fp32", threads=-7))


@pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
def test_exported_files_of_the_hub(
    name: str, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which gives the files that it is asked for, and no other."""

    def download(source: str | Path) -> Path:
        repository, _, wanted = str(source).rpartition("/")
        assert repository == "hf://user/name@v1"
        return Path(shutil.copy(exported / wanted, tmp_path / wanted))

    monkeypatch.setattr(open_module, "find_file", download)
    recognizer = gtdnet.load(f"hf://user/name@v1/{name}")
    assert recognizer.spec.class_names == NAMES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(format_version=2), "has format 2, this version of gtdnet reads 1"),
        (lambda h: h["spec"]["class_names"].reverse(), "the file was changed by hand"),
        (lambda h: h.update(precision="fp64"), "the file was changed by hand"),
        (lambda h: h.pop("spec"), "header cannot be read"),
        (lambda h: h["spec"].update(crop_size=36), r"its graph maps clips \[None, 4, 3, 32, 32\]"),
    ],
)
def test_headers_changed_by_hand(
    change: Callable[[dict[str, Any]], None], message: str, exported: Path, tmp_path: Path
) -> None:
    def rewrite(model: Any) -> None:
        (entry,) = (p for p in model.metadata_props if p.key == "gtdnet")
        header = json.loads(entry.value)
        change(header)
        entry.value = json.dumps(header)

    path = tmp_path / "model.onnx"
    shutil.copy(exported / "model.onnx", path)
    with pytest.raises(InputError, match=message):
        gtdnet.load(onnx_with(path, rewrite))


def test_what_an_exported_model_cannot_do(exported: Path, data: Path) -> None:
    path = str(exported / "model.xml")
    with pytest.raises(InputError, match="num_segments=4; export the model again with --num_seg"):
        gtdnet.load(path, num_segments=8)
    with pytest.raises(InputError, match="runs with --engine openvino alone, not torch"):
        gtdnet.load(path, engine="torch")
    with pytest.raises(InputError, match="crop_size=32; export the model again with --crop"):
        evaluate(EvaluateOptions(path, str(data), crop_size=36, num_workers=0))
    with pytest.raises(InputError, match="is no int8 model; make one with gtdnet export"):
        gtdnet.load(path, precision="int8")
    with pytest.raises(InputError, match="engine onnx computes in fp32, not in bf16"):
        gtdnet.load(exported / "model.onnx", precision="bf16")
