from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gtdnet.cli import main


def test_model_and_data_with_other_classes(
    run: Path, tmp_path: Path, data: Path, fails: Callable[..., str]
) -> None:
    clip = next(data.glob("val/*/*"))
    for split in ("train", "val"):
        folder = tmp_path / "other" / split / "juggling"
        folder.mkdir(parents=True)
        (folder / clip.name).write_bytes(clip.read_bytes())
    model = run / "model.safetensors"
    message = fails("evaluate", model, "--data", tmp_path / "other", "--num_workers", "0")
    assert "juggling" in message
    assert "class" in message


def test_a_switch_needs_no_value(run: Path, data: Path, tmp_path: Path) -> None:
    words = ["evaluate", str(run / "model.safetensors"), "--data", str(data)]
    words += ["--output", str(tmp_path / "results"), "--num_workers", "0"]
    assert main(words) == 0
    assert main(words) == 2  # would overwrite
    assert main([*words, "--overwrite"]) == 0
    assert main([*words, "--overwrite", "false"]) == 2
