"""Who writes in `decode.py`: this engine in each precision, transformers with and this engine's model without a cache,
and llama.cpp through GGUF files of our own making. Each is given the same weights and prompts, and draws at 0.8.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.checkpoints import LoadedModel, load_model
from engine.config import SamplingParams
from engine.errors import MiniGPTError
from engine.inference.generator import Generation

TEMPERATURE = 0.8
WARM_UP_TOKENS, WARM_UP_SEED = 230, 999
"""Of the text that each model of ours writes first: what follows a context is decoded when that is first met."""

LLAMA_NAMES = {"fp32": "f32", "fp16": "f16", "q8_0": "q8_0"}
"""The precisions that llama.cpp is measured in, and what it calls them."""

Write = Callable[[list[int], int, int], None]
"""Writes a number of tokens behind a prompt, with a seed."""


@dataclass(frozen=True)
class Peer:
    """One that writes.

    Attributes:
        name: For the table.
        precision: Of its weights.
        write: What is timed.
        threads: As many as it computes with.
        torch_threads: As many as torch has meanwhile.
        slow: Whether a few rounds must do.
    """

    name: str
    precision: str
    write: Write
    threads: int
    torch_threads: int
    slow: bool = False


def ours(model: LoadedModel, *, speculate: bool = True) -> Peer:
    """This engine, with text and logprobs, as the app gets them; also without guesses."""

    def write(prompt: list[int], tokens: int, seed: int) -> None:
        written = 0
        while written < tokens:  # a text that ends by itself is followed by another one
            params = SamplingParams(temperature=TEMPERATURE, seed=seed, max_new_tokens=tokens - written)
            written += sum(1 for _ in Generation(model, prompt, params, speculate=speculate))
            seed += 1_000_000

    return Peer("minigpt-tui", model.precision, write, model.decoder.threads, torch.get_num_threads())


def first_token(model: LoadedModel, prompt: list[int]) -> None:
    """This engine's first token behind a prompt."""
    params = SamplingParams(temperature=TEMPERATURE, seed=0, max_new_tokens=1)
    next(Generation(model, prompt, params), None)


def together(model: LoadedModel, prompt: list[int], tokens: int, samples: int, seed: int) -> int:
    """Several texts of this engine at once; the number of tokens in all."""
    from engine.inference.together import read_together

    generations = [
        Generation(model, prompt, SamplingParams(temperature=TEMPERATURE, seed=seed + k, max_new_tokens=tokens))
        for k in range(samples)
    ]
    while waiting := [generation for generation in generations if generation.is_waiting]:
        read_together(waiting)
        for generation in waiting:
            for _ in generation.ready():
                pass
    return sum(generation.new_tokens for generation in generations)


def transformers(path: Path, threads: int) -> Peer:
    """transformers' `generate` with its cache, in float32."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    theirs = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)

    def write(prompt: list[int], tokens: int, seed: int) -> None:
        torch.manual_seed(seed)
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            theirs.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=TEMPERATURE,
                top_k=0,
                min_new_tokens=tokens,
                max_new_tokens=tokens,
                pad_token_id=0,
            )

    return Peer("transformers", "fp32", write, threads, threads)


def recomputing(model: LoadedModel, threads: int) -> Peer:
    """No cache: the whole text again for each token, as nanoGPT's sample.py does."""

    @torch.inference_mode()
    def write(prompt: list[int], tokens: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        ids = torch.tensor([prompt])
        for _ in range(tokens):
            logits = model.gpt(ids[:, -model.config.block_size :])[:, -1] / TEMPERATURE
            ids = torch.cat((ids, torch.multinomial(logits.softmax(-1), 1, generator=generator)), dim=1)

    return Peer("no cache", "fp32", write, threads, threads, slow=True)


def llama_cpp_peers(name: str, folder: Path, threads: int, say: Callable[[str], None]) -> Iterator[Peer]:
    """llama.cpp in each of its precisions, where it is installed and can run the model."""
    try:
        import llama_cpp  # noqa: F401
    except ImportError:
        say("llama.cpp is left out: pip install llama-cpp-python")
        return
    from engine.formats.gguf_file import export_gguf

    for dtype, label in LLAMA_NAMES.items():
        try:
            export_gguf(name, folder / f"{label}.gguf", dtype)
        except MiniGPTError as error:
            say(f"llama.cpp {label} is left out: {error}")
        else:
            yield _llama_cpp(folder / f"{label}.gguf", label, threads)


def _llama_cpp(path: Path, label: str, threads: int) -> Peer:
    """llama.cpp by its own functions and with its own sampler, past the Python class around them, which costs time.
    Flash attention is what its own programs choose, and faster here.
    """
    import llama_cpp as lib

    theirs = lib.Llama(str(path), n_ctx=0, n_threads=threads, n_threads_batch=threads, flash_attn=True, verbose=False)
    vocab = lib.llama_model_get_vocab(theirs.model)
    piece = ctypes.create_string_buffer(64)

    def decode(ids: Sequence[int]) -> None:
        array = (lib.llama_token * len(ids))(*ids)
        if status := lib.llama_decode(theirs.ctx, lib.llama_batch_get_one(array, len(ids))):
            raise SystemExit(f"llama.cpp could not read {len(ids)} tokens: status {status}")

    def write(prompt: list[int], tokens: int, seed: int) -> None:
        lib.llama_memory_clear(lib.llama_get_memory(theirs.ctx), True)
        sampler = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        lib.llama_sampler_chain_add(sampler, lib.llama_sampler_init_temp(TEMPERATURE))
        lib.llama_sampler_chain_add(sampler, lib.llama_sampler_init_dist(seed))
        next_ids: Sequence[int] = prompt
        for _ in range(tokens):
            decode(next_ids)
            token = lib.llama_sampler_sample(sampler, theirs.ctx, -1)
            lib.llama_token_to_piece(vocab, token, piece, len(piece), 0, False)
            next_ids = (token,)
        lib.llama_sampler_free(sampler)

    return Peer("llama.cpp", label, write, threads, threads)


def load_ours(name: str, precisions: Sequence[str], threads: int) -> dict[str, tuple[LoadedModel, Peer]]:
    """This engine's model in each precision, as the worker has it: with as many threads as are quickest, at most so
    many, and with what guesses are drawn from at hand.
    """
    loaded = {}
    for precision in precisions:
        model = load_model(name, "cpu", precision)
        model.prepare_to_write()
        gc.freeze()  # as the worker does: the collector need not walk through all of torch
        model.decoder.threads = min(threads, model.decoder.threads)
        peer = ours(model)
        peer.write([model.tokenizer.eot_id], min(WARM_UP_TOKENS, model.config.block_size - 1), WARM_UP_SEED)
        loaded[precision] = model, peer
    return loaded
