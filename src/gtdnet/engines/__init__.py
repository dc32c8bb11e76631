"""Engines: what computes a model's logits from frames, one file each."""
