"""Whole numbers on both sides lose next to nothing, are the same on each load, and are left where they cannot be."""

from __future__ import annotations

import gc
import warnings
import weakref

import pytest
import torch
from drafted import torch_alone
from test_decoder import CONFIGS, WEIGHTS_ALONE, decoder_in, read_in_pieces, slots_of, wide
from test_model import make

from engine.checkpoints import load_model
from engine.inference import calibration, choosing, products
from engine.inference import decoder as decoder_module
from engine.inference.decoder import Decoder
from engine.inference.products import Int8, Packed, Range, StaticInt8, has_static_int8

pytestmark = pytest.mark.skipif(not has_static_int8(), reason="this processor or build of torch has no such products")

FAMILIES = ["gpt2", "nanochat", "qwen3", "llama"]
TEXT = torch.randint(37, (100,), generator=torch.Generator().manual_seed(1)).tolist()


@pytest.fixture(autouse=True)
def no_compiler():
    with torch_alone():
        yield


def ranges_of(model) -> list[Range]:
    with torch.inference_mode():
        return calibration._input_ranges(model, Decoder)


def kind_of_head(decoder) -> type:
    return type(decoder._pass.blocks._head)


# What they lose


def test_the_bundled_model_loses_next_to_nothing():
    model = load_model("shakespeare", "cpu", "fp32")
    texts = choosing._val_windows(model.tokenizer, model.record, model.config.block_size)
    decoders = {name: Decoder(model.gpt, name) for name in ("fp32", "int8")}
    assert kind_of_head(decoders["int8"]) is StaticInt8
    lost = choosing._losses(decoders, texts or choosing._own_texts(decoders["fp32"], 0), is_own=not texts)
    assert 0 < abs(lost["int8"]) < choosing.MOST_LOST


def test_what_is_beyond_the_range_counts_as_its_end():
    weight, inputs = torch.randn(9, 40, generator=torch.Generator().manual_seed(0)), Range(-2.0, 1.0)
    product = StaticInt8(weight, None, inputs)
    x = torch.full((4, 40), 0.5)
    for beyond, end in ((1e30, 1.0), (-1e30, -2.0), (1.5, 1.0)):
        cut, kept = x.clone(), x.clone()
        cut[:, 7], kept[:, 7] = beyond, end
        assert torch.allclose(product(cut), product(kept), atol=2 * 3 / 255 * float(weight[:, 7].abs().max()))
        assert product(cut).isfinite().all()


@pytest.mark.parametrize("inputs", [Range(0.0, 0.0), Range(-1e-38, 0.0), Range(-3e38, 3e38), Range(0.0, 5.0)])
def test_any_range_gives_numbers(inputs):
    product = StaticInt8(torch.randn(5, 33), torch.ones(5), inputs)
    assert torch.equal(product(torch.zeros(4, 33)), torch.ones(4, 5))
    assert product(torch.randn(4, 33)).isfinite().all()


# What the ranges are


@pytest.mark.parametrize("family", FAMILIES)
def test_the_ranges_do_not_depend_on_the_threads(family):
    model, before, found = wide(CONFIGS[family], block_size=90), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 1):
            torch.set_num_threads(threads)
            found.append(ranges_of(model))
    finally:
        torch.set_num_threads(before)
    assert found[1:] == found[:-1]
    assert all(each.low <= 0.0 <= each.high and each.low < each.high for each in found[0][1:])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_is_loaded_twice_answers_the_same_to_the_bit(family):
    model = wide(CONFIGS[family], block_size=100)
    first, second = (read_in_pieces(Decoder(model, "int8"), TEXT, [100]) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, read_in_pieces(decoder_in(WEIGHTS_ALONE, model), TEXT, [100]))


@pytest.mark.parametrize("changes", [{"block_size": 2}, {"block_size": 5}, {"vocab_size": 1}, {"block_size": 1500}])
@pytest.mark.parametrize("family", FAMILIES)
def test_small_windows_vocabularies_and_large_windows_can_be_calibrated(family, changes):
    decoder = Decoder(make(CONFIGS[family].replace(**changes)).float(), "int8")
    owners, slots = slots_of(decoder)
    assert kind_of_head(decoder) is StaticInt8
    assert decoder.read([[0]], slots).isfinite().all()
    del owners


def test_logits_of_a_large_vocabulary_are_drawn_from_in_turns(monkeypatch):
    model = wide(CONFIGS["nanochat"], block_size=50)
    whole = ranges_of(model)
    monkeypatch.setattr(calibration, "LOGITS_AT_ONCE", 7 * model.config.vocab_size)
    assert ranges_of(model) == whole


# Where it cannot be


@pytest.mark.parametrize("kind", ["head", "embedding", "bias"])
def test_a_model_with_what_is_no_number_still_answers_so(kind):
    model = wide(CONFIGS["gpt2"], block_size=60)
    weight = {"head": model.head.weight, "embedding": model.embedding.weight, "bias": model.blocks[0].mlp.up.bias}[kind]
    with torch.no_grad():
        weight[3] = float("nan")
    decoder = Decoder(model, "int8")
    assert kind_of_head(decoder) is Int8
    assert read_in_pieces(decoder, [3, 3, 3, 3], [4]).isnan().any()


def test_a_product_too_long_for_whole_sums_is_another(monkeypatch):
    monkeypatch.setattr(products, "MOST_STATIC_COLUMNS", 256)
    decoder = Decoder(wide(CONFIGS["gpt2"], block_size=60), "int8")
    block = decoder._pass.blocks._products[0]
    assert [type(each) for each in (block.up, block.down)] == [StaticInt8, Int8]
    assert torch.equal(read_in_pieces(decoder, TEXT[:60], [7, 1]), read_in_pieces(decoder, TEXT[:60], [60]))


@pytest.mark.parametrize("gone", ["_make_per_channel_quantized_tensor", "ops", "right answers"])
def test_where_torch_does_not_have_them_int8_is_that_of_weights_alone(monkeypatch, gone):
    if gone == "ops":
        monkeypatch.setattr(products, "OF_FBGEMM", "no_such_operation")
    elif gone == "right answers":  # sums that are cut off, as on processors without VNNI
        monkeypatch.setattr(StaticInt8, "__call__", lambda self, x, activation: torch.full((4, 16), 32.9))
    else:
        monkeypatch.delattr(torch, gone)
    before = torch.backends.quantized.engine
    found = has_static_int8.__wrapped__()
    assert not found
    assert torch.backends.quantized.engine == before
    monkeypatch.setattr(decoder_module, "has_static_int8", lambda: found)
    assert kind_of_head(Decoder(wide(CONFIGS["gpt2"], block_size=60), "int8")) is Int8


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_that_cannot_be_written_down_give_the_same_to_the_bit(family, monkeypatch):
    model = wide(CONFIGS[family], block_size=100)
    found = read_in_pieces(Decoder(model, "int8"), TEXT, [9, 1])
    calls = []
    call = StaticInt8.__call__
    monkeypatch.setattr(StaticInt8, "__call__", lambda self, *asked: (calls.append(0), call(self, *asked))[1])

    def failing(*asked, **options):
        raise RuntimeError("there is no such thing")

    monkeypatch.setattr(torch.jit, "trace", failing)
    assert torch.equal(read_in_pieces(Decoder(model, "int8"), TEXT, [9, 1]), found)
    assert calls


# What is left behind


def test_nothing_is_said_and_nothing_is_changed():
    before = torch.backends.quantized.engine
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoder = Decoder(wide(CONFIGS["nanochat"], block_size=60), "int8")
        read_in_pieces(decoder, TEXT[:60], [5])
    assert torch.backends.quantized.engine == before


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_decoder_is_gone_with_its_last_user(precision, monkeypatch):
    made, gone = [], []
    original = Packed.__init__

    def kept(self, *asked):
        original(self, *asked)
        made.append(1)
        weakref.finalize(self, gone.append, 1)

    monkeypatch.setattr(Packed, "__init__", kept)
    gc.disable()
    try:
        decoder = Decoder(wide(CONFIGS["gpt2"], block_size=60), precision)
        if precision == "int8":  # what it was calibrated with is gone already
            assert made
            assert len(gone) == len(made)
        read_in_pieces(decoder, TEXT[:60], [5])
        reference = weakref.ref(decoder)
        del decoder
        assert reference() is None
        assert len(gone) == len(made)
    finally:
        gc.enable()
