"""Prompts and sampler settings that have names: those that ship, and the user's own in two files."""
