"""The terminal app and the command line. No model code."""
