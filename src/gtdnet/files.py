"""Files: written so that a half-written one never stands under its final name; read; hashed."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from gtdnet.errors import InputError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes that name, else it is removed.

    The folder is made if it is not there. The suffix is kept, for writers that go by it.

    Raises:
        ValueError: the path is a folder, or a file lies where its folder would be.
    """
    final = Path(path)
    if final.is_dir():
        raise InputError(f"{final}: is a folder; give the name of a file")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        blocking = next(folder for folder in final.parents if folder.exists())
        raise InputError(
            f"{final}: cannot be written, for {blocking} is a file, not a folder; choose another "
            f"place"
        ) from error
    handle, name = tempfile.mkstemp(prefix=f".{final.stem}-", suffix=final.suffix, dir=final.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp's files are private to the user
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder; on success ``path`` holds its files, else it goes.

    A new ``path`` is that folder with another name. One that is there (empty: a mount, or where
    somebody works) stays what it is and gets the files.

    Raises:
        ValueError: ``path`` is a file, or a folder that holds files, or it cannot be made.
    """
    final = Path(path).resolve()
    check_free(Path(path))
    is_there = final.is_dir()
    temporary = (final if is_there else final.parent) / f".{final.name}-{secrets.token_hex(4)}"
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be made ({error.strerror}); choose another folder"
        ) from error
    try:
        yield temporary
        check_free(final, temporary)
        if is_there:
            for file in list(temporary.iterdir()):
                file.replace(final / file.name)
        else:
            temporary.replace(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_free(folder: Path, *ours: Path) -> None:
    """Raise InputError unless a folder is new, or holds nothing but ``ours``."""
    if folder.is_dir() and any(path not in ours for path in folder.iterdir()):
        raise InputError(f"{folder}: holds files already; choose another folder")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file already; choose another folder")


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically; what is no Unicode, as in file names, is escaped."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | Path, value: Any) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_csv(path: str | Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows, the first of them heads, atomically; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def write_yaml(path: str | Path, value: Any) -> None:
    """Write YAML atomically; mappings keep their order."""
    write_text(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def read_yaml(path: str | Path) -> Any:
    """What a YAML file holds.

    Raises:
        ValueError: no such file, or it is not YAML.
    """
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not YAML") from error


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
