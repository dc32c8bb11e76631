from __future__ import annotations

import os
import sys
from importlib import import_module

import pytest
import torch

from gtdnet.measure import machine
from gtdnet.measure.machine import LoadWatch, describe_load, describe_machine
from gtdnet.measure.memory import alone
from gtdnet.measure.provenance import versions

CPU = torch.device("cpu")
QUIET = {"load_average": 0.02, "seconds": 9.0, "cores_used_by_others": 0.01}

CPUINFO = """processor\t: 0
model name\t: Some CPU @ 2 GHz
flags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16 amx_int8 avx

processor\t: 1
model name\t: Some CPU @ 2 GHz
"""


def test_describe_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_read", lambda path: CPUINFO)
    found = describe_machine(CPU)
    assert found["processor"] == "Some CPU @ 2 GHz"
    assert found["flags"] == "avx2 avx512f avx512_bf16 amx_bf16 amx_int8"
    assert found["cores"] >= 1
    assert found["memory_gib"] > 0.5


def test_describe_machine_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_read", lambda path: "")
    found = describe_machine(CPU)
    assert found["flags"] == ""
    assert isinstance(found["processor"], str)


def test_versions_name_only_what_is_installed() -> None:
    found = versions(("av", "no-such-package"))
    assert list(found) == ["gtdnet", "python", "torch", "av"]


def test_load_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 ticks a second: in 10 s, 5 s of others' work and 4 s of ours."""
    monkeypatch.setattr(machine.os, "sysconf", lambda name: 100)
    stat = iter(
        [
            "cpu  100 0 100 1000 0 0 0 0 0 0\ncpu0 ...",
            "cpu  500 300 200 2000 0 0 100 100 0 0\ncpu0 ...",
        ]
    )
    monkeypatch.setattr(machine, "_read", lambda path: next(stat))
    wall, cpu = iter([0.0, 10.0]), iter([1.0, 4.0])
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(wall))
    monkeypatch.setattr(machine.time, "process_time", lambda: next(cpu))
    watch = LoadWatch()
    watch.child_cpu = 1.0
    load = watch.to_dict()
    assert load["seconds"] == 10
    assert load["cores_used_by_others"] == 0.5  # 9 busy, 3 of this process and 1 of its child


def test_load_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_read", lambda path: "")
    load = LoadWatch().to_dict()
    assert load["cores_used_by_others"] is None
    assert describe_load({**load, "load_average": 0.1}, 2) == (
        "quiet machine (load average 0.10 before)"
    )
    assert describe_load({**load, "load_average": 3.0}, 2).startswith("other load")
    unknown = describe_load({**load, "load_average": None}, 2)
    assert unknown == "what else the machine did is unknown"


def test_describe_load() -> None:
    assert describe_load(QUIET, 2) == (
        "quiet machine (other processes kept 0.01 of 2 cores busy, load average 0.02 before)"
    )
    assert describe_load({**QUIET, "cores_used_by_others": 1.5}, 2) == (
        "other load: wall times are too long (other processes kept 1.50 of 2 cores busy, load "
        "average 0.02 before)"
    )
    older = {**QUIET, "stolen": 0.0, "waited": None}  # as files of results have it
    assert describe_load(older, 2) == describe_load(QUIET, 2)
    in_a_container = describe_load({**QUIET, "cores_used_by_others": 20.3}, 2)
    assert "other processes kept more than all 2 cores busy" in in_a_container


@pytest.mark.skipif(sys.platform == "win32", reason="needs Unix's resident memory")
def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_module'"):
        alone(import_module, "no_such_module")


def test_memory_of_a_process_that_dies(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="terminated abruptly"):
        alone(os._exit, 3)
    assert alone(print, "not for this terminal") is None
    assert capfd.readouterr() == ("", "")
