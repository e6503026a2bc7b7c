"""Many prompts at once: how they are read, what came of each, and how that leaves."""
