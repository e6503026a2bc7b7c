"""Talking with a model in turns: the turns, how they are written down, and where the model stops seeing them."""
