"""Damage for `fuzz.py`: bytes, text, and the inside of files that have checksums or lengths."""

from __future__ import annotations

import io
import json
import math
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
            2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
NUMBERS = ("0", "-1", "2", "7", "65536", "2147483648", "1e999", "-0.5", "NaN", "Infinity", "²",
           "9" * 400, "9" * 5000)  # fmt: skip
WORDS = ("", "a", "null", "true", "[]", "{}", '""', "\\ud800", "\0", "\x1b[31m", "é", "..", "/",
         "../../etc/passwd", "a\nb", ",", ";", '"', "x" * 5000, "[" * 3000)  # fmt: skip


def damage(path: Path, rng: random.Random, other: bytes) -> str:
    """Change a file in one to three ways; says in which. ``other``: of a file of its kind."""
    data, ways = path.read_bytes(), []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        inside = _INSIDE.get(path.suffix) if rng.random() < 0.6 else None
        changed = inside(data, rng) if inside else None
        if changed is not None:
            ways.append("inside")
        elif path.suffix in _TEXT and rng.random() < 0.8:
            changed = _text(data, rng)
            ways.append("text")
        else:
            way = rng.choice(list(_WAYS))
            changed = _WAYS[way](data, rng, other)
            ways.append(way)
        data = changed
    path.write_bytes(data)
    return " + ".join(ways)


# ------------------------------------------------------------------------------------------- bytes


def _place(data: bytes, rng: random.Random) -> int:
    """Anywhere; more often near the beginning or the end, where headers and indices are."""
    where = rng.choice(("all", "all", "head", "tail"))
    low = max(0, len(data) - 1024) if where == "tail" else 0
    high = min(1024, len(data)) if where == "head" else len(data)
    return rng.randrange(low, max(low + 1, high))


def _span(data: bytes, rng: random.Random) -> tuple[int, int]:
    """Begin and end of a stretch; short ones are as likely as long ones."""
    length = int(2 ** rng.uniform(0, math.log2(max(4, len(data) // 3))))
    start = _place(data, rng)
    return start, min(len(data), start + length)


def _flip(data: bytes, rng: random.Random, _: bytes) -> bytes:
    changed = bytearray(data)
    for _bit in range(int(2 ** rng.uniform(0, 5))):
        if changed:
            changed[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _write(data: bytes, rng: random.Random, _: bytes) -> bytes:
    """A number at its limits, in the place of another."""
    place, size = _place(data, rng), rng.choice((1, 2, 4, 8))
    number = rng.choice(EXTREMES) & ((1 << 8 * size) - 1)
    content = number.to_bytes(size, rng.choice(("big", "little")))
    return data[:place] + content + data[place + size :]


def _fill(data: bytes, rng: random.Random, _: bytes) -> bytes:
    start, end = _span(data, rng)
    content = rng.choice((bytes(end - start), b"\xff" * (end - start), rng.randbytes(end - start)))
    return data[:start] + content + data[end:]


def _remove(data: bytes, rng: random.Random, _: bytes) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def _repeat(data: bytes, rng: random.Random, _: bytes) -> bytes:
    start, end = _span(data, rng)
    return data[:end] + data[start:]


def _move(data: bytes, rng: random.Random, _: bytes) -> bytes:
    start, end = _span(data, rng)
    rest = data[:start] + data[end:]
    place = _place(rest, rng)
    return rest[:place] + data[start:end] + rest[place:]


def _cut(data: bytes, rng: random.Random, _: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _splice(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """A stretch of another file, in or in the place of one."""
    start, end = _span(other, rng)
    place = _place(data, rng)
    after = place + (end - start if rng.random() < 0.5 else 0)
    return data[:place] + other[start:end] + data[after:]


_WAYS: dict[str, Callable[[bytes, random.Random, bytes], bytes]] = {
    "flip": _flip, "number": _write, "fill": _fill, "remove": _remove, "repeat": _repeat,
    "move": _move, "cut": _cut, "splice": _splice,
}  # fmt: skip

# -------------------------------------------------------------------------------------------- text

_TEXT = frozenset({".json", ".csv", ".txt", ".xml", ".yaml", ""})
_TOKEN = re.compile(r"-?\d+(?:\.\d+)?|\w+|\s+|[^\w\s]")


def _text(data: bytes, rng: random.Random) -> bytes:
    """Lines or words taken out, doubled, exchanged, or replaced by odd ones."""
    text = data.decode("utf-8", "surrogateescape")
    way = rng.choice(("lines", "words", "words", "numbers"))
    parts = text.splitlines(keepends=True) if way == "lines" else _TOKEN.findall(text)
    places = [i for i, part in enumerate(parts) if way != "numbers" or part[-1].isdigit()]
    if not places:
        return (text + rng.choice(WORDS)).encode("utf-8", "surrogateescape")
    i, j = rng.choice(places), rng.choice(places)
    change = rng.choice(("replace", "replace", "remove", "double", "exchange"))
    if change == "replace":
        parts[i] = rng.choice(NUMBERS if way == "numbers" or rng.random() < 0.3 else WORDS)
    elif change == "exchange":
        parts[i], parts[j] = parts[j], parts[i]
    else:
        parts[i : i + 1] = [] if change == "remove" else [parts[i], parts[i]]
    return "".join(parts).encode("utf-8", "surrogateescape")


# ------------------------------------------------------------------------------------------ inside


def _inside_zip(data: bytes, rng: random.Random) -> bytes | None:
    """One member changed, with its right checksum."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            members = [(info, file.read(info)) for info in file.infolist()]
    except Exception:  # damaged before: any of zipfile's
        return None
    if not members:
        return None
    chosen = rng.randrange(len(members))
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as file:
        for number, (info, content) in enumerate(members):
            if number == chosen:
                way = rng.choice(list(_WAYS.values()))
                is_text = content[:1] in (b"{", b"[") and rng.random() < 0.8
                content = _text(content, rng) if is_text else way(content, rng, content)
            try:
                file.writestr(info, content)
            except (ValueError, zipfile.LargeZipFile):
                return None
    return whole.getvalue()


def _inside_safetensors(data: bytes, rng: random.Random) -> bytes | None:
    """Its JSON header changed as text, or gtdnet's within it, with its right length."""
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length]
    if not 2 < length < len(data):
        return None
    try:
        content = json.loads(header)
        ours = content["__metadata__"]["gtdnet"]
    except (ValueError, KeyError, TypeError, RecursionError):
        content = ours = None
    if content is not None and ours is not None and rng.random() < 0.7:
        changed = _text(ours.encode("utf-8", "surrogateescape"), rng)
        content["__metadata__"]["gtdnet"] = changed.decode("utf-8", "replace")
        header = json.dumps(content).encode()
    else:
        header = _text(header, rng)
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _inside_onnx(data: bytes, rng: random.Random) -> bytes | None:
    """A node, a tensor, a port or a header of the graph."""
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    model = ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return None
    graph = model.graph
    if not (graph.node and graph.initializer and model.metadata_props):
        return None
    part = rng.choice(("node", "input", "attribute", "tensor", "dims", "port", "header"))
    node, tensor = rng.choice(graph.node), rng.choice(graph.initializer)
    if part == "node":
        node.op_type = rng.choice(graph.node).op_type
    elif part == "input" and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(graph.node).output[0]
    elif part == "attribute" and node.attribute:
        attribute = rng.choice(node.attribute)
        attribute.i = attribute.f = rng.choice((0, -1, 2, 1 << 20, 1 << 40))
        if attribute.ints:
            attribute.ints[rng.randrange(len(attribute.ints))] = attribute.i
    elif part == "dims" and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice((0, -1, 1, 2, 1 << 20, 1 << 40))
    elif part == "port":
        port = rng.choice((*graph.input, *graph.output)).type.tensor_type
        port.elem_type = rng.randrange(1, 17)
        if port.shape.dim:
            rng.choice(port.shape.dim).dim_value = rng.choice((0, 1, 3, 1 << 30))
    elif part == "header":
        entry = rng.choice(model.metadata_props)
        entry.value = _text(entry.value.encode(), rng).decode("utf-8", "replace")
    else:
        tensor.raw_data = _flip(tensor.raw_data, rng, b"")
    return model.SerializeToString()


_INSIDE: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    ".zip": _inside_zip, ".npz": _inside_zip, ".pth": _inside_zip,
    ".safetensors": _inside_safetensors, ".onnx": _inside_onnx,
}  # fmt: skip
