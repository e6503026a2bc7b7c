"""The loss of a model on a text is the same every time, whatever is read at once."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_models import TINY_TEXT
from training_here import TINY, new_run, take_up, tiny_text

from engine import evaluation
from engine.checkpoints import load_model
from engine.errors import DataError
from engine.evaluation import evaluate, score
from engine.model.gpt import GPT
from engine.text.corpus import encode_documents


def test_the_loss_is_the_mean_over_every_token_but_the_first(tiny_model):
    model = load_model("tiny")
    tokens = encode_documents(model.tokenizer, [TINY_TEXT])[:201]
    found = evaluate(model.gpt, model.tokenizer, tokens)
    total = 0.0
    for start in range(0, 200, 64):
        window = torch.from_numpy(tokens[start : min(start + 65, 201)].astype("int64"))
        logprobs = model.gpt(window[None, :-1])[0].log_softmax(-1)
        total -= sum(float(logprobs[i, window[i + 1]]) for i in range(len(window) - 1))
    assert found.loss == pytest.approx(total / 200, abs=1e-5)
    assert found.perplexity == pytest.approx(math.exp(found.loss))
    assert found.bits_per_byte == pytest.approx(found.loss / math.log(2))  # one byte to a character here
    assert (found.tokens, found.windows) == (200, 4)


def test_evaluating_changes_nothing_and_drops_nothing_out(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))
    trainer = take_up(new_run("demo", TINY.replace(dropout=0.5, steps=1), tiny_text(tmp_path)))
    tokens, gpt = trainer.text.train[:161], trainer.stepper.gpt
    with torch.no_grad():
        gpt.head.weight.normal_()
    state = torch.random.get_rng_state()
    found = evaluate(gpt, trainer.tokenizer, tokens)
    assert gpt.training
    assert torch.equal(torch.random.get_rng_state(), state)
    x, y = (torch.from_numpy(part.astype("int64")).view(10, 16) for part in (tokens[:-1], tokens[1:]))
    gpt.eval()
    assert found.loss == pytest.approx(gpt.loss(x, y).item(), abs=1e-5)
    assert evaluate(gpt, trainer.tokenizer, tokens) == found
    assert not gpt.training


@pytest.mark.parametrize(("limit", "read"), [(1, [0]), (64, [0]), (65, [0]), (67, [0, 3]), (100, [0, 2]), (128, [0, 2]),
                                             (199, [0, 2]), (200, [0, 1, 2, 3]), (10**9, [0, 1, 2, 3])])  # fmt: skip
def test_a_limit_takes_windows_evenly_spread(tiny_model, limit, read):
    model = load_model("tiny")
    tokens = encode_documents(model.tokenizer, [TINY_TEXT])[:201]
    done = []
    found = evaluate(model.gpt, model.tokenizer, tokens, limit=limit, progress=lambda *told: done.append(told))
    parts = [tokens[64 * window : min(64 * window + 65, 201)] for window in read]
    losses = [evaluate(model.gpt, model.tokenizer, part) for part in parts]
    predicted = sum(part.tokens for part in losses)
    assert (found.tokens, found.windows) == (predicted, len(read))
    assert found.loss == pytest.approx(sum(part.loss * part.tokens for part in losses) / predicted, abs=1e-5)
    assert found.bits_per_byte == pytest.approx(found.loss / math.log(2))
    assert done[-1] == (predicted, predicted)
    assert evaluate(model.gpt, model.tokenizer, tokens, limit=limit) == found


def test_a_large_vocabulary_is_taken_in_turns(tiny_model, monkeypatch):
    model = load_model("tiny")
    tokens = encode_documents(model.tokenizer, [TINY_TEXT])[:201]
    whole, told = evaluate(model.gpt, model.tokenizer, tokens), score(model, TINY_TEXT[:201])
    most = []
    logits = GPT.logits

    def counted(self, x):
        most.append(x.shape[:-1].numel())
        return logits(self, x)

    monkeypatch.setattr(GPT, "logits", counted)
    monkeypatch.setattr(evaluation, "LOGITS_AT_ONCE", 7 * model.config.vocab_size + 1)
    assert evaluate(model.gpt, model.tokenizer, tokens).loss == pytest.approx(whole.loss, abs=1e-6)
    again = score(model, TINY_TEXT[:201])
    assert max(most) == 7
    assert [token.logprob for token in again.tokens] == pytest.approx(
        [token.logprob for token in told.tokens], abs=1e-5
    )
    assert [token.rank for token in again.tokens] == [token.rank for token in told.tokens]


def test_a_score_tells_each_tokens_share(tiny_model):
    model = load_model("tiny")
    text = "The fox went to the river, ☃ and " * 6
    found = score(model, text)
    assert found.left_out == "☃"
    known = text.replace("☃", "")
    assert "".join(token.text for token in found.tokens) == known[1:]
    assert found.loss == pytest.approx(-sum(t.logprob for t in found.tokens) / len(found.tokens))
    ids = model.tokenizer.encode(known)
    logits = model.gpt(torch.tensor([ids[:64]]))[0]
    for place in (0, 5, 62):
        token, logprobs = ids[place + 1], logits[place].log_softmax(-1)
        assert found.tokens[place].logprob == pytest.approx(float(logprobs[token]), abs=1e-5)
        assert found.tokens[place].rank == int((logprobs > logprobs[token]).sum()) + 1
        assert found.tokens[place].entropy == pytest.approx(float(-(logprobs.exp() * logprobs).sum()), abs=1e-4)
    assert (found.text, found.ids, found.ends) == (known, tuple(ids), tuple(range(1, len(known) + 1)))
    assert score(model, ids).tokens == found.tokens
    with pytest.raises(DataError, match="not in the vocabulary"):
        score(model, [1, 10_000])
    with pytest.raises(DataError, match="too short"):
        score(model, "T")
