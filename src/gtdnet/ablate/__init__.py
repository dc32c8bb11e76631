"""Variants of a model under equal data, steps and seeds."""
