"""A model is named by its file, by its run folder, or by the folder of an export."""

from __future__ import annotations

from pathlib import Path

import pytest

from gtdnet.engines import find_model, is_exported


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["model.safetensors", "best.ckpt"], "model.safetensors"),
        (["model.safetensors", "model.onnx"], "model.safetensors"),  # it has every engine
        (["model.onnx"], "model.onnx"),
        (["model.pt2", "model.xml", "model.bin"], "model.xml"),
        (["model.pt2"], "model.safetensors"),  # which is then missed by name
        (["a.onnx", "b.onnx"], "model.safetensors"),
        ([], "model.safetensors"),
    ],
)
def test_folders(tmp_path: Path, files: list[str], found: str) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert find_model(tmp_path) == str(tmp_path / found)
    assert is_exported(tmp_path) == (found != "model.safetensors")


@pytest.mark.parametrize("name", ["hf://user/name", "nowhere.onnx", "nowhere"])
def test_what_is_no_folder_stands_for_itself(name: str) -> None:
    assert find_model(name) == name
