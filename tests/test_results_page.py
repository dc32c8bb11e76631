from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from gtdnet.models.complexity import complexity

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def results(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("results")


def test_the_page_is_what_the_files_say(results: ModuleType) -> None:
    assert results.main(["--check"]) == 0


@pytest.mark.parametrize("name", ["gtdnet_resnet50", "teinet_resnet50"])
def test_the_costs_are_what_the_models_cost(name: str) -> None:
    text = (ROOT / "benchmarks" / "results" / "complexity.yaml").read_text(encoding="utf-8")
    recorded = yaml.safe_load(text)
    cost = complexity(name, recorded["num_classes"], 8, recorded["crop_size"])
    assert recorded["models"][name][8] == {
        "m_parameters": round(cost.parameters / 1e6, 2),
        "gmacs": round(cost.macs / 1e9, 2),
        "inference_mib": round(cost.inference_bytes / 2**20),
        "training_mib": round(cost.training_bytes / 2**20),
    }


def test_fidelity_states_the_nearest_readings() -> None:
    text = (ROOT / "benchmarks" / "results" / "complexity.yaml").read_text(encoding="utf-8")
    nearest = yaml.safe_load(text)["gtdnet_nearest"]
    first = nearest[0]
    options = {key: first[key] for key in ("aggregation", "reduction", "every")}
    assert options == {"aggregation": "lstm", "reduction": 4, "every": 2}
    for frames in (8, 16):
        cost = complexity("gtdnet_resnet50", 174, frames, 224, **options)
        assert round(cost.parameters / 1e6, 3) == first["m_parameters"] == 33.892
        assert round(cost.macs / 1e9, 2) == first[f"gmacs_{frames}"]
    said = " ".join((ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8").split())
    assert "33.892 M parameters, with 32.79 and 65.58 G" in said
    literal = [reading for reading in nearest if reading["every"] == 1][:4]
    for reading in literal:
        assert f"{reading['m_parameters']:.3f} (`{reading['aggregation']}`" in said


@pytest.mark.usefixtures("results")  # which finds sections
def test_each_section_has_a_file_and_each_file_a_line() -> None:
    sections = importlib.import_module("sections")
    files = {path.stem for path in (ROOT / "benchmarks" / "sections").glob("*.py")}
    named = {kind for _, kind in sections.SECTIONS.values()} | set(sections.KINDS)
    assert files - {"__init__", "markdown"} == named
    assert all(callable(importlib.import_module(f"sections.{kind}").render) for kind in named)


def test_a_page_that_disagrees_is_named_by_its_line(
    results: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "speed", command="x", clips=3)
    page = tmp_path / "page.md"
    arguments = ["--results", str(tmp_path), "--page", str(page)]
    assert results.main([*arguments, "--check"]) == 1
    assert not page.exists()
    assert results.main(arguments) == 0
    assert results.main([*arguments, "--check"]) == 0
    lines = page.read_text(encoding="utf-8").splitlines()
    number = lines.index("| clips | 3 |")
    lines[number] = "| clips | 4 |"
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    capsys.readouterr()
    assert results.main([*arguments, "--check"]) == 1
    assert capsys.readouterr().err == (
        f"{page} is not what the files in {tmp_path} say, from line {number + 1} on; "
        f"make it anew with: python benchmarks/results.py\n"
    )


def test_a_file_that_no_section_is_made_for(results: ModuleType, tmp_path: Path) -> None:
    write(
        tmp_path,
        "frames_per_second",
        command="python speed.py",
        date="2026-01-02",
        machine={"cores": 2, "system": "Linux"},
        versions={"gtdnet": "1.2"},
        note="a | b",
        steps=[10, 20],
        cpu={"mean": 1.5, "best": 2.25},
        gpu={"mean": None},
        models=[{"name": "tsm", "rate": 1e-07}, {"name": "tsn", "rate": 12.0}],
    )
    assert results.page(tmp_path).partition("## ")[2] == (
        "Frames per second\n\n"
        "`python speed.py` (2026-01-02, gtdnet 1.2, cores 2):\n\n"
        "|  |  |\n| --- | --- |\n| note | a \\| b |\n| steps | 10, 20 |\n\n"
        "|  | mean | best |\n| --- | ---: | ---: |\n| cpu | 1.5 | 2.25 |\n| gpu | - | - |\n\n"
        "models:\n\n"
        "|  | name | rate |\n| ---: | --- | ---: |\n| 1 | tsm | 1e-07 |\n| 2 | tsn | 12 |\n"
    )


def test_start_points(results: ModuleType, tmp_path: Path) -> None:
    write(
        tmp_path,
        "start_points",
        command="python benchmarks/start_points.py --seeds 0 1",
        date="2026-01-02",
        training_clips=1500,
        validation_clips=440,
        classes=22,
        steps=[93, 186],
        tsm_from_random_on_easy_top1=[8.3],
        tsm_on_easy_top1=[90.1],
        shapes_of_stills_top1=[20.0, 30.5],
        val_top1_by_seed={"tsm": [[1.0, 2.0], [3.0, 4.0]]},
        val_top1_mean={"tsm": [2.0, 3.0]},
        val_top1_stdev={"tsm": [1.4, 1.4]},
    )
    page = results.page(tmp_path)
    assert "`python benchmarks/start_points.py --seeds 0 1` (2026-01-02):" in page
    assert re.search(r"\| a TSM .* \| 2\.0 ± 1\.4 \| 3\.0 ± 1\.4 \|\n", page)
    assert "deviation of 2 runs" in page


def test_many_processes(results: ModuleType, tmp_path: Path) -> None:
    equal = {"largest_difference_of_a_loss": 2.4e-07, "clips_evaluated_once": "154 of 154"}
    told = {
        "seconds_to_the_sentence": 1.5,
        "exit_status": 1,
        "left_running": 0,
        "sentence": "process 1 of 2 was killed",
    }
    write(
        tmp_path,
        "many_processes",
        bench="processes",
        command="python benchmarks/many_processes.py",
        date="2026-01-02",
        clips_a_step=4,
        batch_norms="synchronised",
        largest_difference_by_rounding=1.3e-07,
        equality=[
            {"processes": "2 by --devices", **equal, "same_scores_to_the_bit": True},
            {"processes": "2 by torchrun", **equal, "same_scores_to_the_bit": False},
        ],
        kills=[
            {"processes": "2 by --devices", "killed": 1, **told, "seconds_to_the_end": 12.0},
            {"processes": "2 by --devices", "killed": 0, "seconds_to_the_sentence": None,
             "seconds_to_the_end": 3.5, "exit_status": -9, "left_running": 2, "sentence": None},
        ],
    )  # fmt: skip
    page = results.page(tmp_path)
    assert "## Several processes beside one\n\n`python benchmarks/many_processes.py`" in page
    assert "with 4 clips a step in all and batch norms synchronised" in " ".join(page.split())
    assert "two threads in that one process, takes them 1.3e-07 apart" in " ".join(page.split())
    assert "| 2 by --devices | 2.4e-07 | 154 of 154 | yes |\n" in page
    assert "| 2 by torchrun | 2.4e-07 | 154 of 154 | NO |\n" in page
    assert "| 2 by --devices | 1 | 1.5 | 12.0 | 1 | 0 | process 1 of 2 was killed |\n" in page
    assert "| 2 by --devices | 0 | - | 3.5 | -9 | 2 | - |\n" in page


def test_what_gtdnet_ablate_writes(results: ModuleType, tmp_path: Path) -> None:
    score = {"mean": 0.5, "std": 0.01}
    variant = {"frames": {"shuffled": score}, "val_top1": score, "best_val_top1": score}
    size = {"parameters": 1_000_000, "macs_per_view": 2_000_000_000}
    write(
        tmp_path,
        "gestures",
        command="gtdnet ablate grid.yaml",
        written="2026-01-02T03:04:05+00:00",
        data={"training_clips": 24, "validation_clips": 12, "classes": 3},
        epochs=2,
        grid={"seeds": [0, 1]},
        variants=[
            {"name": "GTDNet", "runs": 2, "difference": None, "seconds": 60.0, **size, **variant},
            {"name": "TSM", "runs": 1, "difference": score, "seconds": 60.0, **size, **variant},
        ],
        runs=[{"variant": "TSM", "seed": 1, "status": "failed", "reason": "no disk"}],
    )
    page = results.page(tmp_path)
    assert "## Gestures\n\n`gtdnet ablate grid.yaml` (2026-01-02):" in page
    assert "Top-1 on 12 validation clips of 3 classes after the last of 2 epochs of 24" in page
    assert re.search(r"\| GTDNet +\| +1\.00 \|", page)
    assert page.endswith("Failed: TSM, seed 1: no disk\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1", "is not YAML"),
        ("- 1", "holds no mapping of names to results"),
        ("a: 1", "lacks 'models'; write it anew by its command"),
    ],
)
def test_files_that_cannot_be_shown(
    results: ModuleType, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "peers.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match=message):
        results.page(tmp_path)


def write(folder: Path, name: str, **values: Any) -> None:
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def test_of_profiles_the_comparison_with_the_floor(results: ModuleType) -> None:
    told = results.section(ROOT / "benchmarks" / "results" / "speed_engines.yaml")
    assert "gtdnet_resnet50, openvino, bf16, batch 1, minus its floor, by kind of operation" in told
    assert "| Slice (ref_bf16) | 5.48 | 0 | 5.48 | 32 % |" in told
    assert "Operators of" not in told
    assert "tsn_resnet50, openvino, bf16, batch 1, by kind" not in told
