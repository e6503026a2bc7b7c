"""The process that measures a model on a split of its own text: a `SplitRequest` as JSON on stdin, a `SplitLoss` as one
line on stdout. It has a process of its own because it takes a while, in which texts go on being written.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import msgspec

from engine.catalog import read_record
from engine.checkpoints import load_model
from engine.errors import DataError, MiniGPTError
from engine.evaluation import evaluate
from engine.processes import lower_priority
from engine.split_loss import SplitLoss, SplitRequest
from engine.text.corpus import encode_documents
from engine.text.provenance import read_text_record, select

NICE = 5
"""On the CPU it gives way to texts that are being written; somebody waits for it, so less than training does."""


def measure(request: SplitRequest) -> SplitLoss:
    """Measure a model on a split of the text that it was trained on.

    Raises:
        DataError: It does not say which text that is, or the text is not on this machine, or has no such split.
        MiniGPTError: The model cannot be loaded, or answers with what is no number.
    """
    path = Path(request.path)
    record = read_record(path)
    own = read_text_record(record.data)
    if not own.name:
        raise DataError("the model does not say what it was trained on")
    normalize = record.training.get("normalize")
    selection = select(own, None, request.split, normalize if isinstance(normalize, list) else ())
    model = load_model(str(path), request.device, request.precision)
    found = evaluate(model.gpt, model.tokenizer, encode_documents(model.tokenizer, selection.documents))
    if math.isnan(found.loss):
        raise model.no_number()
    largest = sys.float_info.max  # JSON has no infinity
    return SplitLoss(
        loss=min(found.loss, largest),
        perplexity=min(found.perplexity, largest),
        bits_per_byte=min(found.bits_per_byte, largest),
        tokens=found.tokens,
    )


def main() -> int:
    """Answer one request; what goes wrong with the model or the text is an answer too."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=SplitRequest)
    lower_priority(NICE)
    try:
        answer = measure(request)
    except MiniGPTError as error:
        answer = SplitLoss(kind=type(error).__name__, problem=error.message, hint=error.hint)
    with answers:
        answers.write(msgspec.json.encode(answer) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
