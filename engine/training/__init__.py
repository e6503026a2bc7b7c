"""A training run: the trainer, its optimizers and schedules, and the directory that it writes."""
