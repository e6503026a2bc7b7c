"""Decoding computes what the model computes, and each row the same to the bit however it is read."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from drafted import torch_alone
from hypothesis import given, settings
from hypothesis import strategies as st
from test_model import CONFIGS, every_config, make
from torch.nn import functional as F

from engine.inference import decoder as decoder_module
from engine.inference.decoder import Decoder
from engine.inference.products import (
    Int8,
    Packed,
    Plain,
    Range,
    StaticInt8,
    gelu,
    has_static_int8,
    has_weight_only_int8,
    products,
    silu,
)

TORCH = ", torch alone"
WEIGHTS_ALONE = "int8 of weights alone"
PRECISIONS = ("fp32", "bf16", "int8", f"fp32{TORCH}", f"bf16{TORCH}", f"int8{TORCH}", WEIGHTS_ALONE)


class Owner:
    """Has a slot."""


PIECES = (
    [1] * 4 + [24] + ([1] * 8 + [24]) * 9,  # one by one about each multiple of 32, where kernels cut
    [2, 3, 2, 3, 22], [4, 4, 24], [5, 1, 8, 19], [13], [64, 7], [255, 1],
)  # fmt: skip
"""In what pieces a text of 300 tokens is read."""


def wide(config, **changes):
    """A configuration in float32 with sums long enough for kernels to cut them, and a block that reads what another
    wrote."""
    shape = {"n_embd": 256, "n_head": 4, "n_kv_head": 2 if config.family in ("qwen3", "llama") else 0, "n_layer": 2}
    return make(config.replace(**(shape | changes))).float()


def decoder_in(precision, model):
    """The decoder of a model, also as it is without a C compiler, and there in what int8 is where torch has no whole
    numbers on both sides.
    """
    if precision == WEIGHTS_ALONE:
        return Decoder(model, "int8", products("int8", torch.device("cpu"), torch.float32))
    if precision.endswith(TORCH):
        with torch_alone():
            return Decoder(model, precision.removesuffix(TORCH))
    decoder = Decoder(model, precision)
    if not decoder.is_native:
        pytest.skip("there is no C compiler here")
    return decoder


def slots_of(decoder, count=1):
    owners = [Owner() for _ in range(count)]
    return owners, [decoder.slots.take(owner, ()) for owner in owners]


def read_in_pieces(decoder, text, sizes):
    """The logits behind each token of a text that is read in pieces of these sizes, in turn."""
    owners, (slot,) = slots_of(decoder)
    rows, start, turn = [], 0, 0
    while start < len(text):
        size = sizes[turn % len(sizes)]
        rows.append(decoder.read([text[start : start + size]], [slot])[0])
        start, turn = start + size, turn + 1
    assert slot.held == text
    del owners
    return torch.cat(rows)


@every_config
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_decoding_gives_the_models_own_logits(config, data):
    model = make(config)
    decoder = Decoder(model)
    text = data.draw(st.lists(st.integers(0, config.vocab_size - 1), min_size=1, max_size=config.block_size))
    sizes = data.draw(st.lists(st.integers(1, len(text)), min_size=1, max_size=4))
    logits = read_in_pieces(decoder, text, sizes)
    assert (logits - model(torch.tensor([text]))[0]).abs().max() < 1e-4  # float32 logits of a float64 model


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", ["gpt2", "nanochat", "qwen3", "llama"])
def test_a_row_is_the_same_to_the_bit_in_whatever_pieces_its_text_is_read(family, precision):
    decoder = decoder_in(precision, wide(CONFIGS[family], block_size=300))
    if not decoder.rows_alike:
        pytest.skip("this build of torch has no packed products")
    text = torch.randint(CONFIGS[family].vocab_size, (300,), generator=torch.Generator().manual_seed(1)).tolist()
    whole = read_in_pieces(decoder, text, [300])
    for sizes in PIECES:
        assert torch.equal(read_in_pieces(decoder, text, sizes), whole), sizes


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", ["gpt2", "nanochat", "qwen3", "llama"])
def test_a_row_is_the_same_to_the_bit_whichever_texts_are_read_with_it(family, precision):
    decoder = decoder_in(precision, wide(CONFIGS[family], block_size=220))
    if not decoder.rows_alike:
        pytest.skip("this build of torch has no packed products")
    text = torch.randint(CONFIGS[family].vocab_size, (220,), generator=torch.Generator().manual_seed(1)).tolist()
    whole = read_in_pieces(decoder, text, [220])
    owners, slots = slots_of(decoder, 5)
    for slot, length in zip(slots, (3, 130, 180, 17, 64), strict=True):
        decoder.read([text[:length]], [slot], last=True)
    for rows in (1, 2, 4):
        for chosen in (slots, slots[1:3], slots[::-1], slots[::2]):
            places = [len(slot.held) for slot in chosen]
            logits = decoder.read([text[place : place + rows] for place in places], chosen)
            for found, place in zip(logits, places, strict=True):
                assert torch.equal(found, whole[place : place + rows])
    del owners


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("family", "size", "heads"), [("gpt2", 252, 6), ("nanochat", 280, 4), ("qwen3", 276, 6)])
def test_a_row_is_the_same_to_the_bit_where_threads_share_rows_of_odd_sizes(family, size, heads, precision):
    shape = {"n_embd": size, "n_head": heads, "n_kv_head": heads // 2 if family == "qwen3" else 0, "n_layer": 1}
    decoder = decoder_in(precision, make(CONFIGS[family].replace(block_size=300, **shape)).float())
    if not decoder.rows_alike:
        pytest.skip("this build of torch has no packed products")
    text = torch.randint(37, (300,), generator=torch.Generator().manual_seed(1)).tolist()
    decoder.threads = 3
    whole = read_in_pieces(decoder, text, [300])
    for sizes in ([5], [7, 1], [64]):
        assert torch.equal(read_in_pieces(decoder, text, sizes), whole), sizes


@pytest.mark.parametrize(("mine", "torchs"), [(gelu, partial(F.gelu, approximate="tanh")), (silu, F.silu)])
def test_activations_are_those_of_torch_and_alike_wherever_a_number_stands(mine, torchs):
    x = torch.randn(301, 333, generator=torch.Generator().manual_seed(1)) * 3
    x[0, :4] = torch.tensor([1e30, -1e30, 0.0, -90.0])
    whole = mine(x)
    assert torch.allclose(whole.double(), torchs(x.double()), rtol=1e-5, atol=1e-6)
    for count in (1, 3, 50):
        assert torch.equal(mine(x[:count].contiguous()), whole[:count])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_number_of_threads_changes_no_bit(precision):
    before, found = torch.get_num_threads(), []
    text = torch.randint(37, (100,), generator=torch.Generator().manual_seed(1)).tolist()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            model = wide(CONFIGS["nanochat"], block_size=100, n_layer=1)
            decoder = decoder_in(precision, model)  # which is calibrated anew
            found.append(read_in_pieces(decoder, text, [4]))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(each, found[0]) for each in found)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["gpt2", "nanochat", "qwen3", "llama"])
def test_a_stream_as_narrow_as_the_weights_as_gpus_have_it_is_near(family, dtype, monkeypatch):
    model = wide(CONFIGS[family], block_size=100)
    text = torch.randint(37, (60,), generator=torch.Generator().manual_seed(1)).tolist()
    expected = model(torch.tensor([text]))[0]
    monkeypatch.setattr(decoder_module, "stream_dtype", lambda device, of_weights: of_weights)
    monkeypatch.setattr(decoder_module, "products", lambda *_: Plain)
    with torch_alone():
        decoder = Decoder(model.to(dtype))
    assert not decoder.rows_alike
    logits = read_in_pieces(decoder, text, [7, 1])
    rounding = (model(torch.tensor([text]))[0] - expected).abs().max()  # the model's own, in these numbers
    assert rounding < 0.1 * expected.abs().max()
    assert (logits - expected).abs().max() < 2 * rounding


def test_what_does_not_fit_in_the_window_is_refused():
    decoder = Decoder(make(CONFIGS["nanochat"]))
    owners, slots = slots_of(decoder)
    with pytest.raises(ValueError, match="25 tokens do not fit in a window of 24"):
        decoder.read([[0] * 25], slots)
    del owners


HAS = {Packed: lambda: True, Int8: has_weight_only_int8, StaticInt8: has_static_int8}


@pytest.mark.parametrize("kind", HAS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_products_are_near_the_exact_ones_and_rows_do_not_touch_each_other(kind, data):
    if not HAS[kind]():
        pytest.skip("there are no such products here")
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    rows, outer = data.draw(st.integers(4, 40)), data.draw(st.integers(1, 70))
    inner = 32 * data.draw(st.integers(1, 9)) if kind is Int8 else data.draw(st.integers(1, 300))
    x = torch.randn(rows, inner, generator=generator) * data.draw(st.sampled_from([1e-3, 1.0, 1e3]))
    x[0] = 0.0
    weight, bias = torch.randn(outer, inner, generator=generator), torch.randn(outer, generator=generator)
    given = data.draw(st.sampled_from([None, bias]))
    inputs = Range(min(0.0, float(x.min())), max(0.0, float(x.max())))
    product = kind(weight, given, inputs) if kind is StaticInt8 else kind(weight, given)
    exact = x.double() @ weight.double().T + (0 if given is None else given.double())
    near = (2e-2 if kind is Int8 else 1e-5) * (x.norm(dim=1)[:, None] * weight.norm(dim=1)).double() + 1e-6
    if kind is Int8 and given is not None:  # in bfloat16, as the answer is
        near = near + bias.abs() * 1e-2
    if kind is StaticInt8:  # each number is off by half a step at most
        of_x, of_weight = (inputs.high - inputs.low) / 255 / 2, weight.abs().amax(dim=1) / 127 / 2
        near = near + of_x * weight.abs().sum(dim=1) + of_weight * (x.abs() + of_x).sum(dim=1, keepdim=True)
    answer = product(x)
    assert ((answer.double() - exact).abs() <= near).all()
    for first in range(0, rows - 3, 3):
        assert torch.equal(product(x[first : first + 4].contiguous()), answer[first : first + 4])
    stream = torch.randn(rows, outer, generator=generator)
    assert torch.allclose(
        product.add(x, stream.clone()), stream + answer, rtol=1e-5, atol=1e-5 * float(near.max()) + 1e-6
    )
    assert torch.equal(product(x, "relu"), answer.relu())
