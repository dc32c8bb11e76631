"""One clip as a model sees it."""
