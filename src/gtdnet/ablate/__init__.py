"""Variants of a model under equal data, steps and seeds."""

from gtdnet.ablate.run import AblateOptions, ablate
from gtdnet.ablate.summary import table

__all__ = ["AblateOptions", "ablate", "table"]
