from __future__ import annotations

import re

import pytest
import torch

from gtdnet.device import PRECISIONS, autocast, resolve_device, resolve_precision
from gtdnet.errors import InputError
from gtdnet.workers import default_workers

CPU = torch.device("cpu")


def test_auto_is_what_is_there() -> None:
    assert resolve_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == CPU


@pytest.mark.parametrize("name", ["gpu", "cpu:1", "auto:0", "cuda:", "cuda:x", "cpu:", ""])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"unknown device {name!r}: choose one of auto")):
        resolve_device(name)


@pytest.mark.parametrize(
    ("name", "count", "seen"), [("cuda", 0, "no"), ("cuda:0", 0, "no"), ("cuda:2", 2, "2")]
)
def test_devices_that_are_not_here_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, count: int, seen: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(InputError, match=f"{name!r} was asked for, but PyTorch sees {seen} CUDA"):
        resolve_device(name)


def test_the_devices_that_are_here_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device() == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda", 1)


def test_no_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match="'mps' was asked for, but there is none here"):
        resolve_device("mps")


def test_precisions() -> None:
    assert resolve_precision("fp32", CPU) == "fp32"
    assert resolve_precision("bf16", CPU) == "bf16"
    assert resolve_precision("auto", CPU) in ("fp32", "bf16")
    assert resolve_precision("fp16", torch.device("cuda")) == "fp16"
    with pytest.raises(InputError, match="precision 'fp16' needs a GPU; use --precision bf16"):
        resolve_precision("fp16", CPU)
    assert PRECISIONS == ("fp32", "bf16", "fp16", "int8")
    for name in ("half", "int8"):  # PyTorch itself has no int8 networks
        message = f"unknown precision '{name}': choose one of auto, fp32, bf16, fp16$"
        with pytest.raises(InputError, match=message):
            resolve_precision(name, CPU)


def test_autocast() -> None:
    x = torch.ones(2, 2)
    with autocast(CPU, "bf16"):
        assert (x @ x).dtype == torch.bfloat16
    with autocast(CPU, "fp32"):
        assert (x @ x).dtype == torch.float32


@pytest.mark.parametrize(
    ("cores", "device", "devices", "expected"),
    [
        (1, "cpu", 1, 1),
        (4, "cpu", 1, 2),
        (4, "cuda", 1, 4),
        (64, "cpu", 1, 8),
        (64, "cuda", 1, 8),
        (16, "cuda", 8, 2),
        (4, "cpu", 4, 1),
    ],
)
def test_workers(
    monkeypatch: pytest.MonkeyPatch, cores: int, device: str, devices: int, expected: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    assert default_workers(torch.device(device), devices) == expected
