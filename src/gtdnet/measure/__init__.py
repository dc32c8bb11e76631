"""Measuring: time, memory, the machine; what bench, export and reports share."""
