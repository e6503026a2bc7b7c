"""Models that were made elsewhere: what their files say, and the same model in our own form."""
