"""The model computes what its family computes elsewhere, with and without a cache, and never looks ahead."""

from __future__ import annotations

import pytest
import torch

from engine.config import ModelConfig
from engine.errors import InvalidSettingError
from engine.model import layers
from engine.model.gpt import GPT
from engine.model.layers import attend

SHAPE = {"vocab_size": 37, "block_size": 24, "n_layer": 3, "n_head": 4, "n_embd": 32}
CONFIGS = {
    "gpt2": ModelConfig(family="gpt2", bias=True, tie_head=True, **SHAPE),
    "gpt2-plain": ModelConfig(family="gpt2", activation="relu", positions="sinusoidal", **SHAPE),
    "gpt2-erf": ModelConfig(family="gpt2", activation="gelu_erf", **SHAPE),
    "nanochat": ModelConfig(family="nanochat", **SHAPE),
    "nanochat-cap": ModelConfig(family="nanochat", logit_soft_cap=15.0, n_kv_head=2, **SHAPE),
    "qwen3": ModelConfig(family="qwen3", n_kv_head=2, **SHAPE),
    "qwen3-tied": ModelConfig(family="qwen3", tie_head=True, head_dim=16, **SHAPE),
    "llama": ModelConfig(family="llama", n_kv_head=2, **SHAPE),
    "llama-slowed": ModelConfig(
        family="llama", tie_head=True, head_dim=16, rope_theta=100.0, rope_factor=8.0, rope_context=16, **SHAPE
    ),
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def make(config: ModelConfig, dtype: torch.dtype = torch.float64, seed: int = 1) -> GPT:
    """A model with every weight drawn, also those that start at zero or one."""
    model = GPT(config).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    model.initialize(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=dtype) * 0.1)
    return model.eval()


def tokens(config: ModelConfig, batch: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (batch, config.block_size), generator=generator)


@every_config
def test_a_token_changes_no_logits_before_it(config):
    model, x = make(config), tokens(config)
    before = model(x)
    for t in range(1, config.block_size):
        changed = x.clone()
        changed[:, t] = (changed[:, t] + 1) % config.vocab_size
        after = model(changed)
        assert torch.equal(after[:, :t], before[:, :t])
        assert not torch.allclose(after[:, t], before[:, t])


def test_more_than_the_context_is_refused():
    with pytest.raises(ValueError, match="do not fit in a context of 24"):
        make(CONFIGS["nanochat"])(torch.zeros(1, 25, dtype=torch.long))


def test_parameters_are_as_many_as_counted_by_hand():
    v, t, c, n = 37, 24, 32, 3
    inner = 4 * c
    blocks_plain = n * (4 * c * c + 2 * c * inner)
    biases = n * (4 * c + inner + c) + (2 * n + 1) * 2 * c  # of linear layers; weights and biases of the norms
    assert GPT(CONFIGS["gpt2"]).parameter_count() == v * c + t * c + blocks_plain + biases
    assert GPT(CONFIGS["gpt2-plain"]).parameter_count() == 2 * v * c + t * c + blocks_plain + (2 * n + 1) * c
    assert GPT(CONFIGS["nanochat"]).parameter_count() == 2 * v * c + blocks_plain
    assert GPT(CONFIGS["nanochat-cap"]).parameter_count() == 2 * v * c + blocks_plain - n * 2 * c * (c // 2)
    swiglu = 96  # 8/3 of 32, in steps of 32
    blocks = n * (2 * c * c + 2 * c * (c // 2) + 3 * c * swiglu + 2 * c + 2 * 8)
    assert GPT(CONFIGS["qwen3"]).parameter_count() == 2 * v * c + blocks + c
    assert GPT(CONFIGS["qwen3-tied"]).parameter_count() == v * c + n * (4 * c * 64 + 3 * c * swiglu + 2 * c + 32) + c
    assert GPT(CONFIGS["llama"]).parameter_count() == 2 * v * c + blocks - n * 2 * 8 + c
    assert GPT(CONFIGS["llama-slowed"]).parameter_count() == v * c + n * (4 * c * 64 + 3 * c * swiglu + 2 * c) + c


def test_the_modern_families_start_from_the_uniform_guess():
    for family in ("nanochat", "qwen3", "llama"):
        model = GPT(ModelConfig(family=family, **SHAPE))
        model.initialize(torch.Generator().manual_seed(0))
        x = tokens(model.config)
        assert model.loss(x, x).item() == pytest.approx(torch.tensor(37.0).log().item(), abs=1e-5)


def test_the_same_seed_draws_the_same_weights():
    first, second, other = (GPT(CONFIGS["gpt2"]) for _ in range(3))
    for model, seed in ((first, 3), (second, 3), (other, 4)):
        model.initialize(torch.Generator().manual_seed(seed))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.embedding.weight, other.embedding.weight)


def test_sinusoidal_positions_are_never_trained():
    model = GPT(CONFIGS["gpt2-plain"])
    model.initialize(torch.Generator().manual_seed(0))
    x = tokens(model.config)
    model.loss(x, x).backward()
    assert model.positions.weight.grad is None
    assert model.embedding.weight.grad is not None


def test_dropout_acts_in_training_alone():
    config = CONFIGS["nanochat"].replace(dropout=0.5)
    model = make(config)
    x = tokens(config)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"n_embd": 30}, "multiple of n_head"),
        ({"n_head": 0}, "from 1 to 256"),
        ({"family": "gpt3"}, "choose one of gpt2"),
        ({"family": "gpt2", "positions": "rotary"}, "has no positions=rotary"),
        ({"family": "qwen3", "activation": "gelu"}, "has no activation=gelu"),
        ({"family": "nanochat", "bias": True}, "no biases"),
        ({"n_kv_head": 3}, "multiple of n_kv_head"),
        ({"family": "gpt2", "n_kv_head": 2}, "as many key-value heads"),
        ({"family": "qwen3", "logit_soft_cap": 10.0}, "no soft cap"),
        ({"family": "qwen3", "rope_factor": 8.0}, "no slowed frequencies"),
        ({"family": "llama", "rope_slow": 4.0}, "rope_slow must be the smaller one"),
        ({"family": "llama", "n_embd": 30, "head_dim": 8}, "multiple of n_head"),
        ({"n_embd": 12}, "even width"),
        ({"dropout": 1.0}, "from 0 to 0.9"),
        ({"dropout": float("nan")}, "from 0 to 0.9"),
    ],
)
def test_a_shape_that_cannot_be_built_is_refused_in_words(changes, says):
    with pytest.raises(InvalidSettingError, match=says):
        ModelConfig(**{**SHAPE, **changes})


@every_config
def test_training_in_bf16_on_the_cpu_writes_attention_out_and_finds_the_same_gradient(config, monkeypatch):
    x = tokens(config)
    written = []
    monkeypatch.setattr(layers, "attend", lambda *given: written.append(1) or attend(*given))

    def gradient(dtype: torch.dtype) -> torch.Tensor:
        model = make(config, torch.float32)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            model.loss(x, x.roll(-1, dims=1)).backward()
        return model.blocks[0].attention.key.weight.grad

    expected = gradient(torch.float32)
    assert not written
    found = gradient(torch.bfloat16)
    assert len(written) == config.n_layer
    assert torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.99


def test_attention_written_out_is_torchs_own_attention():
    q, k, v = (torch.randn(2, 3, 20, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    ours, theirs = attend(q, k, v, 0.0), torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert torch.allclose(ours, theirs)
    grads = [torch.autograd.grad(y.square().sum(), (q, k, v)) for y in (ours, theirs)]
    assert all(torch.allclose(a, b) for a, b in zip(*grads, strict=True))
