"""Variants of a model under equal data, steps and seeds."""

from typing import TYPE_CHECKING

from gtdnet import lazy

if TYPE_CHECKING:
    from gtdnet.ablate.options import AblateOptions
    from gtdnet.ablate.run import ablate
    from gtdnet.ablate.summary import table

__all__ = ["AblateOptions", "ablate", "table"]

__getattr__ = lazy.names(
    __name__,
    {
        "AblateOptions": "options",
        "ablate": "run",
        "table": "summary",
    },
)
