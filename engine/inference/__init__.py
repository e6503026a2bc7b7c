"""Token ids in, token ids out: sampling and streaming generation."""
