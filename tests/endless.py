"""A tiny model that never ends its text of its own accord, for tests that must find one in the middle of writing."""

from __future__ import annotations

from pathlib import Path

TEXT = "The fox went to the river, and the river said: who goes there?\n\nTHE FOX: I go where the water goes.\n"


def make_endless(name: str = "endless", seed: int = 0) -> Path:
    """Save it under the user's checkpoints: drawn weights, char tokenizer, block 64; its text is noise, but always the
    same noise, and `<|endoftext|>` is never drawn."""
    import torch

    from engine import folders
    from engine.catalog import Record
    from engine.checkpoints import save_checkpoint
    from engine.config import ModelConfig
    from engine.model.gpt import GPT
    from engine.text.tokenizers import train_tokenizer

    tokenizer = train_tokenizer("char", [TEXT], 300)
    shape = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 64, "bias": True}
    gpt = GPT(ModelConfig(family="gpt2", vocab_size=tokenizer.vocab_size, **shape))
    generator = torch.Generator().manual_seed(seed)
    weights = gpt.state_dict()
    for name_of, weight in weights.items():
        if "norm" not in name_of:
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    # One axis of the last norm is the same for every text, and the head reads it for that one token alone.
    weights["final_norm.weight"][0], weights["final_norm.bias"][0] = 0.0, 30.0
    weights["head.weight"][:, 0] = 0.0
    weights["head.weight"][tokenizer.eot_id, 0] = -10.0
    path = folders.user_checkpoints() / name
    record = Record(step=3, losses={"val": 3.5}, data={"name": "fox and river"}, run="endless")
    save_checkpoint(path, gpt, tokenizer, record, replace=True)
    return path
