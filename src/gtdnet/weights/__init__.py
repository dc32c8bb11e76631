"""Where a network's starting weights come from."""
