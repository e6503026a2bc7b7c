"""Texts beside each other, from one prompt and one seed: what is compared, where they part, and their figures."""
