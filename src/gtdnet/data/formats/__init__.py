"""Dataset formats: what lies on disk, as records."""

from gtdnet.data.formats.annotations import (
    FORMATS,
    MANIFEST_VERSION,
    SPLITS,
    Annotations,
    VideoRecord,
    detect_format,
    list_splits,
    read_annotations,
)

__all__ = [
    "FORMATS",
    "MANIFEST_VERSION",
    "SPLITS",
    "Annotations",
    "VideoRecord",
    "detect_format",
    "list_splits",
    "read_annotations",
]
