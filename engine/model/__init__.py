"""The GPT: one model class for three families, and its key-value cache."""
