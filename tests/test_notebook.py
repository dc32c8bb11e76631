"""docs/first_hour.ipynb runs from top to bottom, and is kept without what it printed."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "first_hour.ipynb"

nbformat = pytest.importorskip("nbformat", reason="nbclient (gtdnet[dev]) is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient (gtdnet[dev]) is not installed")
pytest.importorskip("ipykernel", reason="ipykernel (gtdnet[dev]) is not installed")


def test_it_is_kept_without_output() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The package of this tree, in a kernel of this Python, with one thread.
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT / "src"), before])))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    manager = nbclient.client.KernelManager()
    manager.kernel_spec.argv[0] = sys.executable
    work = tmp_path / "work"
    work.mkdir()
    client = nbclient.NotebookClient(
        notebook, km=manager, timeout=300, resources={"metadata": {"path": str(work)}}
    )
    asyncio.run(client.async_execute())
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 2
    assert (work / "runs/first/model.safetensors").is_file()
    printed = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )
    assert "24 clips of validation, 0 failed" in printed
