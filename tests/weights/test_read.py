"""Files that tensors are read from: what is taken, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gtdnet.errors import InputError
from gtdnet.weights.read import read_safetensors, read_tensors


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, not a state dict"),
        (torch.zeros(3), "holds a Tensor, not a state dict"),
        ({}, "holds no tensors .*; it is an empty dict"),
        ({"epoch": 3}, "holds no tensors .*; its keys are epoch"),
        (
            {"net": {"conv1.weight": torch.zeros(1)}, "epoch": 3},
            "holds no tensors where they are looked for, at the top or under state_dict, model, "
            "model_state or model_state_dict; its keys are net, epoch",
        ),
        (
            {"state_dict": {"conv1.weight": torch.zeros(1), "gamma": [1, 2]}},
            r"holds other things among its tensors: gamma \(list\); save the state dict alone",
        ),
        ({"epoch": 3, "conv1.weight": torch.zeros(1)}, r".* its tensors: epoch \(int\)"),
        ({0: torch.zeros(1), "b": torch.zeros(1)}, r"names tensors by 0 \(int\)"),
        ({"model": {(1, 2): torch.zeros(1)}}, r"names tensors by \(1, 2\) \(tuple\)"),
    ],
)
def test_pytorch_files_without_weights(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(InputError, match=rf"weights.pth: {message}"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; download it again"),
        (b"hello world", "is nothing that torch.save writes; give a .pth or .safetensors file"),
        (b"epoch,top1\n1,0.5\n", "is nothing that torch.save writes"),
        (b"PK\x03\x04 broken", "is cut off or damaged; download it again"),
        (b"\n<!DOCTYPE html>", "is a web page, not the file itself; download the file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, not the file"),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_tensors(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_are_cut_off(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(9999)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for size in (10, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match=r"weights.pth: is cut off or damaged; download it"):
            read_tensors(path)


def test_folders_are_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder, not a weights file"):
        read_tensors(tmp_path)
    with pytest.raises(InputError, match=r"no such weights file; give the path of a .pth or"):
        read_tensors(tmp_path / "nowhere.pth")


def test_metadata_and_tensors(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", {"some": "text"})
    save_file({"a": torch.ones(2)}, tmp_path / "b.safetensors")
    assert read_safetensors(tmp_path / "a.safetensors")[0] == {"some": "text"}
    metadata, tensors = read_safetensors(tmp_path / "b.safetensors")
    assert metadata == {}
    assert tensors["a"].tolist() == [1, 1]
    (tmp_path / "c.safetensors").write_bytes(b"no such thing")
    with pytest.raises(InputError, match=r"c.safetensors: not a model file \(\*.safetensors exp"):
        read_safetensors(tmp_path / "c.safetensors")
