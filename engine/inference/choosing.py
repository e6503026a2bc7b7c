"""Which arithmetic to decode in: the fastest here whose answers are as good as those of float32. Measured once for each
model, machine and version of torch, and remembered, so that the same command gives the same text tomorrow.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import msgspec
import numpy as np
import torch
from torch import Tensor

from engine.catalog import Record
from engine.devices import processor
from engine.errors import MiniGPTError
from engine.inference.decoder import Decoder
from engine.inference.native import building
from engine.inference.native.weights import KINDS
from engine.inference.noise import gumbel
from engine.inference.products import can_pack, has_int8, has_static_int8
from engine.inference.tempo import Hope
from engine.inference.threads import most_threads
from engine.model.gpt import GPT
from engine.remembered import recall, remember
from engine.text.corpus import encode_documents
from engine.text.provenance import read_text_record, select
from engine.text.tokenizers import Tokenizer

REMEMBERED = "inference-precision.json"

MOST_LOST = 0.005
"""Nats per token that a faster arithmetic may lose against float32."""

CLEAR_GAIN = 1.1
"""So many times as fast a lesser arithmetic must be to be worth its name."""

SMALLEST = 1_000_000
"""Models with fewer weights are bound by the calls of their operations, which are the fewest in float32."""

TOKENS, WINDOW = 1024, 128
"""Tokens of text that the loss is measured on, and of each piece of it at most."""

LONGEST_TEXT = 10_000_000
"""Tokens of a text that is read for that."""

ROWS = (4, 8)
"""Rows of the passes that are timed: a token and its guesses."""

PAST = 64
"""Tokens before them."""

ROUNDS = 4
ROUND_SECONDS, QUICK_ROUND_SECONDS = 0.01, 0.003
"""How long one of them takes; for what is asked at each load, quickly."""


class Measured(msgspec.Struct, frozen=True):
    """What was found of one model on one machine.

    Attributes:
        precision: The one to take.
        milliseconds: Of a token, in each, when as many guesses come true as is usual.
        lost: Nats per token that each loses against float32.
        text: What that was measured on: val, or own for what the model itself writes.
    """

    precision: str
    milliseconds: dict[str, float] = {}
    lost: dict[str, float] = {}
    text: str = ""


def choose_precision(gpt: GPT, tokenizer: Tokenizer, record: Record, sha256: str) -> str:
    """The precision that `auto` means for a model on the CPU.

    Args:
        gpt: The model.
        tokenizer: The model's.
        record: Says where its text is.
        sha256: Of its weights' file, by which the choice is remembered.
    """
    if gpt.parameter_count() < SMALLEST or len(candidates()) == 1:
        return "fp32"
    native = building.find()
    kind = native.name if native.library else "static int8" if has_static_int8() else "weight-only int8"
    key = f"{processor()}, torch {torch.__version__}, {kind}, {sha256}"
    known = {key: found for key, found in recall(REMEMBERED, Measured).items() if found.precision in candidates()}
    if key not in known:
        known[key] = measure(gpt.float(), tokenizer, record)
        remember(REMEMBERED, known)
    return known[key].precision


def candidates() -> list[str]:
    """The precisions that can be chosen between on this CPU, fp32 first."""
    if building.find().library is not None:
        return list(KINDS)
    found = ["fp32"]
    if can_pack(torch.float32) and can_pack(torch.bfloat16):
        found.append("bf16")
    if can_pack(torch.float32) and has_int8():
        found.append("int8")
    return found


@torch.inference_mode()
def measure(gpt: GPT, tokenizer: Tokenizer, record: Record) -> Measured:
    """Measure each precision against float32: some seconds for 10 million weights.

    The loss is measured on the model's validation text where that is found and not long. Else it is what the other
    arithmetic would lose on texts that the model itself writes: the divergence of Kullback and Leibler (1951).
    """
    decoders = {precision: Decoder(gpt, precision) for precision in candidates()}
    for decoder in decoders.values():
        decoder.threads = most_threads()
    texts = _val_windows(tokenizer, record, gpt.config.block_size)
    lost = _losses(decoders, texts or _own_texts(decoders["fp32"], tokenizer.eot_id), is_own=not texts)
    milliseconds = {name: round(1000 * seconds, 4) for name, seconds in token_seconds(decoders).items()}
    lost = {name: loss for name, loss in lost.items() if math.isfinite(loss)}
    faithful = [name for name in decoders if lost.get(name, math.inf) <= MOST_LOST]
    fastest = min(faithful or ["fp32"], key=milliseconds.__getitem__)  # none, where the model's answers are no numbers
    is_gain = milliseconds["fp32"] >= CLEAR_GAIN * milliseconds[fastest]
    return Measured(fastest if is_gain else "fp32", milliseconds, lost, "val" if texts else "own")


def choose_threads(decoder: Decoder) -> int:
    """Give a decoder the number of threads with which it is fastest now; the text does not depend on it.

    Beside the passes torch keeps to as few as any decoder's do with, and to one where a pass is native.

    Returns:
        The number.
    """
    most = most_threads()
    seconds = {}
    for threads in sorted({1, max(1, most // 2), most}):
        decoder.threads = threads
        seconds[threads] = token_seconds({"": decoder}, QUICK_ROUND_SECONDS)[""]
    decoder.threads = min(seconds, key=lambda threads: (seconds[threads], threads))
    torch.set_num_threads(1 if decoder.is_native else min(torch.get_num_threads(), decoder.threads))
    return decoder.threads


def token_seconds(decoders: Mapping[str, Decoder], round_seconds: float = ROUND_SECONDS) -> dict[str, float]:
    """Seconds of a token in each: of the passes of some rows, the one that brings most tokens in its time.

    Args:
        decoders: By a name.
        round_seconds: How long each is timed in each of some rounds.
    """
    config, hope = next(iter(decoders.values())).config, Hope()
    possible = [rows for rows in ROWS if rows <= config.block_size] or [1]
    found = [(rows, pass_seconds(decoders, rows, round_seconds)) for rows in possible]
    return {name: min(seconds[name] / hope.tokens(rows) for rows, seconds in found) for name in decoders}


def pass_seconds(decoders: Mapping[str, Decoder], rows: int, round_seconds: float) -> dict[str, float]:
    """Seconds of a pass of so many rows in each, the least disturbed of several rounds in turns."""
    best: dict[str, float] = {}
    owner, config = _Owner(), next(iter(decoders.values())).config
    past = max(0, min(PAST, config.block_size - rows))
    slots = {name: decoder.slots.take(owner, ()) for name, decoder in decoders.items()}
    for turn in range(ROUNDS):
        for name, decoder in decoders.items():
            slot, end = slots[name], time.perf_counter() + round_seconds
            while (began := time.perf_counter()) < end:
                slot.held[past:] = [0] * (past - len(slot.held))
                decoder.read([[0] * rows], [slot])
                taken = time.perf_counter() - began
                if turn:  # the first round sets up what the others use
                    best[name] = min(taken, best.get(name, taken))
    for name, slot in slots.items():
        decoders[name].slots.release(slot)
    return best


class _Owner:
    """Has slots for a moment."""


def _losses(decoders: Mapping[str, Decoder], texts: list[list[int]], *, is_own: bool) -> dict[str, float]:
    """Nats per token that each decoder loses against float32."""
    wanted = torch.tensor(texts)[:, 1:]
    logprobs = {name: _logprobs(decoder, texts) for name, decoder in decoders.items()}
    exact, lost = logprobs["fp32"], {}
    for name, found in logprobs.items():
        if is_own:
            lost[name] = float((exact.exp() * (exact - found)).sum(dim=-1).mean())
        else:
            lost[name] = float((exact - found).gather(2, wanted[:, :, None]).mean())
    return {name: round(loss, 6) for name, loss in lost.items()}


def _logprobs(decoder: Decoder, texts: list[list[int]]) -> Tensor:
    """Of each place of each text but the last, (texts, T - 1, V)."""
    owner, rows = _Owner(), []
    for text in texts:
        slot = decoder.slots.take(owner, ())
        rows.append(decoder.read([text[:-1]], [slot])[0].log_softmax(dim=-1))
        decoder.slots.release(slot)
    return torch.stack(rows)


def _val_windows(tokenizer: Tokenizer, record: Record, block_size: int) -> list[list[int]]:
    """Some windows of the validation text, spread evenly; none where it is not found, or long."""
    normalize = record.training.get("normalize")
    try:
        own = read_text_record(record.data)
        if not own.splits.keys() & {"train", "val"} or not 0 < own.train_tokens <= LONGEST_TEXT:
            return []
        selection = select(own, None, "val", normalize if isinstance(normalize, list) else ())
        ids = encode_documents(tokenizer, selection.documents)
    except MiniGPTError:  # it is not there any more, or is another, or cannot be read
        return []
    length = min(block_size, WINDOW) + 1
    if len(ids) < 4 * length:
        return []
    starts = np.linspace(0, len(ids) - length, TOKENS // WINDOW).astype(int).tolist()
    return [ids[start : start + length].tolist() for start in starts]


def _own_texts(decoder: Decoder, eot_id: int) -> list[list[int]]:
    """Texts as the model writes them at a temperature of 1."""
    length, count = min(decoder.config.block_size, WINDOW), TOKENS // WINDOW
    owners = [_Owner() for _ in range(count)]
    slots = [decoder.slots.take(owner, ()) for owner in owners]
    noise = torch.stack([gumbel(seed, 0, length + 1, decoder.config.vocab_size) for seed in range(count)])
    texts = [[eot_id] for _ in range(count)]
    for place in range(1, length + 1):
        logits = decoder.read([text[-1:] for text in texts], slots)[:, 0]
        for text, token in zip(texts, (logits + noise[:, place]).argmax(dim=-1).tolist(), strict=True):
            text.append(token)
    for slot in slots:
        decoder.slots.release(slot)
    return texts
