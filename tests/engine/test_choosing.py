"""`auto` is the fastest arithmetic that loses nothing that matters, the same one tomorrow as today."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
import torch
from drafted import torch_alone, write_down
from tiny_models import TINY_TEXT, make_tiny

from engine import checkpoints, folders
from engine.catalog import Record
from engine.checkpoints import LoadedModel, load_model, open_checkpoint
from engine.config import SamplingParams
from engine.inference import choosing, threads
from engine.inference.choosing import (
    LONGEST_TEXT,
    MOST_LOST,
    SMALLEST,
    Measured,
    candidates,
    choose_precision,
    choose_threads,
    measure,
)
from engine.inference.decoder import Decoder
from engine.inference.generator import Generation
from engine.text.corpus import read_corpus
from engine.text.provenance import text_record

pytestmark = pytest.mark.skipif(len(candidates()) < 3, reason="this build of torch has nothing to choose between")


@pytest.fixture(scope="module")
def parts(tiny_model):
    """A model, its tokenizer and its record."""
    return open_checkpoint(tiny_model)


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    """Where choices are remembered, for this test alone."""
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path))
    monkeypatch.setattr(choosing, "SMALLEST", 0)
    return folders.cache_home() / "inference-precision.json"


def pretend(monkeypatch, seconds, lost) -> list:
    """Have each precision take so long and lose so much; returns what was measured, as it is measured."""
    measured: list = []
    monkeypatch.setattr(choosing, "token_seconds", lambda *asked: dict(zip(candidates(), seconds, strict=True)))

    def losses(decoders, texts, *, is_own):
        measured.append(texts)
        return dict(zip(decoders, lost, strict=True))

    monkeypatch.setattr(choosing, "_losses", losses)
    return measured


@pytest.fixture
def untimed(monkeypatch) -> None:
    monkeypatch.setattr(choosing, "token_seconds", lambda *asked: dict.fromkeys(candidates(), 1.0))


# What is taken


@pytest.mark.parametrize(
    ("seconds", "lost", "expected"),
    [
        ((3, 2, 1), (0, 0.001, 0.002), "int8"),
        ((3, 1, 2), (0, 0.001, 0.002), "bf16"),
        ((3, 2, 1), (0, -0.001, -0.002), "int8"),
        ((3, 2, 1), (0, 0.001, MOST_LOST), "int8"),
        ((3, 2, 1), (0, 0.001, MOST_LOST + 1e-6), "bf16"),
        ((9, 2, 1), (0, MOST_LOST + 1e-6, 0.3), "fp32"),
        ((1, 2, 3), (0, 0, 0), "fp32"),
        ((1, 0.95, 0.92), (0, 0, 0), "fp32"),  # no clear gain
        ((3, 2, 1), (0, 0.001, math.nan), "bf16"),
        ((3, 2, 1), (math.nan, math.nan, math.nan), "fp32"),
    ],
)
def test_the_fastest_of_the_faithful_is_taken(parts, monkeypatch, seconds, lost, expected):
    pretend(monkeypatch, seconds, lost)
    measured = measure(*parts)
    assert measured.precision == expected
    assert measured.milliseconds == {name: 1000 * each for name, each in zip(candidates(), seconds, strict=True)}
    assert msgspec.json.decode(msgspec.json.encode(measured), type=Measured) == measured


def test_small_models_are_fp32_and_nothing_is_measured(parts, monkeypatch):
    assert parts[0].parameter_count() < SMALLEST
    measured = pretend(monkeypatch, (3, 2, 1), (0, 0, 0))
    assert choose_precision(*parts, "hash") == "fp32"
    assert not measured


def test_a_model_that_answers_with_no_number_can_still_be_loaded(tiny_model, monkeypatch, untimed):
    gpt, tokenizer, record = open_checkpoint(tiny_model)
    with torch.no_grad():
        gpt.head.weight[3] = float("nan")
    assert measure(gpt, tokenizer, record).precision == "fp32"


def test_a_small_model_that_is_really_measured_loses_next_to_nothing(home):
    path = make_tiny("measured", steps=60, n_layer=3, n_embd=128, batch_size=4, learning_rate=0.01)
    measured = measure(*open_checkpoint(path))
    assert measured.text == "own"
    assert set(measured.milliseconds) == set(measured.lost) == set(candidates())
    assert min(measured.milliseconds.values()) > 0
    assert measured.lost["fp32"] == 0.0
    assert 0 < abs(measured.lost["int8"]) < MOST_LOST
    assert 0 < abs(measured.lost["bf16"]) < MOST_LOST


def test_a_model_that_was_loaded_before_has_no_say_in_the_threads_of_the_measurement(parts, monkeypatch):
    monkeypatch.setattr(choosing, "most_threads", lambda: 2)
    seen, before = [], torch.get_num_threads()

    def timed(decoders, *seconds):
        seen.append({decoder.threads for decoder in decoders.values()})
        return dict.fromkeys(decoders, 1.0)

    monkeypatch.setattr(choosing, "token_seconds", timed)
    try:
        torch.set_num_threads(1)
        measure(*parts)
    finally:
        torch.set_num_threads(before)
    assert seen == [{2}]


# What is remembered


def test_the_choice_is_made_once_for_each_model(parts, monkeypatch, cache):
    measured = pretend(monkeypatch, (3, 2, 1), (0, 0.001, 0.002))
    assert choose_precision(*parts, "one") == "int8"
    assert len(measured) == 1
    pretend(monkeypatch, (1, 2, 3), (0, 0, 0))  # another day
    assert choose_precision(*parts, "one") == "int8"
    assert choose_precision(*parts, "other") == "fp32"
    assert choose_precision(*parts, "one") == "int8"
    known = msgspec.json.decode(cache.read_bytes())
    assert sorted(key.rpartition(" ")[2] for key in known) == ["one", "other"]
    assert all(torch.__version__ in key for key in known)


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"\xff", b'{"%s": 1}', b'{"%s": {"precision": "fp8"}}', b'{"%s": {"precision": null}}'],
)
def test_what_is_remembered_wrongly_is_measured_again(parts, monkeypatch, cache, damage):
    measured = pretend(monkeypatch, (3, 2, 1), (0, 0.001, 0.002))
    choose_precision(*parts, "one")
    (key,) = msgspec.json.decode(cache.read_bytes())
    cache.write_bytes(damage.replace(b"%s", key.encode()))
    for _ in range(2):
        assert choose_precision(*parts, "one") == "int8"
    assert len(measured) == 2
    assert list(msgspec.json.decode(cache.read_bytes())) == [key]


def test_where_nothing_can_be_remembered_it_is_measured_each_time(parts, monkeypatch, cache):
    measured = pretend(monkeypatch, (3, 2, 1), (0, 0.001, 0.002))
    cache.parent.write_text("a file where the folder would be")
    for count in (1, 2):
        assert choose_precision(*parts, "one") == "int8"
        assert len(measured) == count


def test_a_model_is_loaded_in_what_was_chosen_or_in_what_was_asked_for(tiny_model, monkeypatch, cache):
    measured = pretend(monkeypatch, (3, 2, 1), (0, 0.001, 0.002))
    name = str(tiny_model)
    assert [load_model(name, "cpu", "auto").precision for _ in range(2)] == ["int8", "int8"]
    assert load_model(name, "cpu", "auto").decoder.precision == "int8"
    assert len(measured) == 1
    assert load_model(name, "cpu", "bf16").precision == "bf16"


# What the loss is measured on


@pytest.fixture
def text(tmp_path) -> Path:
    path = tmp_path / "river.txt"
    path.write_text(TINY_TEXT * 5)
    return path


def trained_on(text: Path, **changes) -> Record:
    corpus = read_corpus(text)
    return Record(data={**text_record(corpus, train_tokens=4608), **changes})


def measured_texts(parts, record, monkeypatch) -> tuple[str, list[str]]:
    """What a loss was measured on, by its kind and in characters."""
    gpt, tokenizer, _ = parts
    texts: list[str] = []
    losses = choosing._losses

    def seen(decoders, ids, **options):
        texts.extend(tokenizer.decode(each) for each in ids)
        return losses(decoders, ids, **options)

    monkeypatch.setattr(choosing, "_losses", seen)
    return measure(gpt, tokenizer, record).text, texts


def test_the_loss_is_that_of_the_validation_text_where_it_is_at_hand(parts, text, monkeypatch, untimed):
    kind, texts = measured_texts(parts, trained_on(text), monkeypatch)
    assert kind == "val"
    (val,) = read_corpus(text).val
    assert all(each in val and len(each) == 65 for each in texts)
    assert len(texts) > 4


@pytest.mark.parametrize(
    "change", ["gone", "changed", "short", "strange letters", "not known", "too long", "broken", "test alone"]
)
def test_else_it_is_that_of_what_the_model_writes(parts, text, monkeypatch, untimed, change):
    record = trained_on(text)
    if change == "gone":
        text.unlink()
    elif change == "changed":
        text.write_text(TINY_TEXT)
    elif change == "short":
        text.write_text(TINY_TEXT)
        record = trained_on(text)
    elif change == "strange letters":
        text.write_text(TINY_TEXT * 5 + "☃")
        record = trained_on(text)
    elif change == "not known":
        record = Record(data={})
    elif change == "too long":
        record = trained_on(text, train_tokens=LONGEST_TEXT + 1)
    elif change == "broken":
        record = trained_on(text, splits="all of it")
    else:
        record = trained_on(text, splits={"test": trained_on(text).data["splits"]["train"]})
    kind, texts = measured_texts(parts, record, monkeypatch)
    assert kind == "own"
    assert len(texts) > 4


def test_the_loss_on_a_text_is_the_models_own(parts, text, monkeypatch):
    gpt, tokenizer, _ = parts
    ids = [tokenizer.encode(TINY_TEXT[place : place + 60]) for place in (0, 40, 80)]

    def loss(decoder):
        logits = torch.stack([decoder.read([each[:-1]], [decoder.slots.take(decoder, ())])[0] for each in ids])
        return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(ids)[:, 1:].flatten()))

    decoders = {name: Decoder(gpt, name) for name in ("fp32", "int8")}
    lost = choosing._losses(decoders, ids, is_own=False)
    assert lost["int8"] == pytest.approx(loss(Decoder(gpt, "int8")) - loss(Decoder(gpt, "fp32")), abs=1e-5)
    assert lost["fp32"] == 0.0


# Threads, and what a loaded model keeps


def decoders_of(gpt):
    """One with a library built for this processor, where there is a compiler, and one in torch alone."""
    yield Decoder(gpt)
    with torch_alone():
        yield Decoder(gpt)


@pytest.mark.parametrize("wanted", ["1", "2,1", "0", "many"])
def test_the_threads_are_never_more_than_the_user_allows(parts, monkeypatch, wanted):
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    monkeypatch.setattr(threads, "_cores", lambda: 2)
    before = torch.get_num_threads()
    try:
        for decoder in decoders_of(parts[0]):
            assert choose_threads(decoder) == decoder.threads
            assert torch.get_num_threads() <= (1 if decoder.is_native else decoder.threads)  # beside its passes
            assert 1 <= decoder.threads <= (1 if wanted == "1" else 2)
    finally:
        torch.set_num_threads(before)


def write(model: LoadedModel):
    params = SamplingParams(seed=4, temperature=1.1, max_new_tokens=90)
    return write_down(Generation(model, model.tokenizer.encode("The fox"), params))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_model_that_is_to_write_lets_go_of_what_it_was_loaded_as_and_opens_it_again_when_asked(
    tiny_model, monkeypatch, precision
):
    opened = []
    original = checkpoints.open_checkpoint
    monkeypatch.setattr(checkpoints, "open_checkpoint", lambda path: (opened.append(path), original(path))[1])
    model, plain = (load_model("tiny", "cpu", precision) for _ in range(2))
    threads = torch.get_num_threads()
    try:
        model.prepare_to_write()
    finally:
        torch.set_num_threads(threads)
    assert write(model) == write(plain)
    assert len(opened) == 2
    weights = model.gpt.state_dict()
    assert len(opened) == 3  # it was let go of
    assert all(torch.equal(weights[name], weight) for name, weight in plain.gpt.state_dict().items())
    assert not model.gpt.training
    assert len(opened) == 3
    assert write(model) == write(plain)


def test_a_model_that_was_never_saved_is_not_let_go_of(parts):
    gpt, tokenizer, record = parts
    model = LoadedModel("", None, gpt, tokenizer, record, "cpu", "fp32", "")
    threads = torch.get_num_threads()
    try:
        model.prepare_to_write()
    finally:
        torch.set_num_threads(threads)
    assert model.gpt is gpt
