"""2D networks, each in one file."""
