from __future__ import annotations

import csv
import json
import os
import re
import signal
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
import yaml

from gtdnet.cli import main
from gtdnet.data.synthetic import write_dataset
from gtdnet.train.config import TrainConfig
from gtdnet.train.run import TrainResult


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, TrainConfig]:
    """What gtdnet train would train, under "config", instead of training it."""
    seen: dict[str, TrainConfig] = {}

    def note(config: TrainConfig) -> TrainResult:
        seen["config"] = config
        return TrainResult(tmp_path, None, True, {}, 0, 0)

    monkeypatch.setattr("gtdnet.train.run.train", note)
    return seen


@pytest.fixture(autouse=True)
def any_path(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Where nothing is trained, the data need not be there."""
    if not {"data", "run", "fails"} & set(request.fixturenames):
        monkeypatch.setattr("gtdnet.commands.train.check_dataset_is_there", lambda root: None)


def test_help_shows_the_defaults_of_training(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for line in (
        "--lr FLOAT",
        "(default: 0.01)",
        "--crop_size INT",
        "(default: 224)",
        "(default: cosine)",
    ):
        assert line in text
    assert "gtdnet_r50_8f_ssv2" in text  # the recipes by name


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
    assert main(["train", "--model", "gtdnet_resnet50"]) == 0
    assert config["config"] == TrainConfig()


@pytest.fixture
def two_classes(tmp_path: Path) -> Path:
    for name in ("left", "right"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        (tmp_path / "clips" / name / "1.mp4").touch()
    return tmp_path / "clips"


def test_without_a_model_it_is_chosen(
    config: dict[str, TrainConfig], capsys: pytest.CaptureFixture[str], two_classes: Path
) -> None:
    # As a device is given, no GPU counts; frozen stages alone would keep random weights.
    words = ["train", "--data", str(two_classes), "--device", "cpu", "--frozen-stages=2"]
    assert main(words) == 0
    chosen = config.pop("config")
    assert chosen.model in ("gtdnet_efficientnet_lite0", "gtdnet_resnet18")
    assert (chosen.pretrained, chosen.frozen_stages, chosen.epochs) == ("imagenet", 2, 30)
    line = capsys.readouterr().err.splitlines()[0]
    assert f"no model or recipe is named, so it is {chosen.model}" in line
    assert "2 training clips and a CPU" in line
    assert main([*words, "--print-config"]) == 0
    out, err = capsys.readouterr()
    assert TrainConfig.from_dict(yaml.safe_load(out), "") == chosen
    assert err == f"{line}\n"
    (two_classes / "run.yaml").write_text(out)
    assert main(["train", "--config", str(two_classes / "run.yaml")]) == 0  # as from config.yaml
    assert config["config"] == chosen
    assert "no model" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    ["--model tsn_resnet18", "--recipe synth_easy", "--pretrained x.pth", "--init_from x"],
)
def test_what_names_a_network_is_taken(
    config: dict[str, TrainConfig],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: str,
) -> None:
    monkeypatch.setattr("gtdnet.commands.train.check_is_there", lambda path: None)
    assert main(["train", "--data", "x", *words.split()]) == 0
    named = {"--model": "tsn_resnet18", "--recipe": "gtdnet_resnet18"}
    assert config["config"].model == named.get(words.split()[0], "gtdnet_resnet50")
    assert config["config"].norm_momentum is None
    assert "no model" not in capsys.readouterr().err


def test_a_stopped_run_says_so_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = TrainResult(tmp_path, None, False, {}, 0, 0)
    monkeypatch.setattr("gtdnet.train.run.train", lambda config: stopped)
    assert main(["train", "--json"]) == 130
    assert json.loads(capsys.readouterr().out)["finished"] is False


def test_a_terminated_run_says_so_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopped = TrainResult(tmp_path, None, False, {}, 0, 0, terminated=True)
    monkeypatch.setattr("gtdnet.train.run.train", lambda config: stopped)
    assert main(["train", "--json"]) == 143


def test_sigterm_ends_any_command_in_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cleaned, before = [], signal.getsignal(signal.SIGTERM)

    def work(config: TrainConfig) -> TrainResult:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("unreachable")
        finally:
            cleaned.append(True)

    monkeypatch.setattr("gtdnet.train.run.train", work)
    assert main(["train", "--model", "tsn_resnet18"]) == 143
    assert cleaned
    assert capsys.readouterr().err == "gtdnet train: terminated\n"
    assert signal.getsignal(signal.SIGTERM) is before


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
    assert main(["train", "--model", "tsn_resnet18"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_train_prints_where_the_model_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", str(run)]) == 0
    out, err = capsys.readouterr()
    model, report = out.splitlines()[-2:]
    assert re.fullmatch(rf"model: {run}/model.safetensors \(validation top-1 \d+\.\d %\)", model)
    assert report == f"report: {run}/report.html"
    assert "validation clips, mean class accuracy" in out
    assert "all epochs are done" in err


def test_existing_run(run: Path, data: Path, tiny: list[str], fails: Callable[..., str]) -> None:
    words = ["train", "--data", data, "--output", run.parent, "--name", "one", *tiny]
    message = fails(*words)
    assert message == (
        f"{run}: exists already; choose another --name, or continue it with "
        f"gtdnet train --resume {run}"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--num_segments 0", "num_segments must be a whole number of at least 1, got 0"),
        (
            "--model resnet51",
            "unknown model 'resnet51' (did you mean tsn_resnet50?): choose one of",
        ),
        ("--model_options.depth 3", "gtdnet_resnet18 has no option 'depth'; its options are"),
        ("--format avi", "There is no format 'avi'; the formats are something-v1"),
        ("--device tpu", "unknown device 'tpu': choose one of auto, cpu, cuda"),
        ("--batch_size 13", "the training split has 12 clips, fewer than one batch of 13; lower"),
        ("--pretrained nowhere.pth", "nowhere.pth: no such weights file"),
    ],
)
def test_bad_training_options(
    words: str, message: str, data: Path, tmp_path: Path, tiny: list[str], fails: Callable[..., str]
) -> None:
    found = fails("train", "--data", data, "--output", tmp_path, *tiny, *words.split())
    assert found.startswith(message)
    assert not list(tmp_path.iterdir())


def test_unknown_class_in_an_annotation(tmp_path: Path, fails: Callable[..., str]) -> None:
    write_dataset(
        tmp_path / "v2", format="something-v2", edition="easy", train=2, validation=1, size=36,
        workers=1,
    )  # fmt: skip
    table = next((tmp_path / "v2").rglob("train.json"))
    rows = json.loads(table.read_text(encoding="utf-8"))
    rows[0]["template"] = "Juggling [something]"
    table.write_text(json.dumps(rows), encoding="utf-8")
    message = fails("train", "--data", tmp_path / "v2", "--output", tmp_path)
    assert rows[0]["id"] in message
    assert "has an unknown label: 'Juggling something'" in message


def test_help_begins_with_what_matters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0] == "usage: gtdnet train --data PATH [--recipe NAME] [--model NAME] [options]"
    first = re.findall(r"^  --(\w+)", text.partition("\n\n")[2], re.MULTILINE)[:11]
    assert first == [
        *("data", "recipe", "model", "pretrained", "epochs", "batch_size", "lr", "name", "output"),
        *("resume", "print_config"),
    ]
    assert "required, here or in the recipe" in " ".join(text.split())
    for choices in ("{sgd,adamw}", "{auto,default,identity}", "{none,norms,backbone}"):
        assert choices in text
    assert max(len(line) for line in lines if "{something" not in line) <= 80


def test_print_config_is_the_run(
    config: dict[str, TrainConfig], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["train", "--recipe", "synth_easy", "--data", "x", "--model_options.width", "0.5"]
    assert main([*words, "--print-config"]) == 0
    assert not config
    (tmp_path / "run.yaml").write_text(capsys.readouterr().out)
    assert main(["train", "--config", str(tmp_path / "run.yaml")]) == 0
    again = config.pop("config")
    assert main(words) == 0
    assert config["config"] == again
    assert again.data == "x"


def test_threads_may_change_when_a_run_goes_on(run: Path) -> None:
    assert main(["train", "--resume", str(run), "--threads", "1"]) == 0


def test_the_report_is_of_the_validation_that_was_kept(run: Path) -> None:
    found = json.loads((run / "validation" / "metrics.json").read_text())
    with (run / "metrics.csv").open(newline="") as file:
        best = max(float(row["val_top1"]) for row in csv.DictReader(file))
    assert found["top1"] == pytest.approx(best, abs=1e-6)
    assert found["protocol"]["split"] == "validation"
    page = (run / "report.html").read_text()
    assert "data:image/jpeg" in page  # frames of its mistakes


def test_a_report_that_fails_does_not_fail_the_run(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no\nroom")

    monkeypatch.setattr("gtdnet.report.report.report", fail)
    assert main(["train", "--resume", str(run), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["report"] is None
    assert f"its report could not be made (no); try gtdnet report {run}" in err
