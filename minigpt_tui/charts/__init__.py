"""Curves as cells: axes, braille and sparklines."""
