"""When a model's answers can be trusted: its temperature, thresholds and what is nothing.

temperature.py (probabilities that mean what they say), thresholds.py (from which probability on a
class is named), background.py (below which a moment of a stream is nothing), clips.py and
streams.py (what the model says of videos), run.py (all of it, into the model file), table.py (for
people).
"""
