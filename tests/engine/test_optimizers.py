"""What moves which weights, how far, and along which schedule; and which arithmetic it is done in."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_here import TINY

from engine import folders
from engine.model.gpt import GPT
from engine.presets import PRESETS, SUMMARIES, find_preset
from engine.training import precision
from engine.training.optimizers import FIRST_MOMENTUM, clip_gradients, make_optimizers, set_learning_rate, set_momentum
from engine.training.schedules import learning_rate_share


def test_muon_moves_the_blocks_matrices_and_adamw_the_rest():
    gpt = GPT(TINY.replace(family="gpt2", bias=True, weight_decay=0.1).model_config(30))
    adamw, muon = make_optimizers(gpt, TINY.replace(weight_decay=0.1))
    names = {id(weight): name for name, weight in gpt.named_parameters()}
    moved = {names[id(weight)] for group in muon.param_groups for weight in group["params"]}
    assert moved == {name for name in names.values() if name.startswith("blocks.") and name.endswith("weight")
                     and "norm" not in name}  # fmt: skip
    decayed = {names[id(weight)] for group in adamw.param_groups if group["weight_decay"] for weight in group["params"]}
    assert decayed == {"head.weight"}  # neither biases and norms, nor the rows of tables
    everything = moved | {names[id(weight)] for group in adamw.param_groups for weight in group["params"]}
    assert everything == set(names.values())
    set_learning_rate([adamw, muon], 0.5)
    assert muon.param_groups[0]["lr"] == TINY.muon_learning_rate / 2


def test_tables_may_have_a_learning_rate_of_their_own():
    for wanted, expected in ((0.0, TINY.learning_rate), (0.1, 0.1)):
        config = TINY.replace(family="gpt2", embedding_learning_rate=wanted)
        gpt = GPT(config.model_config(30))
        optimizers = make_optimizers(gpt, config)
        set_learning_rate(optimizers, 0.5)
        rates = {id(weight): group["lr"] for group in optimizers[0].param_groups for weight in group["params"]}
        names = {name: rates.get(id(weight)) for name, weight in gpt.named_parameters()}
        assert names["embedding.weight"] == names["positions.weight"] == expected / 2
        assert names["head.weight"] == names["final_norm.weight"] == TINY.learning_rate / 2


def test_the_momentum_rises_to_its_end_where_it_is_warmed_up():
    def momentum(step, **settings):
        config = TINY.replace(**settings)
        optimizers = make_optimizers(GPT(config.model_config(30)), config)
        set_momentum(optimizers, config, step)
        return optimizers[1].param_groups[0]["momentum"]

    assert momentum(0) == momentum(500) == TINY.muon_momentum
    risen = [momentum(step, momentum_warmup_steps=300) for step in (0, 150, 300, 500)]
    assert risen == pytest.approx([FIRST_MOMENTUM, 0.9, 0.95, 0.95])
    assert momentum(0, muon_momentum=0.8, momentum_warmup_steps=300) == 0.8  # it never falls


def test_matrices_decay_and_vectors_and_tables_do_not():
    for family, tie_head in (("gpt2", True), ("qwen3", False), ("nanochat", False)):
        config = TINY.replace(family=family, tie_head=tie_head, optimizer="adamw", weight_decay=0.1)
        gpt = GPT(config.model_config(30))
        (adamw,) = make_optimizers(gpt, config)
        decay = {id(weight): group["weight_decay"] for group in adamw.param_groups for weight in group["params"]}
        kept = {name for name, weight in gpt.named_parameters() if not decay[id(weight)]}
        assert kept == {name for name in dict(gpt.named_parameters())
                        if "norm" in name or name.startswith(("embedding", "positions"))}  # fmt: skip


def test_gradients_are_clipped_to_the_limit():
    gpt = GPT(TINY.model_config(30))
    gpt.initialize(torch.Generator().manual_seed(0))
    x = torch.zeros(2, 8, dtype=torch.long)
    (gpt.loss(x, x) * 100).backward()
    norm = clip_gradients(gpt, 0.0)
    assert clip_gradients(gpt, 1.0) == pytest.approx(norm)
    assert clip_gradients(gpt, 0.0) == pytest.approx(1.0, rel=1e-4)


@given(
    steps=st.integers(1, 500), warmup=st.integers(0, 600), schedule=st.sampled_from(["linear", "cosine"]),
    low=st.floats(0, 1), until=st.floats(0, 1),
)  # fmt: skip
def test_the_learning_rate_rises_then_falls_and_stays_in_range(steps, warmup, schedule, low, until):
    config = TINY.replace(warmup_steps=warmup, schedule=schedule, min_learning_rate=low, constant_until=until)
    shares = [learning_rate_share(config, step, steps) for step in range(steps)]
    assert all(0 <= share <= 1 for share in shares)
    assert all(a < b for a, b in itertools.pairwise(shares[:warmup]))
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(shares[warmup:]))


def test_the_schedules_have_their_shapes():
    linear = TINY.replace(warmup_steps=0, constant_until=0.4, min_learning_rate=0.0)
    assert learning_rate_share(linear, 39, 100) == 1.0
    assert learning_rate_share(linear, 70, 100) == pytest.approx(0.5)
    cosine = TINY.replace(warmup_steps=0, schedule="cosine", min_learning_rate=0.1)
    assert learning_rate_share(cosine, 50, 100) == pytest.approx(0.55)


def test_presets_are_named_and_a_near_miss_is_helped():
    assert set(PRESETS) == set(SUMMARIES)
    for name, config in PRESETS.items():
        with torch.device("meta"):
            GPT(config.model_config(65))
        assert find_preset(name) == config
    with pytest.raises(ValueError, match="did you mean small"):
        find_preset("smal")


# Precision


def test_what_was_measured_once_is_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path))
    gains = iter([1.4, 1.6, 9.0, 9.0])
    monkeypatch.setattr(precision, "measured_gain", lambda rows, n_embd: next(gains))
    narrow, wide = TINY.replace(precision="auto"), TINY.replace(precision="auto", n_embd=32)
    for _ in range(3):
        assert precision.choose_precision(narrow, "cpu") == "fp32"  # 1.4 is no clear gain
        assert precision.choose_precision(wide, "cpu") == "bf16"
    assert precision.choose_precision(wide.replace(precision="fp32"), "cpu") == "fp32"
    monkeypatch.setattr(precision.torch, "get_num_threads", lambda: 77)
    assert precision.choose_precision(narrow, "cpu") == "bf16"  # with other threads it is another question
    monkeypatch.undo()
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path))
    (file,) = folders.cache_home().iterdir()
    file.write_bytes(b"\xff{")
    monkeypatch.setattr(precision, "measured_gain", lambda rows, n_embd: 9.0)
    assert precision.choose_precision(narrow, "cpu") == "bf16"


def test_a_gain_is_a_ratio_of_times():
    assert 0 < precision.measured_gain(16, 16) < 1000
