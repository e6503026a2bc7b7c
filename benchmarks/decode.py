"""Tokens per second of one text on the CPU: this engine beside transformers' cached `generate` and beside
recomputing everything for each token, on the same weights, in one run.

    python benchmarks/decode.py [MODEL] [--tokens 230] [--rounds 5]

Every peer writes the same number of tokens after the same prompt, at temperature 0.8. Rounds alternate, so that
what else the machine does hits all of them; the median and the spread are printed.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from engine.checkpoints import LoadedModel, load_model
from engine.config import SamplingParams
from engine.inference.generator import Generation


def ours(model: LoadedModel, prompt: list[int], tokens: int, seed: int) -> None:
    """This engine, fp32, with text and logprobs as the app gets them."""
    written = sum(1 for _ in Generation(model, prompt, SamplingParams(seed=seed, max_new_tokens=tokens)))
    assert written == tokens, f"only {written} tokens"


def make_transformers(model: LoadedModel):
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(model.path, dtype=torch.float32)

    def run(_: LoadedModel, prompt: list[int], tokens: int, seed: int) -> None:
        """transformers' `generate` with its cache."""
        torch.manual_seed(seed)
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            theirs.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=0.8,
                top_k=0,
                min_new_tokens=tokens,
                max_new_tokens=tokens,
                pad_token_id=0,
            )

    return run


@torch.inference_mode()
def recompute(model: LoadedModel, prompt: list[int], tokens: int, seed: int) -> None:
    """No cache: the whole text again for each token, as nanoGPT's sample.py does."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.tensor([prompt])
    for _ in range(tokens):
        logits = model.gpt(ids[:, -model.config.block_size :])[:, -1] / 0.8
        ids = torch.cat((ids, torch.multinomial(logits.softmax(-1), 1, generator=generator)), dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("--tokens", type=int, default=230)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    model = load_model(options.model, "cpu", "fp32")
    prompt = model.tokenizer.encode_prompt("ROMEO:\n")[0]
    peers = {"minigpt-tui": ours, "transformers, cached": make_transformers(model), "no cache": recompute}
    speeds: dict[str, list[float]] = {name: [] for name in peers}
    for run in peers.values():
        run(model, prompt, 20, 0)
    for seed in range(options.rounds):
        for name, run in peers.items():
            began = time.perf_counter()
            run(model, prompt, options.tokens, seed)
            speeds[name].append(options.tokens / (time.perf_counter() - began))
    threads = torch.get_num_threads()
    print(f"{model.name}: {model.config.family}, {model.parameters:,} parameters, fp32, batch 1, {threads} threads")
    print(f"{options.tokens} tokens, median of {options.rounds} rounds, torch {torch.__version__}")
    base = statistics.median(speeds["transformers, cached"])
    for name, rows in speeds.items():
        median = statistics.median(rows)
        spread = f"{min(rows):,.0f} to {max(rows):,.0f}"
        print(f"{name:24} {median:8,.0f} tokens/s   {median / base:5.2f} x   ({spread})")


if __name__ == "__main__":
    main()
