"""Only until all who import it take gtdnet.weights.published and gtdnet.weights.hub."""

from gtdnet.weights.hub import find_file, hub_errors
from gtdnet.weights.published import MIRROR, PUBLISHED, find_weights

__all__ = ["MIRROR", "PUBLISHED", "find_file", "find_weights", "hub_errors"]
