"""Official checkpoints of other projects made into model files of this package."""

from gtdnet.weights.convert.run import ConvertOptions, convert, recognise

__all__ = ["ConvertOptions", "convert", "recognise"]
