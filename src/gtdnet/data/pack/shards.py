"""Shards of a packed dataset: ZIP files out of which single frames are read.

A shard is stored, not deflated. It holds a folder of numbered JPEG pictures for each clip and, as
its last member, manifest.json. A clip's path is the shard's path, then the clip's name:
``PACKED/clips-00000.zip/val/jump/7.mp4``; its first picture is ``val/jump/7.mp4/00001.jpg`` there.

A ZIP file ends with its directory: one record per member, with its place, size and CRC-32. The
standard library reads all records of a file when it opens it, tens of thousands to get at eight
frames. Here only those of the wanted frames are read: manifest.json says where in the directory a
clip's records begin, and since the names of its pictures are equally long, so are their records.
"""

from __future__ import annotations

import bisect
import functools
import json
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any, BinaryIO

from gtdnet.data.pack.remote import (
    TAIL,
    RangeFile,
    RemoteShard,
    is_remote,
    remote_pack,
    split_url,
)
from gtdnet.errors import DecodeError, InputError
from gtdnet.places import shown

MANIFEST = "manifest.json"
VERSION = 1
MAX_BYTES = 2_000_000_000  # beyond 2^31 the records of the directory grow longer
AGAIN = "copy it again, or pack the dataset again into a new folder"

# Little-endian; PKWARE, APPNOTE.TXT, 4.3.7, 4.3.12 and 4.3.16.
_LOCAL = struct.Struct("<4s22xHH")  # signature; lengths of name and extra field
# Signature, method, CRC-32, stored and plain size, lengths of name, extra field, comment; place.
_RECORD = struct.Struct("<4s6xH4xLLLHHH8xL")
_END = struct.Struct("<4s8xLLH")  # signature, size and place of the directory, length of comment


@dataclass(frozen=True, slots=True)
class ClipEntry:
    """What a shard's manifest says of a clip.

    Attributes:
        start: place of its first record, in bytes from the beginning of the directory.
        frames: number of its frames, stored or broken; 0 where nothing could be read.
        packets: from how many frames indices are chosen, if not from ``frames``: some files hold
            packets that give no picture, which shows only when they are decoded.
        height, width: of the first stored frame, pixels.
        fps, seconds: as the original states them.
        end: the first frame that could not be decoded, where decoding broke off.
        reason: why it did.
        broken: by index, why single frames before ``end`` could not be decoded; they have no
            picture.
        times: seconds at which the frames are shown, and the end, where they are not evenly spaced.
    """

    start: int
    frames: int
    packets: int | None = None
    height: int | None = None
    width: int | None = None
    fps: float | None = None
    seconds: float | None = None
    end: int | None = None
    reason: str | None = None
    broken: dict[int, str] | None = None
    times: list[float] | None = None

    @property
    def stored(self) -> int:
        """The number of its pictures."""
        return (self.frames if self.end is None else self.end) - len(self.broken or ())

    def picture(self, clip: str, index: int) -> str:
        """The member that frame ``index`` of the clip is."""
        digits = max(5, len(str(max(self.frames, self.packets or 0))))
        return f"{clip}/{index + 1:0{digits}d}.jpg"

    def pictures(self, clip: str) -> list[str]:
        """All its members, in order."""
        broken = self.broken or {}
        indices = range(self.stored + len(broken))
        return [self.picture(clip, i) for i in indices if i not in broken]

    def why_broken(self, index: int) -> str | None:
        """Why there is no such frame; None if there is."""
        is_behind = self.end is not None and index >= self.end
        reason = self.reason if is_behind else (self.broken or {}).get(index)
        return reason and f"its original was broken: {reason}, then pack the dataset again"


@dataclass(frozen=True)
class PackedClip:
    """A clip in a shard. ``directory``: place and size of the shard's directory, bytes."""

    path: Path | str
    shard: Path | RemoteShard
    name: str
    entry: ClipEntry
    directory: tuple[int, int]

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """(index, JPEG file) of the frames with these indices, given in ascending order.

        Raises:
            DecodeError: a frame that could not be decoded when the clip was packed, or that is not
                as it was written.
        """
        entry = self.entry
        length = _RECORD.size + len(entry.picture(self.name, 0).encode())
        broken = sorted(entry.broken or ())
        start, size = self.directory
        with self._open() as file:  # anew for each clip: no handle outlives a fork
            self._check_number(file, length)
            places = {}
            for index in indices:
                if entry.why_broken(index):
                    break
                places[index] = entry.start + length * (index - bisect.bisect(broken, index))
            if isinstance(file, RangeFile):
                self._fetch(file, length, places.values())
            for index in indices:
                if reason := entry.why_broken(index):
                    raise DecodeError(self.path, reason)
                name = entry.picture(self.name, index).encode()
                try:
                    if places[index] + length > size:
                        raise _Damage("it is not in the directory")
                    yield index, self._picture(file, start + places[index], length, name)
                except (_Damage, OSError) as error:
                    what = f"frame {index} is damaged in {self.shard.name} ({error})"
                    raise DecodeError(self.path, f"{what}; {AGAIN}") from None

    def _open(self) -> RangeFile | BinaryIO:
        if isinstance(self.shard, RemoteShard):
            return self.shard.open(f"{self.entry.start:x}", self.directory)
        return self.shard.open("rb")

    def _fetch(self, file: RangeFile, length: int, places: Iterable[int]) -> None:
        """Fetch the pictures with these places in the directory; DecodeError if they can't be."""
        start, size = self.directory
        extents = []
        try:
            for place in places:
                file.seek(start + place)
                record = file.read(min(length, size - place))
                if len(record) == length:
                    _, _, _, stored, _, name, _, _, at = _RECORD.unpack_from(record)
                    extents.append((at, min(at + _LOCAL.size + name + stored, start)))
            file.expect(extent for extent in extents if extent[0] < extent[1])
        except InputError as error:
            raise DecodeError(self.path, str(error)) from error

    def _picture(self, file: RangeFile | BinaryIO, place: int, length: int, name: bytes) -> bytes:
        """The picture whose record is there; what came damaged is fetched once more."""
        while True:
            try:
                file.seek(place)
                return _content(file, file.read(length), name)
            except _Damage:
                if not isinstance(file, RangeFile) or not file.forget():
                    raise
            except InputError as error:
                raise DecodeError(self.path, str(error)) from error

    def _check_number(self, file: RangeFile | BinaryIO, length: int) -> None:
        """Raise `DecodeError` unless the shard holds as many pictures as the manifest says."""
        (start, size), own = self.directory, f"{self.name}/".encode()
        last = self.entry.start + length * (self.entry.stored - 1)
        if self.entry.stored < 1:
            return  # whatever is asked for is broken
        records = b""
        if last + length <= size:
            file.seek(start + last)
            try:
                records = file.read(min(2 * length, size - last))
            except InputError as error:
                raise DecodeError(self.path, str(error)) from error
        of, behind = (records[i + _RECORD.size :].startswith(own) for i in (0, length))
        if not of or behind:
            what = f"has not the {self.entry.stored} pictures of it that it says"
            raise DecodeError(self.path, f"{self.shard.name} {what}; {AGAIN}")


def packed_clip(path: Path | str) -> PackedClip | None:
    """The clip that a path or URL names, if it leads into a shard; else None.

    Raises:
        DecodeError: there is no such shard or clip, or the shard is damaged or can't be fetched.
    """
    shard: Path | RemoteShard
    if is_remote(path):
        if (place := split_url(str(path))) is None:
            return None
        pack, file, name = place
        try:
            shards = remote_pack(pack).shards
        except InputError as error:
            raise DecodeError(shown(str(path)), str(error)) from error
        if file not in shards:
            raise DecodeError(path, f"{pack} has no shard {file}; check the URL")
        shard = shards[file]
    else:
        path = Path(path)
        for i, part in enumerate(path.parts[:-1], 1):
            if part.endswith(".zip") and not (shard := Path(*path.parts[:i])).is_dir():
                name = "/".join(path.parts[i:])
                break
        else:
            return None
    try:
        clips, directory = _contents(shard)
    except _Damage as error:
        raise DecodeError(path, f"its shard {shard.name} {error}; {AGAIN}") from None
    except InputError as error:
        raise DecodeError(path, str(error)) from error
    if name not in clips:
        raise DecodeError(path, f"there is no such clip in {shard}; its {MANIFEST} lists them all")
    return PackedClip(path, shard, name, clips[name], directory)


def read_shard(shard: Path | RemoteShard) -> dict[str, ClipEntry]:
    """The clips of a shard by name, in order; InputError if it is not there, or damaged."""
    try:
        return _contents(shard)[0]
    except _Damage as error:
        raise InputError(f"{shard} {error}; {AGAIN}") from None


class _Damage(Exception):
    """A ZIP file is not as it was written."""


def _contents(shard: Path | RemoteShard) -> tuple[dict[str, ClipEntry], tuple[int, int]]:
    """The clips by name; place and size of the directory in bytes.

    All that is wrong with the shard is _Damage; FetchError or InputError if it can't be fetched.
    """
    try:
        if isinstance(shard, RemoteShard):
            return _read_shard(shard, shard.size, 0)
        status = shard.stat()
        return _read_shard(shard, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise _Damage(f"can't be opened ({error.strerror})") from None
    except _Damage as error:
        raise _Damage(f"is damaged ({error})") from None


# Size and time of change tell a shard that was replaced from the one that was read.
@functools.lru_cache(maxsize=4096)
def _read_shard(
    shard: Path | RemoteShard, size: int, mtime: int
) -> tuple[dict[str, ClipEntry], tuple[int, int]]:
    if isinstance(shard, RemoteShard):
        with shard.open("manifest") as file:
            file.expect([(max(0, size - TAIL), size)])
            try:
                return _read_contents(file, size)
            except _Damage:
                file.forget()
                return _read_contents(file, size)
    with shard.open("rb") as file:
        return _read_contents(file, size)


def _read_contents(
    file: RangeFile | BinaryIO, size: int
) -> tuple[dict[str, ClipEntry], tuple[int, int]]:
    name = MANIFEST.encode()
    length = _RECORD.size + len(name)
    file.seek(max(0, size - _END.size))
    end = file.read(_END.size)
    if len(end) < _END.size or end[:4] != b"PK\5\6":
        raise _Damage("it is cut off, or no shard")
    _, extent, start, comment = _END.unpack(end)
    if comment or extent < length or start + extent > size:
        raise _Damage("its directory is not as it was written")
    file.seek(start + extent - length)
    content = _content(file, file.read(length), name)
    try:
        manifest = json.loads(content)
        if manifest["gtdnet_shard"] != VERSION:
            raise _Damage(f"its version is {manifest['gtdnet_shard']!r}, not {VERSION}")
        clips = {name: _entry(**values) for name, values in manifest["clips"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _Damage(f"its {MANIFEST} can't be read") from None
    return clips, (start, extent)


def _entry(
    broken: dict[str, str] | None = None, times: list[float] | None = None, **values: Any
) -> ClipEntry:
    """The entry of these JSON values; ValueError or TypeError where they are none."""
    for name, value in values.items():
        kinds = str if name == "reason" else (int, float) if name in ("fps", "seconds") else int
        if not isinstance(value, kinds) or (not isinstance(value, str) and value < 0):
            raise ValueError(f"{name}={value!r}")
    if ("end" in values) != ("reason" in values):
        raise ValueError("end and reason go together")
    reasons = {int(index): str(reason) for index, reason in (broken or {}).items()}
    if times is not None:
        count = values.get("packets") or values["frames"]
        is_finite = all(isinstance(time, (int, float)) and 0 <= time < inf for time in times)
        if len(times) != count + 1 or not is_finite or times != sorted(times):
            raise ValueError("times of no clip")
    return ClipEntry(**values, broken=reasons or None, times=times)


def _content(file: RangeFile | BinaryIO, record: bytes, name: bytes) -> bytes:
    """The content of the member that a record of the directory describes, checked."""
    if len(record) < _RECORD.size:
        raise _Damage("the directory is cut off")
    signature, method, crc, stored, plain, *lengths, place = _RECORD.unpack_from(record)
    if (signature, record[_RECORD.size :], lengths) != (b"PK\1\2", name, [len(name), 0, 0]):
        raise _Damage("the directory is not as it was written")
    if method or stored != plain or stored > MAX_BYTES:
        raise _Damage("it is compressed")
    head = _LOCAL.size + len(name)
    file.seek(place)
    data = file.read(head + stored)
    if len(data) != head + stored:
        raise _Damage("it is cut off")
    if data[_LOCAL.size : head] != name or _LOCAL.unpack_from(data) != (b"PK\3\4", len(name), 0):
        raise _Damage("its header is not as it was written")
    content = data[head:]
    if zlib.crc32(content) != crc:
        raise _Damage("its checksum does not match")
    return content


# Writing


@dataclass(frozen=True)
class NewClip:
    """A clip to be written: its JPEG files lie one after the other in the file ``part``.

    ``sizes`` are theirs in bytes; ``entry`` lacks its start.
    """

    name: str
    entry: ClipEntry
    part: Path
    sizes: tuple[int, ...]

    def num_bytes(self) -> int:
        """What its pictures take of a shard."""
        around = _LOCAL.size + _RECORD.size
        names = self.entry.pictures(self.name)
        return sum(self.sizes) + sum(around + 2 * len(name.encode()) for name in names)


def write_shard(path: Path, clips: Iterable[NewClip]) -> None:
    """Write the clips to a new shard, the same bytes at any time, and remove their parts."""
    entries: dict[str, Any] = {}
    start = 0
    with zipfile.ZipFile(path, "w") as archive:
        for clip in clips:
            names = clip.entry.pictures(clip.name)
            with clip.part.open("rb") as part:
                for name, size in zip(names, clip.sizes, strict=True):
                    archive.writestr(_member(name), part.read(size))
            clip.part.unlink()
            entry = {**asdict(clip.entry), "start": start}
            entries[clip.name] = {k: v for k, v in entry.items() if v is not None}
            start += sum(_RECORD.size + len(name.encode()) for name in names)
        manifest = {"gtdnet_shard": VERSION, "clips": entries}
        archive.writestr(_member(MANIFEST), json.dumps(manifest, indent=1) + "\n")


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    member.create_system, member.external_attr = 3, 0o644 << 16  # Unix, readable
    return member
