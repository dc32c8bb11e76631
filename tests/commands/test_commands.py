"""What all commands have in common."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any

import pytest
import torch

from gtdnet.cli import COMMANDS, main
from gtdnet.commands.parser import Parser


def command_of(name: str) -> Any:
    return import_module(f"gtdnet.commands.{name.replace(' ', '_')}")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stop:
        main([*name.split(), "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.endswith(f"example:\n  {command_of(name).EXAMPLE}\n")
    assert text.startswith(f"usage: gtdnet {name} ")
    assert f"{COMMANDS[name][1:]}." in text
    options = set(re.findall(r"^  --(\w+)", text, re.MULTILINE)) - {"help"}
    assert options >= {"json", "debug", "import"}
    blocks = re.split(r"\n  (?=-)|\n\n", text.partition("\n\n")[2].partition("\nexample:")[0])
    given = [" ".join(block.split()) for block in blocks if block.strip().startswith("--")]
    assert len(given) >= 3
    for option in given:
        told = "default: " in option or "required" in option
        assert told or option.startswith(("--debug ", "--import ")) or "model_options" in option
    assert not re.search(r"default: \)|\bnull\b|type: |NoneType|\(default: .*default: ", text)


def test_help_fits_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in COMMANDS:
        with pytest.raises(SystemExit):
            main([*name.split(), "--help"])
        text = capsys.readouterr().out
        typed = text.partition("\nexample:\n")[2].replace("\\\n", " ")
        assert typed.split() == command_of(name).EXAMPLE.split()
        assert [line for line in text.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_both_spellings_of_every_option(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(command_of(name), "run", lambda args: (seen.append(vars(args)), None, ""))
    parser = Parser()
    command_of(name).fill(parser)
    positional = [str(a.dest) for a in parser._actions if not a.option_strings]
    options = {o: a for o, a in parser._option_string_actions.items() if o.strip("-") == o[2:]}
    values = {int: "13", float: "0.75", str: "new", list: "[1]", dict: "{a: 1}", NoneType: "1"}

    def value(action: Any) -> str:
        if action.dest == "recipe":
            return "synth_easy"
        if action.dest == "antialias" or isinstance(action.default, bool):
            return str(not action.default).lower()
        return values[type(action.default)]

    given = {o: value(a) for o, a in options.items() if o != "--help" and not o.endswith("+")}
    for separator in ("_", "-"):
        main(
            [
                *name.split(),
                *(f"--{p.replace('_', separator)}=word" for p in positional),
                *(f"{o[:2]}{o[2:].replace('_', separator)}={v}" for o, v in given.items()),
            ]
        )
    underscores, hyphens = seen
    assert underscores == hyphens
    for option in given:
        assert underscores[options[option].dest] != options[option].default
    for dest in positional:
        assert underscores[dest] in ("word", ["word"])


@pytest.mark.parametrize("command", ["models", "synth", "check", "evaluate", "predict", "resume"])
def test_json_is_all_that_stdout_gets(
    command: str, data: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(run / "model.safetensors")
    clip = str(next(data.glob("val/*/*")))
    root = str(tmp_path / "synth")
    counts = ["--train=2", "--validation=1", "--size=36", "--num-workers=1", "--edition=easy"]
    words, keys = {
        "models": (["models", "tsn_resnet18"], {"models"}),
        "synth": (["synth", root, *counts], {"root", "classes"}),
        "check": (["check", str(data), "--num_workers", "1"], {"splits"}),
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("check nowhere", "The dataset nowhere does not exist; check the path."),
        ("synth", "the following arguments are required: root (see gtdnet synth --help)"),
        ("synth new --format avi", "format 'avi' is unknown; choose one of something-v1"),
        (
            "synth new --format foldr",
            "format 'foldr' is unknown (did you mean folder?); choose",
        ),
        ("synth new --edition ful", "edition 'ful' is unknown (did you mean full?); choose one"),
        ("evaluate x --data . --splt train", "unrecognized option --splt; did you mean --split? ("),
        (
            "train --data . --schedule cosin",
            "unknown schedule 'cosin' (did you mean cosine?): ",
        ),
        ("train --recipe synth-easy2", "no recipe 'synth-easy2' (did you mean synth_easy?): give"),
        ("train --data . --init-from no.safetensors", "no.safetensors: no such model file; train"),
        ("predict no.safetensors x.mp4", "no.safetensors: no such model file; train one with"),
        ("watch no.safetensors x.mp4", "no.safetensors: no such model file; train one with"),
        ("show no.safetensors x.mp4", "no.safetensors: no such model file; train one with"),
        ("export no.safetensors out", "no.safetensors: no such model file; train one with"),
        ("push no.safetensors a/b", "no.safetensors: no such model file; train one with"),
        ("demo --threads 0", "threads must be at least 1, got 0"),
        ("models --num_classes many", "--num_classes: expected a whole number, got 'many' (see"),
        (
            "models --classes 3",
            "unrecognized option --classes; did you mean --num_classes? (see gtdnet models --help)",
        ),
        ("models --num 3", "unrecognized option --num (see"),  # no abbreviations
        ("models extra", "no model is called 'extra'; gtdnet models lists them all"),
        ("models --views 8x1x1", "--views goes with --complexity; give that too"),
        ("models --complexity --views 8x3", "views are written frames x crops x clips, as 8x3x2"),
        (
            "models --complexity --views 8x3x2 --num_segments 4",
            "--views 8x3x2 and --num_segments 4 both give the number of frames; leave one of",
        ),
        ("evaluate x", "x: no such model file; train one with gtdnet train"),
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
        ("train --overwrite 1", "unrecognized option --overwrite (see gtdnet train --help)"),
    ],
)
def test_bad_words(
    words: str,
    message: str,
    fails: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fails(*words.split()).startswith(message)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("command", ["train", "evaluate", "predict"])
def test_cuda_where_there_is_none(
    command: str,
    data: Path,
    run: Path,
    tiny: list[str],
    tmp_path: Path,
    fails: Callable[..., str],
) -> None:
    model = run / "model.safetensors"
    words = {
        "train": ["--data", data, "--output", tmp_path, *tiny],
        "evaluate": [model, "--data", data, "--output", tmp_path / "out"],
        "predict": [model, next(data.glob("val/*/*"))],
    }[command]
    message = fails(command, *words, "--device", "cuda")
    assert message.startswith("device 'cuda' was asked for, but PyTorch sees no CUDA devices here")


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_model_file_that_is_none(
    command: str, tmp_path: Path, data: Path, fails: Callable[..., str]
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_text("not a model")
    words = ["--data", data] if command == "evaluate" else [next(data.glob("val/*/*"))]
    message = fails(command, path, *words)
    assert message.startswith(f"{path}: not a model file (*.safetensors expected;")


def test_empty_dataset(tmp_path: Path, fails: Callable[..., str]) -> None:
    for command in (["check", tmp_path], ["train", "--data", tmp_path]):
        assert str(tmp_path) in fails(*command)


# ---------------------------------------------------------------------------------- quick answers

HEAVY = ["torch", "lightning", "matplotlib", "jinja2", "safetensors", "huggingface_hub"]


@pytest.mark.parametrize(
    "words",
    [
        *(f"{name} --help" for name in COMMANDS),
        "train --print_config --data here",
        "train --nmae x",
        "train --lr fast",
        "train --data nowhere",
        "train --resume nowhere",
        "train --recipe nothing",
        "evaluate no.safetensors --data x",
        "predict no.safetensors x.mp4",
        "show no.safetensors x.mp4",
        "watch no.safetensors x.mp4",
        "export no.safetensors out",
        "push no.safetensors a/b",
        "check nowhere",
        "completion bash",
    ],
)
def test_answers_come_before_anything_heavy(words: str, tmp_path: Path) -> None:
    program = (
        f"import sys; from gtdnet.cli import main\ntry: main({words.split()})\n"
        f"except SystemExit: pass\nprint([n for n in {HEAVY} if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [
        ("synth x", "--workers 3", "--num-workers 3"),
        ("check x", "--workers=3 --splits train", "--num_workers=3 --split=train"),
        ("pack x y", "--workers 3 --splits=train", "--num_workers 3 --split train"),
        ("demo", "--folder x", "--output x"),
    ],
)
def test_old_names_of_options(
    command: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    module = command_of(command.split()[0])
    monkeypatch.setattr(module, "run", lambda args: (seen.append(vars(args)), None, ""))
    for options in (old, new):
        main([*command.split(), *options.split()])
    for args in seen:
        del args["given"]
    assert seen[0] == seen[1]
