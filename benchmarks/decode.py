"""Tokens per second of one text on the CPU: this engine in each of its precisions beside transformers' cached
`generate`, beside recomputing everything for each token, and beside llama.cpp where llama-cpp-python is installed. Then
the time to the first token, several samples at once, and memory. All on the same weights, in one run.

    python benchmarks/decode.py [MODEL] [--tokens 230] [--rounds 5] [--threads N] [--precisions fp32,bf16,int8,auto]
                                [--parts decode,first,together,memory] [--json]

Every peer writes the same number of tokens behind the same prompt, at temperature 0.8; each round has another prompt
and seed. Rounds alternate, so that what else the machine does hits all of them. A ratio is the median of the ratios of
the rounds; speeds are medians, with the lowest and the highest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import decode_peers as peers
import torch
from decode_peers import Peer

from engine.catalog import find_checkpoint
from engine.checkpoints import LoadedModel
from engine.errors import MiniGPTError

PROMPTS = (
    "ROMEO:\n", "First Citizen:\nBefore we proceed", "The king is dead, and ", "JULIET:\nO ", "My lord, I ",
    "What say you to this, ", "KING RICHARD III:\nNow ", "I know not why ", "Good morrow, ", "To be, or not to be",
)  # fmt: skip
FIRST_TOKEN_CHARACTERS = 200
SAMPLES = 32
SLOW_ROUNDS = 3
PARTS = ("decode", "first", "together", "memory")

MEMORY = """
import sys, psutil, torch
process = psutil.Process()
before = process.memory_info().rss
from engine.checkpoints import load_model
from engine.config import SamplingParams
from engine.inference.generator import Generation
model = load_model(sys.argv[1], "cpu", sys.argv[2])
model.prepare_to_write()  # as the worker does
loaded = process.memory_info().rss
for _ in Generation(model, [], SamplingParams(seed=1, max_new_tokens=50)):
    pass
print(loaded - before, process.memory_info().rss - before)
"""


def timed(threads: int, work: Callable[..., object], *arguments: object) -> float:
    """Seconds that something takes with a number of threads of torch."""
    torch.set_num_threads(threads)
    began = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began


def measure_decode(model: LoadedModel, writers: Sequence[Peer], tokens: int, rounds: int) -> list[dict[str, Any]]:
    """Tokens per second of each peer, and how many times as many as each of the others'."""
    prompts = [model.tokenizer.encode_prompt(text)[0] or [model.tokenizer.eot_id] for text in PROMPTS]
    tokens = min(tokens, model.config.block_size - max(map(len, prompts)))
    speeds: dict[Peer, list[float]] = {peer: [] for peer in writers}
    for peer in writers:
        timed(peer.torch_threads, peer.write, prompts[0], 20 if peer.slow else tokens, rounds)
    for seed in range(rounds):
        prompt = prompts[seed % len(prompts)]
        for peer in writers if seed % 2 == 0 else reversed(writers):
            if not peer.slow or seed < SLOW_ROUNDS:
                speeds[peer].append(tokens / timed(peer.torch_threads, peer.write, prompt, tokens, seed))
    return [
        {
            "peer": peer.name,
            "precision": peer.precision,
            "threads": peer.threads,
            "tokens": tokens,
            "tokens_per_second": statistics.median(rows),
            "lowest": min(rows),
            "highest": max(rows),
            "times": {f"{other.name} {other.precision}": times(rows, speeds[other]) for other in writers},
        }
        for peer, rows in speeds.items()
    ]


def times(rows: Sequence[float], others: Sequence[float]) -> float:
    """How many times as fast, by the median of the rounds that both were in."""
    return statistics.median(mine / theirs for mine, theirs in zip(rows, others, strict=False))


def measure_first(loaded: Sequence[tuple[LoadedModel, Peer]], other: Peer, rounds: int) -> list[dict[str, Any]]:
    """Seconds to the first token behind a prompt of 200 characters, another one in each round, with a warm model."""
    tokenizer = loaded[0][0].tokenizer
    text = (" ".join(PROMPTS) * 3)[: FIRST_TOKEN_CHARACTERS + rounds]
    cut = [text[start : start + FIRST_TOKEN_CHARACTERS] for start in range(rounds + 1)]
    prompts = [tokenizer.encode_prompt(part)[0][: loaded[0][0].config.block_size - 1] for part in cut]
    seconds: list[list[float]] = [[] for _ in range(len(loaded) + 1)]
    for prompt in prompts:
        for number, (model, peer) in enumerate(loaded):
            seconds[number].append(timed(peer.torch_threads, peers.first_token, model, prompt))
        seconds[-1].append(timed(other.torch_threads, other.write, prompt, 1, 0))
    names = [(peer.name, peer.precision) for _, peer in loaded] + [(other.name, other.precision)]
    return [
        {
            "peer": name,
            "precision": precision,
            "prompt_tokens": len(prompts[0]),
            "seconds": statistics.median(rows[1:]),  # the first warms up
            "times": times(rows[1:], seconds[-1][1:]),
        }
        for (name, precision), rows in zip(names, seconds, strict=True)
    ]


def measure_together(loaded: Sequence[tuple[LoadedModel, Peer]], tokens: int, rounds: int) -> list[dict[str, Any]]:
    """Tokens per second of 32 samples at once, beside one alone, and beside one alone for which nothing is guessed."""
    rows = []
    for model, peer in loaded:
        prompt = model.tokenizer.encode_prompt(PROMPTS[0])[0] or [model.tokenizer.eot_id]
        length = min(tokens, model.config.block_size - len(prompt))
        unguessed = peers.ours(model, speculate=False)
        speeds: list[tuple[float, ...]] = []
        for seed in range(rounds + 1):
            alone = [length / timed(peer.torch_threads, each.write, prompt, length, seed) for each in (peer, unguessed)]
            began = time.perf_counter()
            written = peers.together(model, prompt, length, SAMPLES, seed)
            speeds.append((written / (time.perf_counter() - began), *alone))
        all_, alone_, unguessed_ = zip(*speeds[1:], strict=True)  # the first warms up
        rows.append(
            {
                "precision": peer.precision,
                "samples": SAMPLES,
                "tokens_per_second": statistics.median(all_),
                "alone": statistics.median(alone_),
                "times": times(all_, alone_),
                "alone_unguessed": statistics.median(unguessed_),
                "times_unguessed": times(all_, unguessed_),
            }
        )
    return rows


def measure_memory(loaded: Sequence[tuple[LoadedModel, Peer]]) -> list[dict[str, Any]]:
    """Bytes that a new process holds above `import torch`: with the model ready to write, and after 50 tokens."""
    rows = []
    for model, peer in loaded:
        command = [sys.executable, "-c", MEMORY, str(model.path), peer.precision]
        held = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        weights = 4 * model.parameters
        rows.append(
            {
                "precision": peer.precision,
                "weights": weights,
                "loaded": int(held[0]),
                "writing": int(held[1]),
                "times": int(held[0]) / weights,
                "times_writing": int(held[1]) / weights,
            }
        )
    return rows


def show(report: dict[str, Any]) -> None:
    """The report as tables."""
    print(
        f"{report['model']}: {report['family']}, {report['parameters']:,} parameters, batch 1, "
        f"{report['threads']} threads, {report['rounds']} rounds, torch {report['torch']}"
    )
    if "auto" in report:
        print(f"auto is {report['auto']} here")
    if decoded := report.get("decode"):
        bases = [name for name in decoded[0]["times"] if name.startswith(("transformers", "llama.cpp"))]
        print(
            f"\n{decoded[0]['tokens']:>6} tokens{'tokens/s':>18}" + " " * 18 + "".join(f"{'x ' + b:>19}" for b in bases)
        )
        for row in decoded:
            spread = f"({row['lowest']:,.0f} to {row['highest']:,.0f})"
            ratios = "".join(f"{row['times'][base]:19.2f}" for base in bases)
            print(f"{row['peer'] + ' ' + row['precision']:20}{row['tokens_per_second']:11,.0f} {spread:>17}{ratios}")
    if first := report.get("first"):
        print(f"\nfirst token behind {first[0]['prompt_tokens']} tokens, warm")
        for row in first:
            name = f"{row['peer']} {row['precision']}"
            print(f"{name:20}{row['seconds'] * 1000:11.1f} ms{row['times']:10.2f} x transformers")
    if together := report.get("together"):
        print(f"\n{together[0]['samples']} samples at once")
        for row in together:
            speed = f"{row['tokens_per_second']:11,.0f} tokens/s"
            alone = f"{row['times']:10.2f} x one alone ({row['alone']:,.0f})"
            unguessed = f"{row['times_unguessed']:.2f} x without guesses ({row['alone_unguessed']:,.0f})"
            print(f"minigpt-tui {row['precision']:8}{speed}{alone}, {unguessed}")
    if memory := report.get("memory"):
        print(f"\nmemory above `import torch`; the weights in fp32 have {memory[0]['weights'] / 1e6:.1f} MB")
        for row in memory:
            loaded = f"{row['loaded'] / 1e6:11.1f} MB loaded, {row['times']:.2f} x"
            print(f"minigpt-tui {row['precision']:8}{loaded}; {row['writing'] / 1e6:.1f} MB writing, ", end="")
            print(f"{row['times_writing']:.2f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("--tokens", type=int, default=230)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precisions", default="fp32,bf16,int8", help="ours, with commas between them")
    parser.add_argument("--parts", default=",".join(PARTS), help="what is measured, with commas between them")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if unknown := set(options.parts.split(",")) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    try:
        report = measure(options)
    except MiniGPTError as error:
        raise SystemExit(f"error: {error}") from None
    if options.json:
        print(json.dumps(report))
    else:
        show(report)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for."""
    parts, threads = options.parts.split(","), options.threads
    ours = peers.load_ours(options.model, options.precisions.split(","), threads)
    loaded = list({peer.precision: (model, peer) for model, peer in ours.values()}.values())
    model = loaded[0][0]
    path = find_checkpoint(options.model)
    report: dict[str, Any] = {
        "model": model.name,
        "family": model.config.family,
        "parameters": model.parameters,
        "threads": threads,
        "rounds": options.rounds,
        "torch": torch.__version__,
    }
    if "auto" in ours:
        report["auto"] = ours["auto"][0].precision
    cached = peers.transformers(path, threads)
    if "decode" in parts:
        whole = model if model.precision == "fp32" else peers.load_ours(options.model, ["fp32"], threads)["fp32"][0]
        with tempfile.TemporaryDirectory() as folder:
            theirs = peers.llama_cpp_peers(
                options.model, Path(folder), threads, lambda line: print(line, file=sys.stderr)
            )
            writers = [*(peer for _, peer in loaded), cached, peers.recomputing(whole, threads), *theirs]
            report["decode"] = measure_decode(model, writers, options.tokens, options.rounds)
    if "first" in parts:
        report["first"] = measure_first(loaded, cached, options.rounds)
    if "together" in parts:
        report["together"] = measure_together(loaded, options.tokens, options.rounds)
    if "memory" in parts:
        report["memory"] = measure_memory(loaded)
    return report


if __name__ == "__main__":
    main()
