"""Official checkpoints of other projects made into model files of this package.

Nothing but a file's keys and shapes says what it holds. A source is a table of renamings, so that
every tensor is accounted for: what is missing, left over or of another shape is refused.
"""

from typing import TYPE_CHECKING

from gtdnet import lazy

if TYPE_CHECKING:
    from gtdnet.weights.convert.options import ConvertOptions
    from gtdnet.weights.convert.recognition import recognise
    from gtdnet.weights.convert.run import convert

__all__ = ["ConvertOptions", "convert", "recognise"]

__getattr__ = lazy.names(
    __name__,
    {
        "ConvertOptions": "options",
        "convert": "run",
        "recognise": "recognition",
    },
)
