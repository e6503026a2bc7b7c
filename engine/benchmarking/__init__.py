"""How fast a model writes, reads and learns on this machine, and what memory it takes. Knows nothing of screens."""
