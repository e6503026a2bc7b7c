"""The GPT: one model class for four families, and its key-value cache."""
