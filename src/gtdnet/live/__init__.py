"""Live video: what a model says of a stream, moment by moment, and what is happening in it."""
