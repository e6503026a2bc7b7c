"""What a GPU must give: the CPU's logits, and texts that go on past the context. Skipped where there is none."""

from __future__ import annotations

import pytest
import torch

from engine.checkpoints import load_model
from engine.config import SamplingParams
from engine.inference.generator import Generation

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-3), ("bf16", 0.3)])
def test_a_gpu_computes_the_cpus_logits(tiny_model, precision, close):
    x = torch.arange(40)[None] % 20
    expected = load_model("tiny", "cpu", "fp32").gpt(x)
    found = load_model("tiny", "cuda", precision).gpt(x.cuda()).float().cpu()
    assert (found - expected).abs().max() < close


def test_a_gpu_writes_past_the_context_and_the_same_again(tiny_model):
    model = load_model("tiny", "cuda", "fp32")
    params = SamplingParams(seed=5, max_new_tokens=150)
    first, second = ([token.token for token in Generation(model, [1, 2, 3], params)] for _ in range(2))
    assert len(first) == 150
    assert first == second
