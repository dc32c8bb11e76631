"""A dataset as JPEG frames in ZIP shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gtdnet.data.pack.plan import PackOptions
    from gtdnet.data.pack.write import in_shards, pack, summary

__all__ = ["PackOptions", "in_shards", "pack", "summary"]


def __getattr__(name: str) -> Any:
    # Not before it is asked for: packing decodes clips, and decoding reads shards.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gtdnet.data.pack import write

    return getattr(write, name)
