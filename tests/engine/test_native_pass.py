"""A pass in C computes what the model computes, for models of any shape and on processors with fewer instructions, and
is told what moved in between. That rows are alike is in `test_decoder.py`.
"""

from __future__ import annotations

import copy
import gc
import math
import platform
import shlex
import subprocess
import threading
import weakref
from pathlib import Path

import pytest
import torch
from test_decoder import read_in_pieces, slots_of
from test_model import CONFIGS, every_config, make

from engine.inference.decoder import Decoder
from engine.inference.native import building, weights
from engine.inference.slots import zeros

FAR = {"fp32": 1e-5, "bf16": 1.2e-2, "int8": 4e-2}
"""How far logits may be from the exact ones, of their size; tiny models have short sums, whose errors cancel little."""

every_precision = pytest.mark.parametrize("precision", FAR)


@pytest.fixture(autouse=True)
def native():
    if building.find().library is None:
        pytest.skip("there is no C compiler here")


def in_float32(config, seed=1):
    return make(config, seed=seed).float()


def some_text(config, length=0, seed=0):
    length = length or config.block_size
    return torch.randint(config.vocab_size, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def exact_logits(model, text):
    with torch.no_grad():
        return copy.deepcopy(model).double()(torch.tensor([text]))[0]


def native_decoder(model, precision="fp32"):
    decoder = Decoder(model, precision)
    assert decoder.is_native
    return decoder


def read_all(decoder, text):
    return read_in_pieces(decoder, text, [len(text)])


def distance(logits, exact):
    """The root of the mean square of the errors, by that of the logits."""
    return float((logits - exact).square().mean().sqrt() / exact.square().mean().sqrt())


@every_precision
@every_config
def test_logits_are_those_of_the_model_in_doubles(config, precision):
    model, text = in_float32(config), some_text(config)
    logits = read_in_pieces(native_decoder(model, precision), text, [5, 1])
    assert distance(logits, exact_logits(model, text)) < FAR[precision]


ODD = {
    "a stream of 252": CONFIGS["gpt2"].replace(n_embd=252, n_head=6),
    "heads of 21": CONFIGS["gpt2"].replace(n_embd=63, n_head=3),
    "heads of 2": CONFIGS["nanochat"].replace(n_embd=34, n_head=17),
    "heads of 66 in groups of 3": CONFIGS["qwen3"].replace(head_dim=66, n_head=6),
    "an MLP of 1": CONFIGS["gpt2-plain"].replace(n_inner=1),
    "a gated MLP of 77": CONFIGS["llama"].replace(n_inner=77),
    "one token": CONFIGS["gpt2"].replace(vocab_size=1),
    "more tokens than are looked up": CONFIGS["qwen3"].replace(vocab_size=1025),
    "a window of 2": CONFIGS["llama"].replace(block_size=2),
    "one block": CONFIGS["nanochat"].replace(n_layer=1),
}


@every_precision
@pytest.mark.parametrize("config", ODD.values(), ids=ODD.keys())
def test_any_shape_will_do(config, precision):
    model, text = in_float32(config), some_text(config)
    logits = read_in_pieces(native_decoder(model, precision), text, [3, 1])
    assert logits.shape == (config.block_size, config.vocab_size)
    assert distance(logits, exact_logits(model, text)) < FAR[precision] * 1.5


def test_weights_in_bfloat16_are_read_as_they_are():
    model = make(CONFIGS["gpt2"]).bfloat16()
    text = some_text(model.config)
    exact = exact_logits(model, text)
    assert distance(read_all(native_decoder(model), text), exact) < FAR["bf16"]
    assert distance(read_all(native_decoder(model, "fp32"), text), exact) < FAR["fp32"]


@every_precision
def test_texts_may_go_on_with_different_numbers_of_tokens(precision):
    config = CONFIGS["qwen3"]
    decoder = native_decoder(in_float32(config), precision)
    texts = [some_text(config, seed=seed) for seed in range(4)]
    alone = [read_all(decoder, text) for text in texts]
    owners, slots = slots_of(decoder, 4)
    for lengths in ((1, 5, 3, 9), (7, 1, 1, 2)):
        starts = [len(slot.held) for slot in slots]
        rows = [text[start : start + length] for text, start, length in zip(texts, starts, lengths, strict=True)]
        logits = decoder.read(rows, slots)
        assert logits.shape == (4, max(lengths), config.vocab_size)
        for text, start, length in zip(range(4), starts, lengths, strict=True):
            assert torch.equal(logits[text, :length], alone[text][start : start + length])
    del owners


@every_precision
def test_many_texts_of_any_length_are_each_what_they_are_alone(precision):
    config = CONFIGS["qwen3"].replace(n_layer=2, block_size=150)
    decoder = native_decoder(in_float32(config), precision)
    texts = [some_text(config, seed=seed) for seed in range(21)]
    alone = [read_all(decoder, text) for text in texts]
    owners, slots = slots_of(decoder, len(texts))
    held = [(37 * number) % 140 for number in range(len(texts))]
    for slot, text, length in zip(slots, texts, held, strict=True):
        slot.keep([])
        if length:
            decoder.read([text[:length]], [slot])
    order = [(8 * number) % len(texts) for number in range(len(texts))]  # what is read next may lie on either side
    for decoder.threads in (1, 2, 5):
        for most in (1, 3, 10):
            rows = [texts[text][held[text] :][: 1 + text % most] for text in order]
            logits = decoder.read(rows, [slots[text] for text in order])
            for found, row, text in zip(logits, rows, order, strict=True):
                assert torch.equal(found[: len(row)], alone[text][held[text] :][: len(row)])
                del slots[text].held[held[text] :]
    del owners


@every_precision
def test_the_last_rows_alone_are_what_they_are_among_all(precision):
    config = CONFIGS["nanochat"].replace(block_size=600)
    decoder = native_decoder(in_float32(config), precision)
    texts = [some_text(config, 590, seed) for seed in range(2)]  # more than is read in a pass, of the first of which
    whole = [read_all(decoder, text) for text in texts]  # nothing is answered
    owners, slots = slots_of(decoder, 2)
    for text, slot, all_of_it in zip(texts, slots, whole, strict=True):
        assert torch.equal(decoder.read([text], [slot], last=True), all_of_it[None, -1:])
    for slot in slots:
        slot.keep([])
    logits = decoder.read([text[:7] for text in texts], slots, last=True)
    assert torch.equal(logits, torch.stack([all_of_it[6:7] for all_of_it in whole]))
    del owners


@every_precision
def test_of_each_text_as_many_rows_are_answered_as_are_wanted(precision):
    config = CONFIGS["llama"]
    decoder = native_decoder(in_float32(config), precision)
    texts = [some_text(config, seed=seed) for seed in range(5)]
    whole = [read_all(decoder, text) for text in texts]
    owners, slots = slots_of(decoder, 5)
    decoder.read([text[:4] for text in texts[:3]], slots[:3])
    lengths, wanted = (2, 1, 4, 12, 9), (2, 1, 3, 1, 0)  # guesses, a token, a few; a prompt's end; a piece of one
    starts = [len(slot.held) for slot in slots]
    rows = [text[start : start + length] for text, start, length in zip(texts, starts, lengths, strict=True)]
    logits = decoder.read_once(rows, slots, wanted)
    assert logits.shape == (5, 3, config.vocab_size)
    for text, (start, length, count) in enumerate(zip(starts, lengths, wanted, strict=True)):
        end = start + length
        assert torch.equal(logits[text, :count], whole[text][end - count : end])
    assert torch.equal(decoder.read([texts[4][9:11]], slots[4:])[0], whole[4][9:11])
    del owners


@every_precision
def test_texts_go_on_where_others_made_the_room_for_them_move(precision):
    config = CONFIGS["llama"]
    decoder = native_decoder(in_float32(config), precision)
    texts = [some_text(config, seed=seed) for seed in range(9)]
    whole = [read_all(decoder, text) for text in texts]
    owners, slots, places = [], [], []
    for text in texts:  # with the second, third, fifth and ninth there are more slots, elsewhere
        owner, taken = slots_of(decoder)
        owners += owner
        slots += taken
        places.append(len(decoder.slots))
        taken[0].keep([])
        decoder.read([text[:2]], taken)
        for slot, of_slot, all_of_it in zip(slots, texts, whole, strict=False):
            start = len(slot.held)
            assert torch.equal(decoder.read([of_slot[start : start + 1]], [slot])[0], all_of_it[start : start + 1])
    assert len(set(places)) > 2
    del owners


BROKEN = {
    "the embedding": ("gpt2-erf", lambda model: model.embedding.weight[5:6, 3], slice(None)),
    "the positions": ("gpt2", lambda model: model.positions.weight[0:1, 3], slice(None)),
    "a norm's weight": ("gpt2", lambda model: model.blocks[1].mlp_norm.weight[3:4], slice(None)),
    "a norm's bias": ("gpt2", lambda model: model.final_norm.bias[3:4], slice(None)),
    "a norm that is folded in": ("llama", lambda model: model.blocks[2].attention_norm.weight[3:4], slice(None)),
    "a norm of heads": ("qwen3", lambda model: model.blocks[1].attention.key_norm.weight[3:4], slice(None)),
    "keys": ("nanochat", lambda model: model.blocks[0].attention.key.weight[7:8, 3], slice(None)),
    "values": ("llama", lambda model: model.blocks[2].attention.value.weight[7:8, 3], slice(None)),
    "a gate": ("llama", lambda model: model.blocks[1].mlp.gate.weight[7:8, 3], slice(None)),
    "what is behind relu2": ("nanochat", lambda model: model.blocks[2].mlp.up.weight[7:8, 3], slice(None)),
    "a bias": ("gpt2", lambda model: model.blocks[2].mlp.down.bias[3:4], slice(None)),
    "the head": ("nanochat-cap", lambda model: model.head.weight[3:4, 7], slice(3, 4)),
}


@every_precision
@pytest.mark.parametrize("part", BROKEN)
def test_what_is_no_number_in_the_weights_is_none_in_the_logits(part, precision):
    family, number, where = BROKEN[part]
    model = in_float32(CONFIGS[family].replace(tie_head=False))
    with torch.no_grad():
        number(model).fill_(math.nan)
    logits = read_all(native_decoder(model, precision), [5, 1, 2])
    assert logits[:, where].isnan().all()
    others = torch.ones(logits.shape[1], dtype=torch.bool)
    others[where] = False
    assert logits[:, others].isfinite().all()


@every_precision
@pytest.mark.parametrize("family", ["gpt2", "nanochat", "qwen3", "llama"])
def test_weights_of_zero_give_logits_of_zero(family, precision):
    model = in_float32(CONFIGS[family].replace(tie_head=False))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert (read_all(native_decoder(model, precision), some_text(model.config)) == 0).all()


@every_precision
@pytest.mark.parametrize(("family", "most"), [("gpt2", 1e12), ("gpt2-erf", 1e12), ("nanochat", 1e4), ("llama", 1e12)])
@pytest.mark.parametrize("is_huge", [False, True])
def test_numbers_may_be_huge_or_tiny(family, most, is_huge, precision):
    size = most if is_huge else 1 / most  # relu2 and the norm behind it take them to the fourth power
    config = CONFIGS[family].replace(tie_head=False)
    model, text = in_float32(config), some_text(config)
    with torch.no_grad():
        for block in model.blocks:
            block.mlp.up.weight.mul_(size)
            block.attention.value.weight.mul_(size)
        model.head.weight.mul_(size)
    exact = exact_logits(model, text)
    logits = read_all(native_decoder(model, precision), text).double()
    assert distance(logits, exact) < FAR[precision] * 2


@every_precision
@pytest.mark.parametrize("family", ["gpt2", "nanochat", "qwen3"])
def test_a_guess_that_is_no_number_spoils_no_row_before_it(family, precision):
    model = in_float32(CONFIGS[family].replace(tie_head=False))
    with torch.no_grad():
        model.embedding.weight[30] = float("nan")
    decoder = native_decoder(model, precision)
    alone = read_all(decoder, [4, 5])
    with_guess = read_all(decoder, [4, 5, 30, 6])
    assert torch.equal(with_guess[:2], alone)
    assert with_guess[2:].isnan().all()


@pytest.mark.parametrize("layer", [0, 1])
def test_texts_go_on_after_there_was_no_memory_for_another_one(layer, monkeypatch):
    config = CONFIGS["nanochat"].replace(n_layer=2)
    model, text = in_float32(config), some_text(config)
    decoder = native_decoder(model)
    whole, made = read_all(decoder, text), []
    owners, (slot,) = slots_of(decoder)
    decoder.read([text[:9]], [slot])

    def failing(*arguments):
        made.append(arguments)
        if len(made) == layer + 1:
            raise MemoryError("no room")
        return zeros(*arguments)

    monkeypatch.setattr("engine.inference.slots.zeros", failing)
    with pytest.raises(MemoryError):
        slots_of(decoder)
    assert torch.equal(decoder.read([text[9:12]], [slot])[0], whole[9:12])
    others, (second,) = slots_of(decoder)
    decoder.read([text[:12]], [second])
    both = decoder.read([text[12:15], text[12:15]], [slot, second])
    assert torch.equal(both, whole[12:15].expand(2, -1, -1))
    del owners, others


def test_int8_becomes_bf16_where_sums_might_not_fit(monkeypatch):
    model = in_float32(CONFIGS["gpt2"])
    text = some_text(model.config)
    bf16, int8 = (read_all(native_decoder(model, precision), text) for precision in ("bf16", "int8"))
    monkeypatch.setattr(weights, "MOST_COLUMNS", 32)  # of the MLP's 128
    mixed = read_all(native_decoder(model, "int8"), text)
    assert not torch.equal(mixed, int8)
    assert not torch.equal(mixed, bf16)
    monkeypatch.setattr(weights, "MOST_COLUMNS", 31)
    assert torch.equal(read_all(native_decoder(model, "int8"), text), bf16)


def test_the_longest_sums_of_int8_fit():
    model = in_float32(CONFIGS["gpt2-plain"].replace(n_layer=1, n_head=1, n_embd=2, n_inner=weights.MOST_COLUMNS))
    mlp = model.blocks[0].mlp
    with torch.no_grad():
        for parameter, number in ((mlp.up.weight, 0.0), (mlp.up.bias, 1.0), (mlp.down.weight, 1.0)):
            if parameter is not None:
                parameter.fill_(number)
        if mlp.up.bias is None:
            mlp.up.weight[:] = torch.tensor([1.0, -1.0])  # one row in two is above zero in all its numbers
        mlp.down.weight[1] = -1.0  # as large, below zero
    text = some_text(model.config)
    exact = exact_logits(model, text)
    assert distance(read_all(native_decoder(model, "int8"), text), exact) < FAR["int8"]


@every_precision
def test_any_number_of_threads_gives_the_same_bits_one_after_the_other(precision):
    config = CONFIGS["nanochat"].replace(n_embd=64, n_head=16, block_size=64)
    text = some_text(config)
    decoders = [native_decoder(in_float32(config), precision) for _ in range(4)]
    for decoder, threads in zip(decoders, (1, 2, 5, 100), strict=True):
        decoder.threads = threads
    whole = read_all(decoders[0], text)
    for _ in range(20):  # a thread that is late for its pass finds the next one, which may have fewer
        for decoder in decoders[::-1]:
            assert torch.equal(read_all(decoder, text), whole)


def test_two_threads_may_read_with_two_models_at_once():
    configs = [CONFIGS["qwen3"].replace(n_embd=64), CONFIGS["gpt2"]]
    decoders = [native_decoder(in_float32(config), "bf16") for config in configs]
    texts = [some_text(config) for config in configs]
    whole = [read_all(decoder, text) for decoder, text in zip(decoders, texts, strict=True)]
    wrong, begin = [], threading.Barrier(2)

    def read(number):
        decoder = decoders[number]
        decoder.threads = 2 + number
        begin.wait()
        for _ in range(50):
            if not torch.equal(read_in_pieces(decoder, texts[number], [5]), whole[number]):
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_weights_go_with_the_last_who_uses_them():
    decoder = native_decoder(in_float32(CONFIGS["llama"]), "int8")
    read_all(decoder, some_text(decoder.config))
    used, kept = decoder.read, weakref.ref(decoder)
    gc.collect()
    gc.disable()
    try:
        del decoder
        owner, slots = slots_of(kept())
        assert used([[1, 2]], slots).isfinite().all()
        del used, owner, slots
        assert kept() is None
    finally:
        gc.enable()


INSTRUCTIONS = {
    "x86-64": ((), ("-march=x86-64",)),
    "x86-64-v3": (("avx2", "fma", "bmi2", "f16c"), ("-march=x86-64-v3",)),
    "x86-64-v3 with avx_vnni": (("avx2", "fma", "bmi2", "f16c", "avx_vnni"), ("-march=x86-64-v3", "-mavxvnni")),
}
"""What most processors have: the words of Linux for it, and the compiler's."""


@pytest.fixture(scope="module")
def with_instructions(tmp_path_factory):
    """The library for other processors, each built once; less thoroughly, as that is quick."""
    libraries, folder = {}, tmp_path_factory.mktemp("libraries")

    def build(name):
        wanted, flags = INSTRUCTIONS[name]
        if platform.system() != "Linux" or platform.machine() != "x86_64":
            pytest.skip("this is no x86-64 with Linux")
        missing = set(wanted) - set(Path("/proc/cpuinfo").read_text().partition("\n\n")[0].split())
        if missing:
            pytest.skip(f"this processor has no {', '.join(sorted(missing))}")
        if name not in libraries:
            file = folder / f"{len(libraries)}.so"
            usual = [flag for flag in building.FLAGS if flag != "-O3"]
            command = [*building.find_compiler(), *usual, "-O1", *flags, "-o", str(file), str(building.SOURCE), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr}"
            libraries[name] = building.load(file)
        return libraries[name]

    return build


@every_precision
@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_it_is_the_same_with_fewer_instructions(name, precision, with_instructions, monkeypatch):
    library = with_instructions(name)
    assert library.works() == 1
    assert (library.lanes(), library.built_for()) == {
        "x86-64": (4, 0),
        "x86-64-v3": (8, 0),
        "x86-64-v3 with avx_vnni": (8, 2),
    }[name]
    monkeypatch.setattr(building, "find", lambda: building.Native(library, name, "built here"))
    shape = {"n_embd": 60, "block_size": 150, "n_layer": 2}
    for config in (CONFIGS["gpt2"].replace(n_head=6, **shape), CONFIGS["qwen3"].replace(n_head=6, **shape)):
        model, text = in_float32(config), some_text(config, 140)
        decoder = native_decoder(model, precision)
        decoder.threads = 2
        whole = read_all(decoder, text)
        assert distance(whole, exact_logits(model, text)) < FAR[precision]
        for sizes in ([1], [3, 7, 2], [16, 5]):
            assert torch.equal(read_in_pieces(decoder, text, sizes), whole)
        owners, slots = slots_of(decoder, 3)
        for slot, length in zip(slots, (3, 100, 37), strict=True):
            slot.keep([])
            decoder.read([text[:length]], [slot])
        places = [len(slot.held) for slot in slots]
        for found, place in zip(
            decoder.read([text[place : place + 5] for place in places], slots), places, strict=True
        ):
            assert torch.equal(found, whole[place : place + 5])
        del owners
