"""Jester: 20bn-jester-v1/{id}/00001.jpg, and "id;class name" tables (jester-v1-train.csv, ...).

The classes are in the order of jester-v1-labels.csv; test clips have no label.
"""

from __future__ import annotations

from gtdnet.data.formats.base import register_format
from gtdnet.data.formats.something_v1 import IdTables


@register_format
class Jester(IdTables):
    name = "jester"
    prefix = "jester-v1"
    signs = "jester-v1-labels.csv"
    is_jester = True
