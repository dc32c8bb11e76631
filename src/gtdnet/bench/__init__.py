"""How fast models, data and training steps are here, always beside what they are made of."""
