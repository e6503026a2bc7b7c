"""Small models for tests, trained for a second on a text of a few lines."""

from __future__ import annotations

from pathlib import Path

TINY_TEXT = (
    "The fox went to the river, and the river said: who goes there?\n\nTHE FOX:\n"
    "I go where the water goes, but slower, and with more to say.\n\n"
) * 8


def make_tiny(name: str, family: str = "nanochat", tokenizer: str = "char", steps: int = 100, **shape) -> Path:
    """Save a small model under the user's checkpoints, trained for a second: it writes words of its text, the same
    every time, and has learned that the text does not end."""
    import torch

    from engine import folders
    from engine.catalog import Record
    from engine.checkpoints import save_checkpoint
    from engine.config import TrainConfig
    from engine.model.gpt import GPT
    from engine.text.batches import Batches, paragraph_starts
    from engine.text.corpus import encode_documents
    from engine.text.tokenizers import train_tokenizer
    from engine.training.optimizers import make_optimizers

    trained = train_tokenizer(tokenizer, [TINY_TEXT], 300)
    sizes = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 64, "batch_size": 8, "learning_rate": 0.02} | shape
    config = TrainConfig(family=family, tokenizer=tokenizer, **sizes)
    gpt = GPT(config.model_config(trained.vocab_size))
    gpt.initialize(torch.Generator().manual_seed(0))
    ids = encode_documents(trained, [TINY_TEXT])
    batches = Batches(ids, config.block_size, config.batch_size, 0, trained.eot_id, paragraph_starts(ids, trained))
    optimizers = make_optimizers(gpt, config)
    for step in range(steps):
        loss = gpt.loss(*(torch.from_numpy(array) for array in batches.batch(step)))
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    path = folders.user_checkpoints() / name
    record = Record(step=steps, losses={"val": loss.item()}, data={"name": "tiny text"}, run="tiny")
    save_checkpoint(path, gpt, trained, record, replace=True)
    return path
