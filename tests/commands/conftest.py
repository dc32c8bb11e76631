"""A small dataset, a run on it, and what a command says of bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gtdnet.cli import COMMANDS, main
from gtdnet.data.synthetic import write_dataset


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Training options of a network that is trained in a second."""
    return [
        "--model=gtdnet_resnet18", "--model_options.width=0.125", "--num-segments=4", "--epochs=1",
        "--short-side=36", "--crop-size=32", "--batch-size=4", "--num-workers=0", "--device=cpu",
        "--precision=fp32",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "easy"
    write_dataset(root, format="folder", edition="easy", train=12, validation=3, size=36, workers=1)
    return root


@pytest.fixture(scope="session")
def run(data: Path, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run."""
    output = tmp_path_factory.mktemp("runs")
    words = ["train", "--data", str(data), "--output", str(output), "--name", "one", *tiny]
    assert main(words) == 0
    return output / "one"


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Gives the one line of a command's bad input, on stderr alone, with exit code 2."""

    def call(*words: Any) -> str:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        who, _, message = err.rstrip("\n").partition(": ")
        assert who == (f"gtdnet {words[0]}" if words[0] in COMMANDS else "gtdnet")
        return message

    return call
