from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from gtdnet import __version__
from gtdnet.cli import COMMANDS, main
from gtdnet.data.synthetic import write_dataset
from gtdnet.models import create_model
from gtdnet.train.config import TrainConfig
from gtdnet.train.run import TrainResult

TINY = [
    "--model=gtdnet_resnet18", "--model_options.width=0.125", "--num-segments=4", "--epochs=1",
    "--short-side=36", "--crop-size=32", "--batch-size=4", "--num-workers=0", "--device=cpu",
    "--precision=fp32",
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "easy"
    write_dataset(root, format="folder", edition="easy", train=12, validation=3, size=36, workers=1)
    return root


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run."""
    output = tmp_path_factory.mktemp("runs")
    words = ["train", "--data", str(data), "--output", str(output), "--name", "one", *TINY]
    assert main(words) == 0
    return output / "one"


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, TrainConfig]:
    """What gtdnet train would train, under "config", instead of training it."""
    seen: dict[str, TrainConfig] = {}

    def note(config: TrainConfig) -> TrainResult:
        seen["config"] = config
        return TrainResult(tmp_path, None, True, {}, 0, 0)

    monkeypatch.setattr("gtdnet.train.run.train", note)
    return seen


def fails(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    """The one line that bad input gives, on stderr alone, with exit code 2."""
    capsys.readouterr()
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    who, _, message = err.rstrip("\n").partition(": ")
    assert who == (f"gtdnet {words[0]}" if words[0] in COMMANDS else "gtdnet")
    return message


# ------------------------------------------------------------------------------------- overview


def test_import_stays_light() -> None:
    """And the command line tool answers before anything heavy is imported."""
    program = (
        "import sys, gtdnet; heavy = 'lightning matplotlib rich jsonargparse tensorboard'.split();"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_console_script() -> None:
    script = Path(sys.executable).with_name("gtdnet")
    done = subprocess.run([str(script), "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"gtdnet {__version__}\n")


def test_reader_that_goes_away() -> None:
    program = f"{sys.executable} -m gtdnet models | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode in (0, 1)


def test_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.title)}$", overview, re.MULTILINE)
    assert main([]) == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"example: {COMMANDS[name].example.split()[0]}" in text
    options = set(re.findall(r"^  --(\w+)", text, re.MULTILINE)) - {"help"}
    assert options >= {"json", "debug"}
    for block in re.split(r"\n  (?=-)|\n\n", text.partition("options:")[2]):
        option = " ".join(block.split())
        if option.startswith("--"):
            assert "default: " in option or "(required" in option


def test_help_shows_the_defaults_of_training(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for line in ("(type: float, default: 0.01)", "(type: int, default: 224)", "default: cosine"):
        assert line in text
    assert "gtdnet_r50_8f_ssv2" in text  # the recipes by name


# ------------------------------------------------------------------------------------ the words


def test_hyphens_are_underscores(config: dict[str, TrainConfig]) -> None:
    assert (
        main(["train", "--data", "x-y", "--num-segments", "4", "--model-options.fold-div=4"]) == 0
    )
    assert config["config"].num_segments == 4
    assert config["config"].model_options == {"fold_div": 4}
    assert config["config"].data == "x-y"


@pytest.mark.parametrize("option", ["--recipe", "--config"])
@pytest.mark.parametrize("order", [1, -1])
def test_options_win_over_the_recipe(
    config: dict[str, TrainConfig], option: str, order: int, tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text("lr: 3e-2\nepochs: 7\nmodel_options: {width: 0.5}\n")
    given = [option, str(tmp_path / "mine.yaml")]
    words = [["--epochs", "9"], given, ["--model_options.reduction", "8"]][::order]
    assert main(["train", *chain.from_iterable(words)]) == 0
    assert config["config"] == TrainConfig(
        lr=0.03, epochs=9, model_options={"width": 0.5, "reduction": 8}
    )


def test_recipes_by_name(config: dict[str, TrainConfig]) -> None:
    assert main(["train", "--recipe=gtdnet_r50_16f_k400", "--data", "k"]) == 0
    assert (config["config"].num_segments, config["config"].sampling) == (16, "dense")


def test_defaults_are_those_of_the_config(config: dict[str, TrainConfig]) -> None:
    assert main(["train"]) == 0
    assert config["config"] == TrainConfig()


def test_positional_words_may_be_named(
    data: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, clip = str(run / "model.safetensors"), str(next(data.glob("val/*/*")))
    answers = []
    for words in ([model, clip], ["--model", model, clip], [clip, f"--model={model}"]):
        capsys.readouterr()
        assert main(["predict", *words, "--json", "--num_workers", "0"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1] == answers[2]
    assert main(["check", "--data", str(data), "--workers", "1"]) == 0


# -------------------------------------------------------------------------------------- results


@pytest.mark.parametrize("command", ["models", "synth", "check", "evaluate", "predict", "resume"])
def test_json_is_all_that_stdout_gets(
    command: str, data: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(run / "model.safetensors")
    clip = str(next(data.glob("val/*/*")))
    root = str(tmp_path / "synth")
    counts = ["--train=2", "--validation=1", "--size=36", "--workers=1", "--edition=easy"]
    words, keys = {
        "models": (["models", "tsn_resnet18"], {"models"}),
        "synth": (["synth", root, *counts], {"root", "classes"}),
        "check": (["check", str(data), "--workers", "1"], {"splits"}),
        "evaluate": (
            ["evaluate", model, "--data", str(data), "--output", root, "--num_workers", "0"],
            {"top1", "protocol"},
        ),
        "predict": (["predict", model, clip, "--num_workers", "0"], {"videos"}),
        "resume": (["train", "--resume", str(run)], {"folder", "model", "finished", "best"}),
    }[command]
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    result = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert keys <= set(result)


def test_models_and_what_they_cost(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["models", "ts*_resnet18", "--complexity", "--views", "4x1x1,4x3x2,8x3x10"]
    assert main([*words, "--crop-size", "64"]) == 0
    out = capsys.readouterr().out
    head, *lines = (re.split(r"\s{2,}", line) for line in out.splitlines()[:3])
    assert head[:4] == ["model", "frames", "M parameters", "GMACs a view"]
    assert head[4:] == ["GMACs 3x2", "GMACs 3x10", "MiB inference", "MiB training"]
    assert lines == [
        ["tsm_resnet18", "4", "11.27", "0.59", "3.6", "2", "8"],
        ["tsm_resnet18", "8", "11.27", "1.19", "35.6", "4", "16"],
    ]
    assert main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["models"]
    assert [row["name"] for row in rows] == ["tsm_resnet18", "tsn_resnet18"]
    four, eight = rows[0]["complexity"]
    assert set(four["macs_of_protocol"]) == {"4x1x1", "4x3x2"}
    assert eight["macs_of_protocol"]["8x3x10"] == 30 * eight["macs"]


def test_train_prints_where_the_model_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", str(run)]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"model: {run}/model.safetensors \(validation top-1 \d+\.\d %\)\n", out)
    assert "all epochs are done" in err


def test_a_stopped_run_says_so_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = TrainResult(tmp_path, None, False, {}, 0, 0)
    monkeypatch.setattr("gtdnet.train.run.train", lambda config: stopped)
    assert main(["train", "--json"]) == 130
    assert json.loads(capsys.readouterr().out)["finished"] is False


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "gtdnet train: interrupted\n"),
        (InterruptedError("stopped; go on"), 130, "gtdnet train: stopped; go on\n"),
        (RuntimeError("out of\nluck"), 1, "gtdnet train: failed: RuntimeError: out of luck"),
    ],
)
def test_failures_of_our_own(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    message: str,
) -> None:
    def fail(config: TrainConfig) -> TrainResult:
        raise error

    monkeypatch.setattr("gtdnet.train.run.train", fail)
    assert main(["train"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_debug_shows_where(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        main(["check", str(tmp_path / "nowhere"), "--debug"])


# ------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("teach", "no command 'teach'; choose one of demo, models, synth"),
        ("check nowhere", "The dataset nowhere does not exist; check the path."),
        ("synth", "the following arguments are required: root (see gtdnet synth --help)"),
        ("synth new --format avi", "format 'avi' is unknown; choose one of something-v1"),
        ("models --num_classes many", "--num_classes: expected a whole number, got 'many' (see"),
        ("models --classes 3", "unrecognized arguments: --classes (see gtdnet models --help)"),
        ("models --num 3", "unrecognized arguments: --num (see"),  # no abbreviations
        ("models extra", "no model is called 'extra'; gtdnet models lists them all"),
        ("models --views 8x1x1", "--views goes with --complexity; give that too"),
        ("models --complexity --views 8x3", "views are written frames x crops x clips, as 8x3x2"),
        (
            "models --complexity --views 8x3x2 --num_segments 4",
            "--views 8x3x2 and --num_segments 4 both give the number of frames; leave one of",
        ),
        ("evaluate x", "the following arguments are required: --data (see"),
        ("evaluate nowhere.safetensors --data x", "nowhere.safetensors: no such model file"),
        ("train", "no dataset given; say where the clips are with --data PATH"),
        ("train --data nowhere", "The dataset nowhere does not exist; check the path."),
        ("train --lr fast", "--lr: expected a number, got 'fast' (see gtdnet train --help)"),
        ("train --epochs 1.5", "--epochs: expected a whole number, got '1.5'"),
        ("train --num_workers x", "--num_workers: expected a whole number, got 'x'"),
        ("train --multiscale maybe", "--multiscale: expected true or false, got 'maybe'"),
        ("train --milestones 3", "--milestones: expected a list such as [1,2]"),
        ("train --model_options 3", "--model_options: expected a mapping such as {width: 0.5}"),
        ("train --flip", "argument --flip: expected one argument"),
        ("train --epochs 0", "epochs must be at least 1, got 0"),
        ("train --recipe nothing", "no recipe 'nothing': give the path of a YAML file or one of"),
        ("train --resume nowhere", "nowhere: is not a run directory (it holds no config.yaml)"),
        ("train --resume runs/a --epochs=3", "--epochs cannot be changed by --resume, which takes"),
        ("train --resume=runs/a --config synth_easy", "--config cannot be changed by --resume"),
        ("train --overwrite 1", "unrecognized arguments: --overwrite 1"),
    ],
)
def test_bad_words(
    words: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fails(capsys, *words.split()).startswith(message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--num_segments 0", "num_segments must be a whole number of at least 1, got 0"),
        ("--model resnet51", "unknown model 'resnet51': choose one of gtdnet_resnet18"),
        ("--model_options.depth 3", "gtdnet_resnet18 has no option 'depth'; its options are"),
        ("--format avi", "There is no format 'avi'; the formats are something-v1"),
        ("--device tpu", "unknown device 'tpu': choose one of auto, cpu, cuda"),
        ("--batch_size 13", "the training split has 12 clips, fewer than one batch of 13; lower"),
        ("--pretrained nowhere.pth", "nowhere.pth: no such weights file"),
    ],
)
def test_bad_training_options(
    words: str, message: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = fails(capsys, "train", "--data", data, "--output", tmp_path, *TINY, *words.split())
    assert found.startswith(message)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("command", ["train", "evaluate", "predict"])
def test_cuda_where_there_is_none(
    command: str, data: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = run / "model.safetensors"
    words = {
        "train": ["--data", data, "--output", tmp_path, *TINY],
        "evaluate": [model, "--data", data, "--output", tmp_path / "out"],
        "predict": [model, next(data.glob("val/*/*"))],
    }[command]
    message = fails(capsys, command, *words, "--device", "cuda")
    assert message.startswith("device 'cuda' was asked for, but PyTorch sees no CUDA devices here")


def test_empty_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["check", tmp_path], ["train", "--data", tmp_path]):
        assert str(tmp_path) in fails(capsys, *command)


def test_unknown_class_in_an_annotation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(
        tmp_path / "v2", format="something-v2", edition="easy", train=2, validation=1, size=36,
        workers=1,
    )  # fmt: skip
    table = next((tmp_path / "v2").rglob("train.json"))
    rows = json.loads(table.read_text(encoding="utf-8"))
    rows[0]["template"] = "Juggling [something]"
    table.write_text(json.dumps(rows), encoding="utf-8")
    message = fails(capsys, "train", "--data", tmp_path / "v2", "--output", tmp_path)
    assert rows[0]["id"] in message
    assert "has an unknown label: 'Juggling something'" in message


def test_video_that_is_text(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    words = ["predict", str(run / "model.safetensors"), str(tmp_path / "text.mp4")]
    words += ["--num_workers", "0"]
    capsys.readouterr()
    assert main(words) == 2  # the only one
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"gtdnet predict: {tmp_path}/text.mp4: it is not a readable video")
    assert err.count("\n") == 1

    words.insert(3, str(next(data.glob("val/*/*"))))  # the other one is answered
    assert main(words) == 1
    assert "not a readable video" in " ".join(capsys.readouterr().out.split())
    assert main([*words, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["num_failed"] == 1


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_model_file_that_is_none(
    command: str, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_text("not a model")
    words = ["--data", data] if command == "evaluate" else [next(data.glob("val/*/*"))]
    message = fails(capsys, command, path, *words)
    assert message.startswith(f"{path}: not a model file (*.safetensors expected;")


def test_model_and_data_with_other_classes(
    run: Path, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = next(data.glob("val/*/*"))
    for split in ("train", "val"):
        folder = tmp_path / "other" / split / "juggling"
        folder.mkdir(parents=True)
        (folder / clip.name).write_bytes(clip.read_bytes())
    model = run / "model.safetensors"
    message = fails(capsys, "evaluate", model, "--data", tmp_path / "other", "--num_workers", "0")
    assert "juggling" in message
    assert "class" in message


def test_existing_run(run: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--data", data, "--output", run.parent, "--name", "one", *TINY]
    message = fails(capsys, *words)
    assert message == (
        f"{run}: exists already; choose another --name, or continue it with "
        f"gtdnet train --resume {run}"
    )


def test_a_switch_needs_no_value(run: Path, data: Path, tmp_path: Path) -> None:
    words = ["evaluate", str(run / "model.safetensors"), "--data", str(data)]
    words += ["--output", str(tmp_path / "results"), "--num_workers", "0"]
    assert main(words) == 0
    assert main(words) == 2  # would overwrite
    assert main([*words, "--overwrite"]) == 0
    assert main([*words, "--overwrite", "false"]) == 2


def test_ensemble_of_evaluations(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(run / "model.safetensors"), "--data", str(data), "--num_workers=0"]
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    assert main([*words, "--output", one]) == 0
    assert main([*words, "--output", other, "--crops=3", "--diagnose"]) == 0
    assert "top-1 by the order of frames" in capsys.readouterr().out
    words = ["ensemble", "--common", one, other, "--output", str(tmp_path / "both")]
    assert main([*words, "--weights", "1,2", "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert [m["weight"] for m in json.loads(out)["members"]] == [1, 2]
    assert main([*words, "--overwrite"]) == 0
    assert "against the best member" in capsys.readouterr().out
    message = fails(capsys, *words, "--overwrite", "--weights", "1,much")
    assert message == "--weights: expected numbers such as 1,2, got '1,much'"


def test_check_takes_splits_by_name(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(data), "--splits", "validation", "--workers=0", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["splits"]) == {"validation"}


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as TSM's code writes it: ResNet-18, jester's 27 classes."""
    state = create_model("tsm_resnet18", 27).state_dict()
    path = tmp_path_factory.mktemp("official") / "ckpt.best.pth.tar"
    renamed = {}
    for key, value in state.items():
        key = re.sub(r"^backbone\.", "base_model.", key.replace("classifier.", "new_fc."))
        key = re.sub(r"(layer\d\.\d)\.conv1\.", r"\1.conv1.net.", key)
        renamed[f"module.{key}"] = value
    torch.save({"epoch": 45, "arch": "resnet18", "state_dict": renamed}, path)
    return path


def test_convert(
    official: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "tsm.safetensors"
    words = ["convert", str(official), "--to", str(model), "--classes", "jester"]
    assert main([*words, "--num-segments", "4"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{model}: tsm_resnet18 (from temporal-shift-module), 27 classes, num_")
    assert "fold_div 8" in out
    assert out.endswith(f"use it with: gtdnet predict {model} VIDEO\n")
    clip = str(next(data.glob("val/*/*")))
    assert main(["predict", str(model), clip, "--device=cpu", "--json"]) == 0
    report = capsys.readouterr().out
    assert report.count("\n") == 1
    assert any(name in report for name in ("Swiping", "Thumb", "Hand", "gesture", "Fingers"))
    assert main([*words, "--overwrite", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["model"], result["depth"], result["num_classes"]) == ("tsm_resnet18", 18, 27)
    assert (result["path"], result["num_segments"]) == (str(model), 8)
    assert set(result) == {
        "path", "model", "source", "depth", "num_classes", "num_segments", "notes",
    }  # fmt: skip


def test_convert_refuses(
    official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "tsm.safetensors"
    message = fails(capsys, "convert", official, "--to", model, "--classes", "kinetics400")
    assert message == (
        f"kinetics400: has 400 class names, but the classifier of {official} has 27 classes; "
        f"give the list it was trained with"
    )
    missing = fails(capsys, "convert", tmp_path / "no.pth", "--to", model)
    assert missing == (
        f"{tmp_path}/no.pth: no such weights file; give the path of a .pth or .safetensors file"
    )
    assert "the following arguments are required: --to" in fails(capsys, "convert", official)
    assert not any(tmp_path.iterdir())
    model.write_bytes(b"mine")
    assert "exists" in fails(capsys, "convert", official, "--to", model)
    assert model.read_bytes() == b"mine"
