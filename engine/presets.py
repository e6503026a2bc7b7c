"""Named settings of model and training, each a whole `TrainConfig`. Knows nothing of torch.

What they reach, and on what machine it was measured, is in docs/training-notes.md.
"""

from __future__ import annotations

import difflib

from engine.config import TrainConfig
from engine.errors import InvalidSettingError

DEFAULT_PRESET = "nano"

PRESETS: dict[str, TrainConfig] = {
    # the best that about three minutes on two cores can buy: narrow, so that a step is cheap and there can be many
    "nano": TrainConfig(
        n_embd=192,
        block_size=128,
        batch_size=8,
        steps=2400,
        learning_rate=6e-3,
        embedding_learning_rate=0.1,
        muon_learning_rate=0.04,
        momentum_warmup_steps=300,
        average=0.15,
        eval_interval=300,
        eval_tokens=32_768,
    ),
    # the recipe of the bundled model: about half an hour on two cores
    "small": TrainConfig(block_size=512, batch_size=8, steps=2500, dropout=0.1, average=0.05, eval_interval=250),
    # nanoGPT's train_shakespeare_char.py, but for its embeddings, which do not decay here: made for a GPU
    "classic": TrainConfig(
        family="gpt2",
        n_layer=6,
        n_head=6,
        n_embd=384,
        block_size=256,
        dropout=0.2,
        tie_head=True,
        batch_size=64,
        steps=5000,
        optimizer="adamw",
        learning_rate=3e-4,
        min_learning_rate=0.1,
        schedule="cosine",
        warmup_steps=100,
        weight_decay=0.1,
        beta2=0.99,
    ),
    # the size of nanoGPT's Shakespeare model, with the recipe of `small`: for a GPU
    "base": TrainConfig(
        n_layer=6,
        n_head=6,
        n_embd=384,
        block_size=256,
        batch_size=64,
        steps=1000,
        dropout=0.3,
        average=0.05,
        eval_interval=100,
        eval_tokens=1_000_000,
    ),
    # GPT-2's smallest, with the batch and the rates of GPT-3 (Brown et al., 2020) and 10 billion tokens: for GPUs and a
    # text of gigabytes. A vocabulary of our own need not be 50,257, and a multiple of 128 is faster
    "gpt2": TrainConfig(
        family="gpt2",
        n_layer=12,
        n_head=12,
        n_embd=768,
        block_size=1024,
        bias=True,
        tie_head=True,
        tokenizer="bpe",
        vocab_size=50_304,
        batch_size=16,
        accumulation=32,
        steps=19_000,
        optimizer="adamw",
        learning_rate=6e-4,
        min_learning_rate=0.1,
        schedule="cosine",
        warmup_steps=700,
        weight_decay=0.1,
        beta2=0.95,
        eval_interval=250,
        eval_tokens=2_000_000,
    ),
    # on from a model that has learned already: small steps, and the best of them is kept
    "finetune": TrainConfig(
        steps=500,
        dropout=0.1,
        optimizer="adamw",
        learning_rate=3e-4,
        min_learning_rate=0.1,
        schedule="cosine",
        eval_interval=50,
        patience=4,
    ),
}

FINETUNE_PRESET = "finetune"
"""What `--from` begins with when no preset is named; the model's shape is its own."""

SUMMARIES: dict[str, str] = {
    "nano": "1.8M parameters, block 128: minutes on a laptop CPU",
    "small": "3.2M parameters, block 512: half an hour on two cores; the bundled model",
    "classic": "10.7M parameters, GPT-2 family: the well-known 6 x 384, for a GPU",
    "base": "10.7M parameters, block 256: the best for a book or two, on a GPU",
    "gpt2": "124M parameters, GPT-2's own shape, BPE of 50,304: for GPUs, and a text of gigabytes",
    "finetune": "small steps with AdamW, for going on from a trained model",
}


def find_preset(name: str) -> TrainConfig:
    """The settings that go by a name.

    Raises:
        InvalidSettingError: There is no such preset; the nearest or all names are in the hint.
    """
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name, PRESETS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(PRESETS)}"
    raise InvalidSettingError(f"there is no preset {name!r}", hint)
