"""The package as it is built: what an sdist and a wheel hold, and what their metadata say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
LEFT_OUT = ("__pycache__", "*.egg-info", "*.py[cod]", ".*_cache", ".DS_Store")
LINK = re.compile(r"\]\(([^)\s]+)\)")
BUILD = """
import sys
from pathlib import Path
from setuptools import build_meta
getattr(build_meta, sys.argv[1])(sys.argv[2])
"""


def _has_setuptools() -> bool:
    try:
        return int(version("setuptools").partition(".")[0]) >= 77
    except PackageNotFoundError:
        return False


def _build(kind: str, tree: Path, output: Path) -> Path:
    """The one archive that the backend makes of a tree, without a network."""
    words = [sys.executable, "-c", BUILD, f"build_{kind}", str(output)]
    done = subprocess.run(words, cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(output.glob("*.tar.gz" if kind == "sdist" else "*.whl"))


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git has, or an sdist."""
    tree = tmp_path_factory.mktemp("package") / "tree"
    tree.mkdir()
    for name in (".ci", "benchmarks", "docs", "src", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
    patterns = ("*.md", "*.toml", "*.py", "*.lock", "*.in", "*.cff", "*.yml", "LICENSE", "Makefile")
    for pattern in patterns:
        for path in ROOT.glob(pattern):
            shutil.copy(path, tree)
    return tree


@pytest.fixture(scope="module")
def sdist(tree: Path) -> Path:
    """An sdist, unpacked."""
    if not _has_setuptools():
        pytest.skip("setuptools 77 or later, which builds the package, is not installed")
    built = _build("sdist", tree, tree.parent)
    with tarfile.open(built) as archive:
        archive.extractall(tree.parent / "unpacked", filter="data")
    return next((tree.parent / "unpacked").iterdir())


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> zipfile.ZipFile:
    """The wheel of the sdist."""
    return zipfile.ZipFile(_build("wheel", sdist, sdist.parent))


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


def test_an_sdist_holds_docs_tests_and_all_that_make_needs(tree: Path, sdist: Path) -> None:
    missing = {name for name in _files(tree) - _files(sdist) if ".egg-info" not in name}
    assert not missing
    assert {"docs/index.md", "docs/show.jpg", "tests/conftest.py", "requirements.lock"} <= _files(
        sdist
    )


def test_a_wheel_holds_the_package_and_nothing_else(tree: Path, wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == {f"gtdnet/{name}" for name in _files(tree / "src" / "gtdnet")}


def test_links_lead_somewhere_from_a_package_index(metadata: Message) -> None:
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL", []))
    assert set(urls) == {"Source", "Documentation", "Changelog", "Issues"}
    assert all(url.startswith(urls["Source"]) for url in urls.values())
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = str(metadata.get_payload())
    links = LINK.findall(text)
    assert len(links) > 10
    for link in links:
        assert link.startswith(f"{urls['Source']}/blob/main/")
        assert (ROOT / link.partition("/blob/main/")[2].partition("#")[0]).exists(), link


def test_what_is_heavy_and_hardly_used_is_an_extra(metadata: Message) -> None:
    core = {
        re.split(r"[^\w-]", line)[0]
        for line in metadata.get_all("Requires-Dist", [])
        if "extra ==" not in line
    }
    assert core == {
        "torch", "av", "numpy", "pillow", "safetensors", "huggingface_hub", "jsonargparse",
        "lightning", "pytorch-lightning", "matplotlib", "jinja2", "rich", "pyyaml",
    }  # fmt: skip
    assert set(metadata.get_all("Provides-Extra", [])) == {
        "export", "lite", "tensorboard", "wandb", "mlflow", "parquet", "serve", "docs", "dev",
    }  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in LINK.findall(text):
        if not re.match(r"\w+:|#", link):
            assert (page.parent / link.partition("#")[0]).exists(), link
