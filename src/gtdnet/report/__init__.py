"""Pictures and pages for people: one clip as a model sees it, runs side by side."""
