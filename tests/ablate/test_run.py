from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from gtdnet.ablate import run as module
from gtdnet.ablate.grid import Grid
from gtdnet.ablate.run import AblateOptions, ablate
from gtdnet.ablate.summary import report, summarise, table
from gtdnet.cli import main
from gtdnet.errors import InputError
from gtdnet.models.complexity import complexity
from gtdnet.train.config import TrainConfig
from gtdnet.train.module import TrainingModule

BASE: dict[str, Any] = {
    "model": "gtdnet_resnet18",
    "model_options": {"width": 0.125},
    "num_segments": 2,
    "short_side": 36,
    "crop_size": 32,
    "epochs": 2,
    "batch_size": 6,
    "num_workers": 0,
    "device": "cpu",
    "precision": "fp32",
}
GRID: dict[str, Any] = {
    "base": BASE,
    "variants": {
        "No attention": {"model_options": {"attention": False}},
        "TSM": {"model": "tsm_resnet18"},
    },
    "seeds": [0, 1],
    "evaluate": ["shuffled"],
}

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a grid file; keywords change the grid's keys."""

    def to_file(**changes: Any) -> str:
        path = tmp_path / "grid.yaml"
        path.write_text(yaml.safe_dump({**GRID, **changes}, sort_keys=False))
        return str(path)

    return to_file


def quiet() -> Console:
    return Console(file=io.StringIO(), width=1000)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def run(grid: str, dataset: Path, output: Path, console: Console | None = None) -> dict[str, Any]:
    return ablate(AblateOptions(grid, str(dataset), str(output)), console or quiet())


def results(output: Path) -> dict[str, Any]:
    return yaml.safe_load((output / "ablation.yaml").read_text(encoding="utf-8"))


# ----------------------------------------------------------------------------------- a whole grid


def test_whole_grid_is_trained_resumed_and_extended(
    write: Write, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    step = TrainingModule.training_step

    # Ctrl-C in the second epoch of the second run.
    def interrupted(self: TrainingModule, batch: Any, batch_idx: int) -> Any:
        if self.model.name == "tsm_resnet18" and (self.current_epoch, batch_idx) == (1, 0):
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", interrupted)
        with pytest.raises(InterruptedError, match=r"run 2 of 4: TSM, seed 0; the same command"):
            run(write(), dataset, output)
    assert [r["variant"] for r in results(output)["runs"]] == ["No attention"]

    # The same call goes on with it; a run that breaks is told and does not cost the others.
    def broken(self: TrainingModule, batch: Any, batch_idx: int) -> Any:
        if self.model.name == "gtdnet_resnet18":
            raise RuntimeError("out of memory")
        return step(self, batch, batch_idx)

    console = quiet()
    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", broken)
        result = run(write(), dataset, output, console)
    text = said(console)
    assert re.search(r"run 1 of 4: No attention, seed 0: \d+\.\d %, from before\n", text)
    assert "run 2 of 4: TSM, seed 0\n" in text
    assert "continuing at epoch 2, batch 2" in text
    assert "run 4 of 4: TSM, seed 1" in text
    assert "failed: RuntimeError: out of memory" in text
    assert [(r["variant"], r["seed"], r["status"]) for r in result["runs"]] == [
        ("No attention", 0, "finished"),
        ("No attention", 1, "failed"),
        ("TSM", 0, "finished"),
        ("TSM", 1, "finished"),
    ]
    table_file = output / "ablation.md"
    assert "- No attention, seed 1: RuntimeError: out of memory" in table_file.read_text("utf-8")

    # Once more: what failed is trained, nothing else; one order of frames more is measured.
    before = (output / "tsm-1" / "last.ckpt").read_bytes()
    grid = write(evaluate=["shuffled", "repeated"])
    result = run(grid, dataset, output)
    assert [r["status"] for r in result["runs"]] == ["finished"] * 4
    assert (output / "tsm-1" / "last.ckpt").read_bytes() == before
    assert {tuple(r["frames"]) for r in result["runs"]} == {("shuffled", "repeated")}

    # What is in the files.
    assert results(output) == {k: v for k, v in result.items() if k != "output"}
    json.dumps(result)
    assert table_file.read_text("utf-8") == report(result)
    assert result["data"]["training_clips"] == 13
    assert result["command"] == f"gtdnet ablate {grid} --data {dataset} --output {output}"
    assert result["grid"]["seeds"] == [0, 1]
    assert result["epochs"] == 2
    no_attention, tsm = result["variants"]
    assert (no_attention["name"], tsm["name"]) == ("No attention", "TSM")
    cost = complexity("tsm_resnet18", 12, 2, 32, width=0.125)
    assert (tsm["parameters"], tsm["macs_per_view"]) == (cost.parameters, cost.macs)
    assert no_attention["macs_per_view"] > tsm["macs_per_view"]
    for record in result["runs"]:
        folder = output / record["folder"]
        config = TrainConfig.load(folder / "config.yaml")
        assert (config.seed, config.epochs) == (record["seed"], 2)
        attention = {"attention": False} if record["variant"] == "No attention" else {}
        assert config.model_options == {"width": 0.125, **attention}
        rows = (folder / "metrics.csv").read_text().splitlines()
        column = rows[0].split(",").index("val_top1")
        scores = [float(row.split(",")[column]) for row in rows[1:]]
        assert (record["val_top1"], record["best_val_top1"]) == (scores[-1], max(scores))
        assert record["steps"] == 4

    # Another grid or other data there: refused before anything is trained.
    with pytest.raises(InputError, match=r"attention-0: was trained with lr=0.01, the grid now"):
        run(write(base={**BASE, "lr": 0.1}), dataset, output)
    fewer = shutil.copytree(dataset, tmp_path / "fewer")
    next((fewer / "val").glob("*/*.mp4")).unlink()
    with pytest.raises(InputError, match="data with validation_clips=5, there is now 4"):
        run(write(), fewer, output)


def test_a_run_stopped_before_its_first_save_begins_again(
    write: Write, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: TrainingModule, batch: Any, batch_idx: int) -> Any:
        raise KeyboardInterrupt  # what a second Ctrl-C comes to

    grid = write(variants={"TSN": {"model": "tsn_resnet18"}}, seeds=[4], evaluate=[])
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", killed)
        with pytest.raises(KeyboardInterrupt):
            run(grid, dataset, tmp_path / "out")
    signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored
    assert not (tmp_path / "out" / "tsn-4" / "last.ckpt").exists()
    [record] = run(grid, dataset, tmp_path / "out")["runs"]
    assert (record["status"], record["seed"], record["frames"]) == ("finished", 4, {})


def test_frames_are_measured_with_the_last_epochs_weights(
    write: Write, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order they give what the last validation gave, also where another epoch was the best."""
    scores = iter([1.0, None])
    validate = TrainingModule.on_validation_epoch_end

    def first_is_best(self: TrainingModule) -> None:
        validate(self)
        score = next(scores)
        if score is not None:
            self.epoch_metrics["val_top1"] = score

    monkeypatch.setattr(TrainingModule, "on_validation_epoch_end", first_is_best)
    grid = write(variants={"A": {"lr": 0.2}}, seeds=[0], evaluate=["in-order"], allow_budget=True)
    [record] = run(grid, dataset, tmp_path / "out")["runs"]
    assert (record["best_epoch"], record["best_val_top1"]) == (1, 1.0)
    assert record["frames"]["in-order"] == record["val_top1"] < 1


# ---------------------------------------------------------------------------- what comes out of it


def record(variant: str, seed: int, top1: float, **more: Any) -> dict[str, Any]:
    return {
        "variant": variant, "seed": seed, "status": "finished", "val_top1": top1,
        "best_val_top1": top1 + 0.01, "seconds": 60.0, "frames": {"shuffled": 0.1}, **more,
    }  # fmt: skip


def test_summary_by_hand() -> None:
    runs = [
        record("A", 0, 0.80), record("A", 1, 0.84), record("A", 2, 0.88),
        record("B", 0, 0.70), record("B", 1, 0.72), {"variant": "B", "seed": 2, "status": "failed"},
        record("C", 2, 0.90),
    ]  # fmt: skip
    a, b, c, d = summarise(runs, ["A", "B", "C", "D"], {"A": {"parameters": 5}})
    assert a["val_top1"] == {"mean": 0.84, "std": 0.04}
    assert a["best_val_top1"] == {"mean": 0.85, "std": 0.04}
    assert (a["runs"], a["parameters"], a["difference"]) == (3, 5, None)
    # Pairs of seeds 0 and 1 alone: -0.10 and -0.12.
    assert b["difference"] == {"mean": -0.11, "std": pytest.approx(0.014142, abs=1e-6)}
    assert (b["runs"], b["seconds"]) == (2, 60.0)
    assert c["val_top1"] == {"mean": 0.9, "std": None}
    assert c["difference"] == {"mean": 0.02, "std": None}
    assert d["val_top1"] == {"mean": None, "std": None}
    assert (d["runs"], d["frames"]) == (0, {})


def test_table_by_hand() -> None:
    runs = [record("A", 0, 0.8), record("A", 1, 0.9), record("Bee", 0, 0.7), record("Bee", 1, 0.7)]
    sizes = {"A": {"parameters": 2_810_000, "macs_per_view": 710_000_000}}
    text = table({"variants": summarise(runs, ["A", "Bee"], sizes)})
    assert text.splitlines() == [
        "| variant | M param. | GMACs/view |    top-1 % |     minus A | shuffled % | best epoch % "
        "| minutes | runs |",
        "|---------|---------:|-----------:|-----------:|------------:|-----------:|-------------:"
        "|--------:|-----:|",
        "| A       |     2.81 |      0.710 | 85.0 ± 7.1 |             | 10.0 ± 0.0 |   86.0 ± 7.1 "
        "|     1.0 |    2 |",
        "| Bee     |          |            | 70.0 ± 0.0 | -15.0 ± 7.1 | 10.0 ± 0.0 |   71.0 ± 0.0 "
        "|     1.0 |    2 |",
    ]


# ------------------------------------------------------------------------------------- bad grids


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("[", "is not YAML"),
        ("a: 1", "is not a grid, which has base, variants and seeds"),
        ("{base: {}, variants: {A: }, seed: [0]}", "unknown key 'seed'; a grid has base, variants"),
        ("{base: 3, variants: {A: }}", "base must be a recipe or a mapping of options, got 3"),
        ("{base: nothing, variants: {A: }}", "no recipe 'nothing'"),
        ("{base: {}, variants: []}", "variants must be a mapping of names to options"),
        ("{base: {}, variants: {A: 3}}", "variant 'A' must be a mapping of options"),
        ("{base: {}, variants: {1: }}", "name must hold letters or digits, got 1"),
        ("{base: {}, variants: {'!?': }}", r"name must hold letters or digits, got '!\?'"),
        ("{base: {}, variants: {A b: , a-B: }}", "two variants have names that give the same"),
        ("{base: {}, variants: {A: }, seeds: 3}", "seeds must be a list .*, got 3"),
        ("{base: {}, variants: {A: }, seeds: [1, 1]}", r"seeds must be .*, got \[1, 1\]"),
        ("{base: {}, variants: {A: }, evaluate: [sideways]}", "unknown order of frames 'sideways'"),
        ("{base: {}, variants: {A: }, allow_budget: 1}", "allow_budget must be true or false"),
    ],
)  # fmt: skip
def test_bad_grid_files(grid: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(grid)
    with pytest.raises(InputError, match=f"^{path}: .*{message}"):
        Grid.load(path)


def test_grid_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: cannot be read"):
        Grid.load("nowhere.yaml")


@pytest.mark.parametrize(
    ("base", "options", "message"),
    [
        ({}, {"colour": 1}, "variant 'A': unknown option 'colour'; see gtdnet train --help"),
        ({}, {"num_segments": "x"}, "variant 'A': num_segments must be a whole number"),
        ({}, {"seed": 1}, "variant 'A' has seed, which the ablation sets itself"),
        ({"name": "x"}, {}, "base has name, which the ablation sets itself"),
        ({}, {"data": "other"}, "variant 'A' has data, which all variants share"),
        ({}, {"epochs": 9}, "variant 'A' changes epochs, so that .* or allow_budget: true"),
        ({}, {"batch_size": 9}, "variant 'A' changes batch_size"),
        ({}, {"lr": 0.5}, "variant 'A' changes lr"),
        ({}, {"devices": 2}, "variant 'A': devices=2, an ablation takes 1"),
        ({"early_stopping": 1}, {}, "early_stopping gives runs different numbers of steps"),
        ({"epochs": 3, "validate_every": 2}, {}, "validate_every=2 the last of 3 is not validated"),
    ],
)
def test_variants_that_would_not_compare(
    base: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Grid({**BASE, **base}, {"A": options}).configs()


def test_budget_may_be_stated_again_or_allowed_to_differ() -> None:
    same = Grid(BASE, {"A": {"epochs": 2}, "B": {}}).configs()
    assert same["A"] == same["B"]
    free = Grid(BASE, {"A": {"epochs": 9}, "B": {}}, allow_budget=True).configs()
    assert (free["A"].epochs, free["B"].epochs) == (9, 2)


def test_base_from_a_recipe_and_options_that_win(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(
        "{base: {recipe: synth_easy, epochs: 5}, variants: {A: , B: {num_segments: 4}}}"
    )
    configs = Grid.load(path).configs(data="d", device=None, num_workers=3)
    a, b = configs["A"], configs["B"]
    assert (a.epochs, a.lr, a.crop_size, a.model_options) == (5, 0.0015, 96, {"width": 0.5})
    assert (a.data, a.num_workers, a.device) == ("d", 3, "auto")
    assert b == replace(a, num_segments=4)


def test_everything_wrong_is_found_before_training(
    write: Write, dataset: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    for options, message in (
        ({"model": "tsx_resnet18"}, "variant 'B': unknown model 'tsx_resnet18'"),
        ({"model": "tsm_resnet18", "model_options": {"gate": False}}, "variant 'B': .* no option"),
        ({"model_options": {"stages": 7}}, "variant 'B': stages must be"),
        ({"pretrained": "nowhere.pth"}, "variant 'B': nowhere.pth: no such weights file"),
    ):
        with pytest.raises(InputError, match=message):
            run(write(variants={"A": {}, "B": options}), dataset, output)
    assert not output.exists()
    train_alone = shutil.copytree(dataset, tmp_path / "alone")
    shutil.rmtree(train_alone / "val")
    with pytest.raises(InputError, match="has no validation split to compare variants on"):
        run(write(), train_alone, output)


def test_folder_of_something_else_is_left_alone(
    write: Write, dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="holds something else than an ablation"):
        run(write(), dataset, tmp_path / "out")
    (tmp_path / "out" / "ablation.yaml").write_text("runs: 3")
    with pytest.raises(InputError, match=r"ablation.yaml: cannot be read; give another --output"):
        run(write(), dataset, tmp_path / "out")


# ---------------------------------------------------------------------------------- command line


@pytest.mark.parametrize(("status", "code"), [("finished", 0), ("failed", 1)])
def test_command(
    status: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = [record("A", 0, 0.8, status=status)]
    result = {"variants": summarise(runs, ["A"], {}), "runs": runs, "output": "runs/g"}
    asked: list[AblateOptions] = []

    def answer(options: AblateOptions) -> dict[str, Any]:
        asked.append(options)
        return result

    monkeypatch.setattr(module, "ablate", answer)
    assert main(["ablate", "g.yaml", "--data", "d", "--num-workers", "1"]) == code
    assert capsys.readouterr().out == f"{table(result)}\n\nresults: runs/g\n"
    assert main(["ablate", "--grid", "g.yaml", "--data", "d", "--num-workers=1", "--json"]) == code
    assert json.loads(capsys.readouterr().out) == result
    assert asked == [AblateOptions("g.yaml", "d", num_workers=1)] * 2
