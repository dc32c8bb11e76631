"""benchmarks/fuzz.py: 200 cases of it, spread over all kinds; its limits and its summary."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "fuzz.py"
KINDS = {
    "videos": 130, "annotations": 20, "pictures": 10, "models": 10, "packs": 10, "graphs": 10,
    "scores": 10,
}  # fmt: skip


def run(*words: object, script: Path = SCRIPT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def found(work: Path) -> dict[str, Any]:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    done = run("--cases", 200, "--workers", 1, "--folder", work, "--output", work / "fuzz.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    return yaml.safe_load((work / "fuzz.yaml").read_text(encoding="utf-8"))


def test_two_hundred_damaged_files(found: dict[str, Any]) -> None:
    assert found["cases"] == 200
    assert found["faults"] == []
    assert {name: kind["cases"] for name, kind in found["kinds"].items()} == KINDS
    for kind in found["kinds"].values():
        assert sum(kind["verdicts"].values()) == kind["cases"]
    independent = found["kinds"]["videos"]["against_an_independent_decode"]
    assert not {"differs", "fewer"} & independent.keys()
    assert found["kinds"]["videos"]["subjects"] > 100


def test_a_run_is_taken_up_and_a_case_is_repeated(found: dict[str, Any], work: Path) -> None:
    file = work / "results-0.jsonl"
    lines = file.read_text().splitlines()
    assert len(lines) == 200
    file.write_text("\n".join(lines[:-1]) + "\n")  # as if it had been stopped
    run("--cases", 200, "--workers", 1, "--folder", work)
    again = file.read_text().splitlines()
    assert len(again) == 200
    told = [json.loads(line) for line in (lines[-1], again[-1])]
    assert {**told[0], "seconds": 0} == {**told[1], "seconds": 0}
    one = run("--case", told[0]["case"], "--folder", work, "--keep", work / "kept")
    assert {**told[0], "seconds": 0} == {**json.loads(one.stdout), "seconds": 0}
    assert any(path.is_file() for path in (work / "kept").rglob("*"))


BAD = {  # what a reader must not do, and how it is told
    "{}['x']": "foreign exception: builtins.KeyError: 'x'",
    "import sys; sys.exit(0)": "foreign exception: builtins.SystemExit: 0",
    "bytearray(1 << 40)": "out of memory",
    "raise InputError('a\\nb')": "several lines: a",
    "b'x' * (600 << 20)": "took ",
    "import os; os.abort()": "crash, exit status -6",
    "while True: pass": "hang",
    "pass": "",
}


def test_faults_are_noticed(tmp_path: Path) -> None:
    """With a reader of scores that does in each case something else."""
    for name in ("fuzz_files.py", "fuzz_mutate.py", "fuzz_cases.py"):
        (tmp_path / name).write_text((SCRIPT.parent / name).read_text())
    with (tmp_path / "fuzz_cases.py").open("a") as file:
        file.write(
            f"""
CYCLE[:] = ["scores"]
BAD = {list(BAD)}

def run_bad_case(number, *rest):
    def read(folder, base):
        exec(BAD[number], globals())
        return {{"verdict": "read"}}
    READERS["scores"] = read
    return run_good_case(number, *rest)

_damage = lambda *_: ""
run_good_case, run_case = run_case, run_bad_case
"""
        )
    text = SCRIPT.read_text().replace("CPU_SECONDS = 30", "CPU_SECONDS = 1")
    script = tmp_path / "fuzz.py"
    script.write_text(text.replace("GROWTH = 1 << 30", "GROWTH = 1 << 29"))
    output = tmp_path / "o.yaml"
    words = ["--cases", len(BAD), "--workers", 1, "--folder", tmp_path / "work"]
    done = run(*words, "--output", output, script=script)
    assert done.returncode == 1, done.stderr
    told = {
        fault["case"]: fault["reason"] for fault in yaml.safe_load(output.read_text())["faults"]
    }
    assert list(told) == list(range(len(BAD) - 1))
    for reason, expected in zip(told.values(), BAD.values(), strict=False):
        assert reason.startswith(expected)
