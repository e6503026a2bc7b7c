"""One file per checkpoint format that is not of our own making."""
