"""Text in, token ids out: reading files, tokenizers, batches."""
