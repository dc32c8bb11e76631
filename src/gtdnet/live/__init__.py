"""Live video: what a model says of a stream, moment by moment, and what is happening in it."""

from typing import TYPE_CHECKING

from gtdnet import lazy

if TYPE_CHECKING:
    from gtdnet.live.events import EventDetector
    from gtdnet.live.sources import GivenSource, Patience, Source
    from gtdnet.live.watcher import StreamWatcher

__all__ = ["EventDetector", "GivenSource", "Patience", "Source", "StreamWatcher"]

__getattr__ = lazy.names(
    __name__,
    {
        "EventDetector": "events",
        "GivenSource": "sources",
        "Patience": "sources",
        "Source": "sources",
        "StreamWatcher": "watcher",
    },
)
