"""How often a text that is taken up again parts from the one that was never interrupted.

    python benchmarks/resume.py [MODEL] [--texts 200]

Reading a prompt multiplies matrices by matrices, writing on multiplies them by vectors, and the two round differently
in the last bit. A draw differs where two tokens were equal to that bit. For each text one cut is drawn; the rest is
written again from there with the same seed, and compared to the letter.
"""

from __future__ import annotations

import argparse
import random

from engine.checkpoints import load_model
from engine.config import SamplingParams
from engine.inference.generator import Generation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=400)
    options = parser.parse_args()
    model = load_model(options.model, "cpu", "fp32")
    prompt = model.tokenizer.encode_prompt("ROMEO:\n")[0]
    cuts, parted, compared = random.Random(0), 0, 0
    for seed in range(options.texts):
        whole = Generation(model, prompt, SamplingParams(seed=seed, max_new_tokens=options.tokens))
        tokens = [token.token for token in whole]
        cut = cuts.randrange(1, len(tokens))
        params = SamplingParams(seed=seed, max_new_tokens=options.tokens - cut)
        again = [token.token for token in Generation(model, [*prompt, *tokens[:cut]], params)]
        compared += len(tokens) - cut
        parted += again != tokens[cut:]
    print(f"{model.name}: {parted} of {options.texts} texts part; {compared:,} tokens compared")


if __name__ == "__main__":
    main()
