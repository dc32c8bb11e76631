"""Only until all who import it take gtdnet.weights.read and gtdnet.weights.fit."""

from gtdnet.weights.fit import BackboneWeights, is_temporal, load_all, resize_segments
from gtdnet.weights.read import first_of, read_safetensors, read_tensors

__all__ = [
    "BackboneWeights",
    "first_of",
    "is_temporal",
    "load_all",
    "read_safetensors",
    "read_tensors",
    "resize_segments",
]
