"""docs/site.py: what stands in the repository is the same on the site. make docs builds it all."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site() -> ModuleType:
    pytest.importorskip("mkdocs", reason="the extra gtdnet[docs] is not installed")
    found = importlib.util.spec_from_file_location("site_hook", ROOT / "docs" / "site.py")
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def turned(site: ModuleType, page: str, markdown: str) -> str:
    file = SimpleNamespace(src_uri=page)
    config = SimpleNamespace(repo_url="https://here")
    return site.on_page_markdown(markdown, page=SimpleNamespace(file=file), config=config)


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("data.md", "training.md#recipes", "training.md#recipes"),
        ("index.md", "../README.md", "readme.md"),
        ("trust.md", "../CONTRIBUTING.md#x", "contributing.md#x"),
        ("readme.md", "docs/data.md", "data.md"),
        ("readme.md", "CITATION.cff", "https://here/blob/main/CITATION.cff"),
        ("security.md", "benchmarks/results/fuzz.yaml",
         "https://here/blob/main/benchmarks/results/fuzz.yaml"),
        ("data.md", "nothing.md", "nothing.md"),  # mkdocs says so
        ("data.md", "../src/nothing.py", "../src/nothing.py"),
        ("data.md", "https://pytorch.org", "https://pytorch.org"),
        ("data.md", "#pictures", "#pictures"),
    ],
)  # fmt: skip
def test_links_lead_where_they_do_in_the_repository(
    site: ModuleType, page: str, link: str, expected: str
) -> None:
    assert turned(site, page, f"[there]({link})") == f"[there]({expected})"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Text:\n- one\n- two", "Text:\n\n- one\n- two"),
        ("**Bold**\n1. one\n2. two", "**Bold**\n\n1. one\n2. two"),
        ("- one\n  and more\n- two", "- one\n  and more\n- two"),
        ("Text.\n\n- one", "Text.\n\n- one"),
        ("```\na\n- b\n```", "```\na\n- b\n```"),
        ("    a\n    - b", "    a\n    - b"),
        ("```python file=mine/a.py\nx\n```", '```python title="mine/a.py"\nx\n```'),
    ],
)
def test_what_is_a_list_on_github_is_one_here(site: ModuleType, given: str, expected: str) -> None:
    assert turned(site, "data.md", given) == expected


def test_every_page_is_in_the_contents() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = text.partition("\nnav:")[2]
    assert yaml.safe_load("nav:" + named)
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name in named, f"mkdocs.yml's nav lacks {page.name}"
