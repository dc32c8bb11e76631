"""What mkdocs needs beside the pages in docs/: those outside it, the API, the commands' help.

A hook of mkdocs (mkdocs.yml names it). Pages are written for the repository, where README.md lies
one folder above; their links are turned to the site, and those to other files to the repository.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
OUTSIDE = {  # a page of the site: the file of the repository
    "readme.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "changelog.md": "CHANGELOG.md",
}
API = {  # a page: its title, and the modules whose public names it tells
    "gtdnet": ("gtdnet", ["gtdnet", "gtdnet.errors"]),
    "nn": ("gtdnet.nn", ["gtdnet.nn"]),
    "models": ("gtdnet.models", ["gtdnet.models"]),
    "data": (
        "gtdnet.data",
        [f"gtdnet.data.{name}" for name in ("spec", "formats", "dataset", "loader", "transforms")],
    ),
    "infer": ("gtdnet.infer", ["gtdnet.infer.recognizer", "gtdnet.infer.options"]),
    "live": (
        "gtdnet.live",
        [f"gtdnet.live.{name}" for name in ("watcher", "sources", "reports", "events")],
    ),
    "train": ("gtdnet.train", ["gtdnet.train.config", "gtdnet.train.run"]),
    "evaluate": ("gtdnet.evaluate", ["gtdnet.evaluate"]),
    "engines": ("gtdnet.engines", ["gtdnet.engines", "gtdnet.export"]),
}
_ITEM = re.compile(r"(- |\* |\d+\. )")
_NO_TEXT = re.compile(r"\s|[|>#]|- |\* |\d+\. ")
_LINK = re.compile(r"(\]\()((?!\w+:|#)[^)\s#]+)")


def on_config(config: Any) -> Any:
    """The repository's address is that in pyproject.toml."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    config.repo_url = re.findall(r'^Source = "(.+)"$', project, re.MULTILINE)[0]
    config.repo_name = config.site_name
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that do not lie in docs/."""
    pages = {page: (ROOT / name).read_text(encoding="utf-8") for page, name in OUTSIDE.items()}
    for name, (title, modules) in API.items():
        pages[f"api/{name}.md"] = "\n\n".join([f"# {title}", *(f"::: {m}" for m in modules)])
    pages["commands.md"] = _commands()
    for page, content in pages.items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Links between files of the repository become links between pages, or to the repository."""
    own = OUTSIDE.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    pages = {name: page for page, name in OUTSIDE.items()}

    def turn(link: re.Match[str]) -> str:
        path = os.path.normpath((ROOT / own).parent / link[2])
        name = os.path.relpath(path, ROOT)
        if name in pages:
            return link[1] + pages[name]
        if name.startswith("docs/") or not Path(path).exists():  # mkdocs says if it is not there
            return link[1] + os.path.relpath(path, DOCS)
        return f"{link[1]}{config.repo_url}/blob/main/{name}"

    markdown = re.sub(r"^```(\w+) file=(\S+)", r'```\1 title="\2"', markdown, flags=re.MULTILINE)
    return _LINK.sub(turn, _apart(markdown))


def _apart(markdown: str) -> str:
    """An empty line between a paragraph and a list, which is a list on GitHub without it too."""
    code, lines = False, [""]
    for line in markdown.splitlines():
        code ^= line.startswith("```")
        before = lines[-1]
        if not code and _ITEM.match(line) and before and not _NO_TEXT.match(before):
            lines.append("")
        lines.append(line)
    return "\n".join(lines[1:])


def on_page_content(html: str, **_: Any) -> str:
    """Docstrings' :func:`name` is the name alone."""
    return re.sub(r":(?:func|class|meth|mod|data|attr|exc):(?=<code>)", "", html)


def _commands() -> str:
    """``--help`` of every command."""
    code = (
        "from gtdnet.cli import COMMANDS, main\n"
        "for name, title in COMMANDS.items():\n"
        "    print(f'## gtdnet {name}\\n\\n{title[0].upper()}{title[1:]}.\\n\\n```text')\n"
        "    try: main([*name.split(), '--help'])\n"
        "    except SystemExit: pass\n"
        "    print('```\\n')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "80", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return f"# Commands\n\nWhat `--help` says of each.\n\n{done.stdout}"
