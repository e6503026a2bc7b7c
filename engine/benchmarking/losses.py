"""What a precision costs in quality: the loss on the text that the model was validated with, where that is found on
this machine.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F

from engine.benchmarking.figures import Figure, figure
from engine.checkpoints import LoadedModel, load_model
from engine.errors import DataError
from engine.evaluation import WindowReader
from engine.text.batches import Tokens, windows
from engine.text.corpus import encode_documents
from engine.text.provenance import read_text_record, select

CPU_WORK, GPU_WORK = 2.6e10, 2.6e12
"""Tokens times weights in an evaluation, a second of work: 8,000 tokens of a model of 3.2M on a CPU. How much of a text
is used depends on the model alone, so that the loss is the same every time."""

LEAST_WINDOW = 64
"""Tokens in a window, where even one of the whole context would be too much work."""


class OwnText:
    """The validation split of a model's own text.

    Args:
        model: In any precision.

    Raises:
        DataError: The model does not say what it was trained on, or that is not here, too short, or no longer what it
            was.
        TokenizerError: The text has a character that the model does not know.
    """

    def __init__(self, model: LoadedModel) -> None:
        own = read_text_record(model.record.data)
        if not own.name:
            raise DataError(f"{model.name} does not say what it was trained on")
        normalize = model.record.training.get("normalize")
        selection = select(own, None, "val", normalize if isinstance(normalize, list) else ())
        self._tokens = encode_documents(model.tokenizer, selection.documents)
        if len(self._tokens) < 2:
            raise DataError("its validation text has fewer than two tokens")
        self._fp32: float | None = None

    def loss_of(self, model: LoadedModel) -> Figure:
        """The loss of that model in its precision, in nats per token, and how far it is from that in fp32."""
        loss, tokens = self._evaluate(model)
        if self._fp32 is None and model.precision != "fp32":
            self._fp32, _ = self._evaluate(load_model(str(model.path), model.device, "fp32"))
        elif self._fp32 is None:
            self._fp32 = loss
        return figure("loss", model.precision, [loss], against_fp32=loss - self._fp32, tokens=tokens)

    @torch.inference_mode()
    def _evaluate(self, model: LoadedModel) -> tuple[float, int]:
        """The mean loss of the decoder, which is what writes, over evenly spread windows, and their size in tokens."""
        reader, total, tokens = WindowReader(model), 0.0, 0
        for x, y in self._windows(model):
            for start, logits in reader.read(x.tolist()):  # (R, V)
                targets = torch.from_numpy(y[start : start + len(logits)].astype(np.int64)).to(logits.device)
                total += F.cross_entropy(logits, targets, reduction="sum").item()
            tokens += len(y)
        if math.isnan(total):
            raise model.no_number()
        return total / tokens, tokens

    def _windows(self, model: LoadedModel) -> list[tuple[Tokens, Tokens]]:
        """Inputs and targets, each (T,)."""
        limit = int((CPU_WORK if model.device == "cpu" else GPU_WORK) / model.parameters)
        cut = windows(self._tokens, min(model.config.block_size, max(LEAST_WINDOW, limit)))
        pairs = list(zip(cut.x, cut.y, strict=True))
        if len(cut.last_x):
            pairs.append((cut.last_x, cut.last_y))
        return pairs[:: math.ceil(cut.targets / max(1, limit))]
