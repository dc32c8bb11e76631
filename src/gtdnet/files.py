"""Files: written so that a half-written one never stands under its final name; read; hashed.

While a file or folder is being written it has a temporary name (``.NAME-XXXXXXXX.tmp``) beside its
final one, and its process locks it. So the next one to write there finds out what a killed process
left, and removes it.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import yaml

from gtdnet.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"
_TEMPORARY = ".tmp"
_LEFT = re.compile(r"\.(.+)-[a-z0-9_]{8}\.tmp(\.[^.]+)?")  # name and suffix of the final one


_NO_ROOM = {errno.ENOSPC, errno.EFBIG, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)}


class NotWritten(InputError):
    """There is no room for a file. What was to be written is not lost: whoever has it shows it."""


@contextmanager
def _saying(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise NotWritten(
            f"{path}: could not be written ({error.strerror}); make room, or choose another place"
        ) from error


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes that name, else it is removed.

    The folder is made if it is not there. The suffix is kept, for writers that go by it.

    Raises:
        NotWritten: there is no room for it.
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
    _remove_left(final.parent, (final.stem, final.suffix or None))
    with _saying(final):
        temporary, lock = _temporary_file(final)
    try:
        with _saying(final):
            yield temporary
            temporary.chmod(0o666 & ~_umask())  # mkstemp's files are private to the user
            temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)
        _unlock(lock)


def check_place(path: str | Path | None) -> None:
    """Raise InputError where a file or folder could not be made, before the work it is to hold.

    Looks by making a file without a name in the folder, or the nearest one above it that is there.
    """
    if path is None:
        return
    final = Path(path)
    try:
        there = next(place for place in (final, *final.absolute().parents) if place.exists())
        if there == final and not final.is_dir():
            there = final.absolute().parent
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        if error.errno in _NO_ROOM - {errno.EROFS}:
            return  # for a small file there may be some yet; who has the results shows them
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); choose another place"
        ) from error


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder; on success ``path`` holds its files, else it goes.

    A new ``path`` is that folder with another name. One that is there (empty: a mount, or where
    somebody works) stays what it is and gets the files.

    Raises:
        ValueError: ``path`` is a file, or a folder that holds files, or it cannot be made.
    """
    final = Path(path).resolve()
    is_there = final.is_dir()
    place = final if is_there else final.parent
    _remove_left(place, (final.name, None))
    check_free(Path(path))
    temporary = place / f".{final.name}-{secrets.token_hex(4)}{_TEMPORARY}"
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be made ({error.strerror}); choose another folder"
        ) from error
    lock = os.open(temporary, os.O_RDONLY) if fcntl else None
    _lock(lock)
    try:
        with _saying(path):
            yield temporary
            check_free(final, temporary)
            if is_there:
                for file in list(temporary.iterdir()):
                    file.replace(final / file.name)
            else:
                temporary.replace(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _unlock(lock)


def check_free(folder: Path, *ours: Path) -> None:
    """Raise InputError unless a folder is new, or holds nothing but ``ours``."""
    if folder.is_dir() and any(path not in ours for path in folder.iterdir()):
        raise InputError(f"{folder}: holds files already; choose another folder")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file already; choose another folder")


def walk(root: str | Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As os.walk, top down, into linked folders too.

    Raises:
        ValueError: a folder cannot be listed, or a link leads back to a folder that it lies in.
    """

    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename}: cannot be listed ({error.strerror}); check its permissions"
        )

    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        yield folder, folders, files
        for name in folders:
            link = os.path.join(folder, name)  # noqa: PTH118  (hundreds of thousands of folders)
            if not os.path.islink(link):  # noqa: PTH114
                continue
            above = [os.path.realpath(path) for path in (folder, *Path(folder).parents)]
            above += map(str, Path(os.path.realpath(root)).parents)
            if (target := os.path.realpath(link)) in above:
                raise InputError(
                    f"{link}: links to {target}, a folder that it lies in; remove the link"
                )


def dead_link(path: str | Path) -> str | None:
    """That a path is a link to nowhere, or leads through one, in words; None where it is not."""
    for part in (Path(path), *Path(path).parents):
        if part.is_symlink() and not part.exists():
            what = "it" if part == Path(path) else str(part)
            return f"{what} is a link to nowhere ({os.readlink(part)})"  # noqa: PTH115
    return None


# ------------------------------------------------------------------------- folders for one process


class Occupied(InputError):
    """Another process is at work in a folder."""


_held: set[Path] = set()  # folders that this process has


@contextmanager
def alone_in(folder: Path, remedy: str) -> Iterator[None]:
    """Have a folder for this process alone; it is made, and goes again if nothing came into it.

    The system takes the lock back when the process ends, even if it is killed; its children do not
    keep it. Where the file system has no locks, nobody is kept out.

    Raises:
        Occupied: somebody else has it; ``remedy`` says what may be done but waiting.
        InputError: it cannot be made or written to.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    key = folder.resolve()
    # A second look from here at the lock's file would end the lock when it was closed.
    if key in _held:
        raise Occupied(f"{folder}: is being written by this process already; {remedy}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _own_lock(folder, remedy)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be made or written to ({error.strerror}); choose another folder"
        ) from error
    _held.add(key)
    try:
        _remove_left(folder)
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK_FILE).unlink()
        lock.close()
        _held.discard(key)
        with suppress(OSError):  # something came into it
            for path in made:
                path.rmdir()


@contextmanager
def alone_in_first(
    folders: Iterable[Path], is_taken: Callable[[Path], object], remedy: str
) -> Iterator[Path]:
    """Have the first folder alone that is not taken and that nobody is at work in.

    Raises:
        Occupied: somebody is at work in all that are not taken.
    """
    occupied = Occupied(f"no folder is free; {remedy}")
    for folder in folders:
        if is_taken(folder):
            continue
        held = alone_in(folder, remedy)
        try:
            held.__enter__()
        except Occupied as error:
            occupied = error
            continue
        try:
            if is_taken(folder):  # by one that has just ended
                continue
            yield folder
            return
        finally:
            held.__exit__(None, None, None)
    raise occupied


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing, or only what a killed process left of its first files."""
    return folder.is_dir() and all(
        path.name == LOCK_FILE or _LEFT.fullmatch(path.name) for path in folder.iterdir()
    )


def _own_lock(folder: Path, remedy: str) -> IO[str]:
    while True:
        file = (folder / LOCK_FILE).open("a+")
        try:
            if fcntl:
                # Of the process, not of the open file: workers that are forked do not keep it.
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:  # either, POSIX says
            file.seek(0)
            process = file.read(20).strip()
            file.close()
            raise Occupied(
                f"{folder}: another gtdnet is at work in it"
                + (f" (process {process})" if process.isdecimal() else "")
                + f"; wait until that has ended, or {remedy}"
            ) from error
        except OSError:  # no locks on this file system
            pass
        if os.fstat(file.fileno()).st_nlink:
            file.truncate(0)
            print(os.getpid(), file=file, flush=True)
            return file
        file.close()  # its holder has removed it and ended


# ------------------------------------------------------------------------------- temporary names


def _temporary_file(final: Path) -> tuple[Path, int | None]:
    """A new file with a temporary name beside its final one, and its lock."""
    suffix = f"{_TEMPORARY}{final.suffix}"
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{final.stem}-", suffix=suffix, dir=final.parent)
        if fcntl is None:
            os.close(handle)
            return Path(name), None
        _lock(handle)
        if os.fstat(handle).st_nlink:  # else taken for a killed process's before it was locked
            return Path(name), handle
        os.close(handle)


_left: dict[Path, list[str]] = {}  # temporary names that were in a folder when first looked at


def _remove_left(folder: Path, of: tuple[str, str | None] | None = None) -> None:
    """Remove what killed processes left in a folder: of one name and suffix, or all."""
    if fcntl is None or not folder.is_dir():
        return
    place = folder.resolve()
    if of is None or place not in _left:  # it may hold a hundred thousand files
        with os.scandir(folder) as entries:
            _left[place] = [entry.name for entry in entries if _LEFT.fullmatch(entry.name)]
    for name in _left[place]:
        match = _LEFT.fullmatch(name)
        if match is None or of not in (None, match.groups()):
            continue
        path = folder / name
        with suppress(OSError):  # of another user, just removed, no locks on this file system
            lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            finally:
                os.close(lock)


def _lock(handle: int | None) -> None:
    if fcntl and handle is not None:
        with suppress(OSError):  # no locks on this file system
            fcntl.flock(handle, fcntl.LOCK_EX)


def _unlock(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


@contextmanager
def appended(
    path: str | Path, overwrite: bool = False
) -> Iterator[tuple[bytes, bytes, Callable[[bytes], None]]]:
    """The lines of a file, what of a last one a killed process left, and what adds lines.

    The file is made if it is not there, and nothing of it changes before lines are added: then the
    unfinished one goes, or with ``overwrite`` all.

    Raises:
        ValueError: it cannot be written to, or another process is writing it.
    """
    file = Path(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = file.open("a+b", buffering=0)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written to ({error.strerror}); choose another file"
        ) from error
    with handle:
        try:
            if fcntl:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{path}: another gtdnet is writing it; wait until that has ended, or choose "
                f"another file"
            ) from error
        except OSError:  # no locks on this file system
            pass
        handle.seek(0)
        content = b"" if overwrite else handle.read()
        size = content.rfind(b"\n") + 1

        def add(lines: bytes) -> None:
            nonlocal size
            handle.truncate(size)
            while lines:
                written = handle.write(lines) or 0
                size, lines = size + written, lines[written:]

        yield content[:size], content[size:], add


# ------------------------------------------------------------------------------------ all at once


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically.

    Of a file name that is not UTF-8 the bytes are spelled \\udc80 to \\udcff: JSON reads them back.
    """
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
    """What a YAML file holds; InputError if there is none, or it is not YAML."""
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
