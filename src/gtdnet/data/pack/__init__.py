"""A dataset as JPEG frames in ZIP shards."""
