"""Files here or elsewhere: local paths and fsspec's URLs, and how they are shown."""

from __future__ import annotations

import inspect
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from gtdnet.errors import InputError
from gtdnet.text import first_line

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(?:::.*)?://")
OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
"""An object appears there whole, or not at all."""
PROTOCOLS = ("file", *OBJECT_STORES, "http", "https", "hdfs", "webhdfs", "hf")
"""A list, for fsspec also knows some that run programs or name files within others."""
_TRIES = 4
_FIRST_WAIT = 0.5  # seconds, each wait is twice as long as the one before
_ABSENT = (404, 410)  # HTTP: not found, gone
_REFUSED = (401, 403)  # HTTP: unauthorized, forbidden

Result = TypeVar("Result")


class FetchError(InputError):
    """A place that did not answer, however often it was asked. Others may."""


def is_url(path: str) -> bool:
    """Whether it names a protocol; ``C:`` and ``a::b.mp4`` do not."""
    return _URL.match(path) is not None


def shown(path: str) -> str:
    """A path or URL without what lets people in: name and password, and what signs a link."""
    if not is_url(path):
        return path
    try:
        parts = urlsplit(path)
    except ValueError:
        return path.partition("://")[0] + "://..."
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def local(path: str) -> Path | None:
    """The path on this machine, None for a URL of another place."""
    if not is_url(path):
        return Path(path).expanduser()
    return Path(path[len("file://") :]) if path.lower().startswith("file://") else None


def beside(base: str) -> Callable[[str], str]:
    """What makes a path that a table names absolute, or relative to here as the table is."""
    here = local(base)
    folder = base.partition("?")[0].rpartition("/")[0] if here is None else str(here.parent)

    def path(name: str) -> str:
        if is_url(name) or name[:1] == "/":
            return name
        # A million of them: pathlib would take most of the time.
        return f"{folder}/{name}" if here is None else os.path.join(folder, name)  # noqa: PTH118

    return path


def file_system(url: str, *more: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it; of `PROTOCOLS`, or of some more.

    Raises:
        InputError: a protocol that is not on our list, or whose package is not installed.
    """
    protocol = _protocol(url)
    if protocol not in (*PROTOCOLS, *more) or "::" in url:
        raise InputError(f"{shown(url)}: give a path, or a URL of {', '.join(PROTOCOLS)}")
    try:
        import fsspec.core
    except ImportError as error:
        raise InputError(
            f'{shown(url)}: fsspec is not installed; get it with: pip install "fsspec[{protocol}]"'
        ) from error
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise InputError(
            f"{shown(url)}: {first_line(error)}; fsspec needs that for {protocol}://"
        ) from error
    except Exception as error:
        raise InputError(f"{shown(url)}: cannot be opened ({type(error).__name__})") from error


def open_binary(path: str) -> IO[bytes]:
    """Open a file here or elsewhere for reading.

    Raises:
        InputError: it is not there, or cannot be read.
    """
    try:
        if here := local(path):
            return here.open("rb")
        system, name = file_system(path)
        return system.open(name, "rb")
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{shown(path)}: no such file; check the path") from error
    except Exception as error:  # whatever a store's library raises
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise InputError(f"{shown(path)}: cannot be read ({reason})") from error


def _protocol(url: str) -> str:
    match = _URL.match(url)
    return match[1].lower() if match else ""


@contextmanager
def fetched(path: str, most: int) -> Iterator[Path]:
    """The path of a clip on this machine: of one elsewhere a copy, which goes again.

    Of one that is larger than ``most`` MiB nothing is read if its place tells, else no more than
    that.

    Raises:
        FetchError: its place did not answer, nor some seconds later.
        InputError: it is not there, may not be read, or is too large.
    """
    if here := local(path):
        yield here
        return
    system, name = file_system(path)
    from fsspec.callbacks import Callback

    def check(size: int | None, seen: int = 0, **_: object) -> None:
        if max(size or 0, seen) > most * 2**20:
            raise InputError(f"is larger than {most} MiB, the most that --max-mib lets be fetched")

    def fetch(copy: Path) -> None:
        # A web server says with the file how long it is; others are asked, for not all do.
        if _protocol(path) not in ("http", "https"):
            check(system.info(name).get("size"))
        system.get_file(name, str(copy), callback=Callback(hooks={"check": check}))
        check(copy.stat().st_size)

    suffix = PurePosixPath(urlsplit(path).path).suffix
    with tempfile.TemporaryDirectory(prefix="gtdnet-") as folder:
        copy = Path(folder, f"clip{suffix}")
        retried(lambda: fetch(copy))
        yield copy


def retried(fetch: Callable[[], Result]) -> Result:
    """What it gives; after a failure that may pass it is asked again, some seconds long.

    Raises:
        FetchError: the place did not answer, however often it was asked.
        InputError: what is asked for is not there, or may not be read.
    """
    for attempt in range(_TRIES):
        try:
            return fetch()
        except InputError:
            raise
        except Exception as error:  # whatever a store's library raises
            error = _told(error)
            status = getattr(error, "status", 0)
            if isinstance(error, FileNotFoundError) or status in _ABSENT:
                raise InputError("no such file") from error
            if isinstance(error, PermissionError) or status in _REFUSED:
                raise InputError("may not be read") from error
            if attempt == _TRIES - 1:
                raise FetchError(f"cannot be fetched ({type(error).__name__})") from error
            time.sleep(_FIRST_WAIT * 2**attempt)
    raise AssertionError


def _told(error: Exception) -> Exception:
    """What happened: fsspec says of any failure to ask a web server for a size: no such file."""
    cause = error.__cause__
    is_web = isinstance(cause, Exception) and type(cause).__module__.startswith("aiohttp")
    return cause if isinstance(error, FileNotFoundError) and is_web else error  # type: ignore[return-value]


def read_file(url: str, *more: str) -> bytes:
    """The content of a file elsewhere; raises as `retried` does."""
    system, name = file_system(url, *more)
    return retried(lambda: system.cat_file(name))


def read_range(url: str, start: int, end: int, *more: str) -> bytes:
    """The bytes from ``start`` to before ``end`` of a file elsewhere, in one request.

    Raises:
        FetchError, InputError: as `retried`, or the place gives no parts of files.
    """
    system, name = file_system(url, *more)
    options = {}
    if not system.async_impl and "cache_type" in inspect.signature(system._open).parameters:
        options["cache_type"] = "none"  # it opens the file, and would read ahead

    def read() -> bytes:
        data = system.cat_file(name, start=start, end=end, **options)
        if len(data) > end - start:
            raise InputError("its server gives whole files only, no parts (HTTP range requests)")
        if len(data) < end - start:
            raise EOFError
        return data

    return retried(read)


def size_of(url: str, *more: str) -> int | None:
    """Bytes of a file elsewhere; None where the place does not say. Raises as `retried` does."""
    system, name = file_system(url, *more)
    return retried(lambda: system.info(name).get("size"))
