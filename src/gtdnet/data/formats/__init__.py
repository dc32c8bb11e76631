"""Dataset formats, one file each: what lies on disk, as records.

A format of one's own is a `Format` given to `register_format`.
"""
# ruff: noqa: F401

from gtdnet.data.formats.base import (
    FORMATS,
    MAYBE,
    SPLITS,
    Annotations,
    Format,
    NewClip,
    Rows,
    VideoRecord,
    WritableFormat,
    check_dataset_is_there,
    detect_format,
    formats_line,
    list_splits,
    read_annotations,
    register_format,
    written_formats,
)

# Each registers its format; lists and messages have this order.
# isort: off
from gtdnet.data.formats import something_v1
from gtdnet.data.formats import something_v2
from gtdnet.data.formats import kinetics
from gtdnet.data.formats import folder
from gtdnet.data.formats import lists
from gtdnet.data.formats import csv_list
from gtdnet.data.formats import ucf101
from gtdnet.data.formats import hmdb51
from gtdnet.data.formats import jester
from gtdnet.data.formats import held_out
from gtdnet.data.formats import packed
from gtdnet.data.formats import several
from gtdnet.data.formats.clip_list import MANIFEST_VERSION

__all__ = [
    "FORMATS",
    "MANIFEST_VERSION",
    "MAYBE",
    "SPLITS",
    "Annotations",
    "Format",
    "NewClip",
    "Rows",
    "VideoRecord",
    "WritableFormat",
    "check_dataset_is_there",
    "detect_format",
    "formats_line",
    "list_splits",
    "read_annotations",
    "register_format",
    "written_formats",
]
