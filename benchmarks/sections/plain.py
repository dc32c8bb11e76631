"""Any file: its values and mappings as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sections.markdown import Results, parts, table

_TOLD = ("title", "bench", "command", "date", "written", "versions", "machine")  # above the tables


def render(results: Results) -> str:
    """Any file: values as one table, mappings as another, a table for each nested one."""
    kinds: dict[str, dict[str, Any]] = {"values": {}, "mappings": {}, "tables": {}}
    for key, value in results.items():
        rows = value.values() if isinstance(value, dict) else value
        nested = isinstance(value, (dict, list)) and all(isinstance(r, dict) for r in rows)
        kind = "tables" if nested and value else "mappings" if isinstance(value, dict) else "values"
        if key not in _TOLD:
            kinds[kind][key] = value
    blocks = [table(["", ""], kinds["values"].items())] if kinds["values"] else []
    blocks += [_of_mappings(kinds["mappings"])] if kinds["mappings"] else []
    for key, value in kinds["tables"].items():
        rows = value if isinstance(value, dict) else dict(enumerate(value, 1))
        blocks += [f"{key}:", _of_mappings(rows)]
    return parts(*blocks)


def _of_mappings(rows: Mapping[Any, Mapping[str, Any]]) -> str:
    """A table with a row for each mapping, under the keys of them all."""
    heads = list(dict.fromkeys(key for row in rows.values() for key in row))
    cells = [[name, *(row.get(head) for head in heads)] for name, row in rows.items()]
    return table(["", *map(str, heads)], cells)
