"""Everything about models: text in, training, checkpoints, inference. It knows nothing about screens."""

__version__ = "0.1.0"
