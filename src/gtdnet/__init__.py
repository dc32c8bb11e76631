"""gtdnet: video action recognition with the Global Temporal Difference Network."""
