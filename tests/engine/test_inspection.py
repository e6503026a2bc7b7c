"""What is told of a place is what the model does there: its probabilities are those that tokens are drawn with, its
attention and its layers' guesses are those that transformers computes from the same files."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from test_checkpoints import save
from test_model import every_config, make

from engine.checkpoints import load_model
from engine.config import SamplingParams
from engine.errors import CheckpointError, DataError
from engine.inference.generator import Generation
from engine.inference.window import window_start
from engine.worker import inspecting as inspecting_module
from engine.worker.inspecting import KEPT_SECONDS, LENS_TOKENS, Inspecting
from engine.worker.protocol import Inspect


def ask(position, tokens, **options):
    return Inspect(id=1, tokens=tuple(tokens), position=position, **options)


def attention_of(found, config):
    """(n_layer, H, T)."""
    shares = np.frombuffer(found.attention, "<f2").astype(np.float32)
    return torch.from_numpy(shares).view(config.n_layer, config.n_head, found.position - found.window_start)


@pytest.fixture(scope="module")
def tiny(tiny_model):
    return load_model("tiny", "cpu", "fp32")


@every_config
def test_attention_and_guesses_are_those_of_transformers(config, tmp_path):
    from transformers import AutoModelForCausalLM

    save(tmp_path / "model", make(config, torch.float32))
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    model = load_model(str(tmp_path / "model"), "cpu", "fp32")
    text = torch.randint(config.vocab_size, (60,), generator=torch.Generator().manual_seed(3)).tolist()
    inspecting = Inspecting()
    for position in (1, 2, 20, 24, 23, 7, 8, 25, 36, 37, 60, 59, 12):  # forth and back, and past the window's end
        found = inspecting.look(model, ask(position, text, attention=True, lens=True))
        start = window_start(position, config.block_size)
        assert found.window_start == start
        with torch.no_grad():
            out = theirs(
                torch.tensor([text[start:position]]), output_attentions=True, output_hidden_states=True, use_cache=False
            )
            expected = torch.stack([layer[0, :, -1] for layer in out.attentions])  # (n_layer, H, T)
            assert (attention_of(found, config) - expected).abs().max() < 1e-3  # float16 holds three digits
            norm = theirs.transformer.ln_f if config.family == "gpt2" else theirs.model.norm
            # The last of their hidden states has been through the norm.
            streams = [*(norm(hidden[0, -1]) for hidden in out.hidden_states[:-1]), out.hidden_states[-1][0, -1]]
            logits = theirs.lm_head(torch.stack(streams))
        if cap := config.logit_soft_cap:
            logits = cap * torch.tanh(logits / cap)
        logprobs = logits.log_softmax(dim=-1)
        assert len(found.lens) == config.n_layer + 1
        for guesses, row in zip(found.lens, logprobs, strict=True):
            values, ids = row.topk(LENS_TOKENS)
            assert [guess.token for guess in guesses] == ids.tolist()
            assert [guess.logprob for guess in guesses] == pytest.approx(values.tolist(), abs=1e-4)
        assert [each.logprob for each in found.distribution] == pytest.approx(
            logprobs[-1].sort(descending=True).values.tolist(), abs=1e-4
        )


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_probabilities_are_those_that_each_token_was_drawn_with(tiny_model, precision):
    model = load_model("tiny", "cpu", precision)
    params = SamplingParams(
        seed=5, max_new_tokens=90, temperature=1.3, top_k=20, top_p=0.98, min_p=0.001, repetition_penalty=1.2
    )
    generation = Generation(model, model.tokenizer.encode("The fox"), params, alternatives=model.config.vocab_size)
    written = list(generation)
    assert len(written) == 90  # past the window of 64
    again = load_model("tiny", "cpu", precision)  # which has read nothing of it
    inspecting = Inspecting()
    for token in [*written[::-7], *written[:3]]:
        found = inspecting.look(again, ask(token.position, generation.tokens, params=params))
        assert found.token == token.token
        if again.decoder.rows_alike:
            assert found.logprob == token.logprob
            assert {each.token: each for each in found.distribution} == {each.token: each for each in token.top}
        else:
            assert found.logprob == pytest.approx(token.logprob, abs=1e-3)
        assert sum(each.drawn for each in found.distribution) == pytest.approx(1.0, abs=1e-5)
        assert 0 < sum(each.drawn > 0 for each in found.distribution) <= 20


def test_the_texts_own_token_is_told_with_its_rank_even_where_it_is_unlikely(tiny):
    text = tiny.tokenizer.encode("The fox went to the river")
    whole = Inspecting().look(tiny, ask(10, text))
    assert len(whole.distribution) == tiny.config.vocab_size
    logprobs = [each.logprob for each in whole.distribution]
    assert logprobs == sorted(logprobs, reverse=True)
    assert whole.entropy == pytest.approx(-sum(math.exp(logprob) * logprob for logprob in logprobs), abs=1e-5)
    assert whole.distribution[whole.rank - 1].token == whole.token == text[10]
    for place, alternative in enumerate(whole.distribution):
        changed = [*text[:10], alternative.token, *text[11:]]
        found = Inspecting().look(tiny, ask(10, changed, top=3))
        assert (found.token, found.rank) == (alternative.token, place + 1)
        assert found.logprob == alternative.logprob
        told = [each.token for each in found.distribution]
        assert told[:3] == [each.token for each in whole.distribution[:3]]
        assert told[3:] == ([alternative.token] if place > 2 else [])
        assert found.entropy == whole.entropy


def test_at_the_end_of_a_text_there_is_no_token_yet(tiny):
    text = tiny.tokenizer.encode("The fox")
    found = Inspecting().look(tiny, ask(7, text, params=SamplingParams(temperature=0.0)))
    assert (found.token, found.logprob, found.rank, found.drawn) == (None, None, None, None)
    assert [each.drawn for each in found.distribution] == [1.0] + [0.0] * (tiny.config.vocab_size - 1)
    greedy = Generation(tiny, text, SamplingParams(temperature=0.0, max_new_tokens=1, seed=0))
    assert next(greedy).token == found.distribution[0].token


def test_each_heads_shares_add_up_to_one_and_nothing_is_told_unasked(tiny):
    text = tiny.tokenizer.encode("The fox went to the river, and the river said: who goes there? THE FOX: I go where")
    found = Inspecting().look(tiny, ask(80, text, attention=True))
    assert (attention_of(found, tiny.config).sum(dim=-1) - 1).abs().max() < 1e-2
    assert found.lens == ()
    assert Inspecting().look(tiny, ask(80, text, lens=True)).attention == b""


def test_a_large_vocabulary_is_told_in_part(tiny, monkeypatch):
    monkeypatch.setattr(inspecting_module, "WHOLE_VOCABULARY", 10)
    monkeypatch.setattr(inspecting_module, "TOP_TOKENS", 4)
    text = tiny.tokenizer.encode("The fox")
    assert len(Inspecting().look(tiny, ask(7, text)).distribution) == 4
    assert len(Inspecting().look(tiny, ask(7, text, top=6)).distribution) == 6
    assert len(Inspecting().look(tiny, ask(7, text, top=1000)).distribution) == tiny.config.vocab_size


def test_an_id_outside_the_vocabulary_is_refused_in_words(tiny):
    for wrong in (-1, tiny.config.vocab_size):
        with pytest.raises(DataError, match="not in the vocabulary"):
            Inspecting().look(tiny, ask(1, [0, wrong]))


def test_a_model_that_answers_with_no_number_says_so(tiny_model):
    model = load_model("tiny", "cpu", "fp32")
    with torch.no_grad():
        model.gpt.head.weight.fill_(math.nan)
    with pytest.raises(CheckpointError, match="no number"):
        Inspecting().look(model, ask(1, [0, 1]))


def test_weights_are_opened_once_while_somebody_looks_and_let_go_of_after(tiny, monkeypatch):
    opened, clock = [], [1000.0]
    real = inspecting_module.open_checkpoint
    monkeypatch.setattr(inspecting_module, "open_checkpoint", lambda path: opened.append(path) or real(path))
    monkeypatch.setattr("engine.worker.inspecting.time.monotonic", lambda: clock[0])
    inspecting, text = Inspecting(), tiny.tokenizer.encode("The fox went")
    inspecting.look(tiny, ask(5, text))
    assert not opened
    assert inspecting.rests_at == math.inf
    for position in (5, 6, 4):
        inspecting.look(tiny, ask(position, text, lens=True))
        clock[0] += KEPT_SECONDS - 1
        inspecting.rest()
    assert opened == [tiny.path]
    assert inspecting.rests_at == clock[0] + 1
    clock[0] += 1
    inspecting.rest()
    assert inspecting.rests_at == math.inf
    inspecting.look(tiny, ask(5, text, attention=True))
    assert len(opened) == 2
    other = load_model("tiny", "cpu", "bf16")
    inspecting.look(other, ask(5, text, attention=True))
    assert len(opened) == 3


def test_a_place_beside_the_last_one_costs_one_row(tiny, monkeypatch):
    inspecting, text = Inspecting(), tiny.tokenizer.encode("The fox went to the river, and the river said: who goes")
    inspecting.look(tiny, ask(40, text, lens=True))
    rows = []
    embedding = inspecting._reader.gpt.embedding
    monkeypatch.setattr(embedding, "forward", lambda ids: rows.append(len(ids)) or embedding.weight[ids])
    for position in (41, 40, 39, 40, 20):
        inspecting.look(tiny, ask(position, text, lens=True))
    assert rows == [1] * 5
    changed = [*text[:15], text[15] + 1, *text[16:]]
    inspecting.look(tiny, ask(20, changed, lens=True))
    assert rows[5:] == [5]
