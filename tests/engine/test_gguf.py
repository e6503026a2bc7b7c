"""A GGUF file holds the model that it was made of: llama.cpp reads a text as we do, and writes what we write. What it
cannot run is refused with the reason, and a file appears whole or not at all.
"""

from __future__ import annotations

import random
import sys

import gguf
import numpy as np
import pytest
import tokenizers
import torch
from test_model import CONFIGS, SHAPE, make
from tiny_models import TINY_TEXT, make_tiny
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from engine.checkpoints import load_model
from engine.config import ModelConfig, SamplingParams
from engine.errors import CheckpointError, InvalidSettingError, TokenizerError
from engine.formats.gguf_file import export_gguf, to_gguf_weights, write_gguf
from engine.formats.gguf_tokenizer import LLAMA3_WORDS, QWEN2_WORDS, to_vocabulary
from engine.inference.generator import Generation
from engine.text.tokenizers import END_OF_TEXT, Tokenizer, train_tokenizer

RUNNABLE = {
    "gpt2": CONFIGS["gpt2"],
    "gpt2-sinusoidal": ModelConfig(family="gpt2", positions="sinusoidal", n_inner=96, **SHAPE),
    "gpt2-erf": CONFIGS["gpt2-erf"],
    "qwen3": CONFIGS["qwen3"],
    "qwen3-tied": CONFIGS["qwen3-tied"],
    "llama": CONFIGS["llama"],
    "llama-slowed": CONFIGS["llama-slowed"],
}
runnable = pytest.mark.parametrize("config", RUNNABLE.values(), ids=RUNNABLE.keys())
CHARACTERS = train_tokenizer("char", ["".join(chr(ord("A") + i) for i in range(36))])

ODD_TEXT = (
    "Naïve café “quoted” — 東京 🙂👩‍👩‍👧 \u00a0\u2003x\u0085\x1c\x00\t\r\n  two  spaces \n\n\n it's I'LL they've"
    f" 'Re 12 ٣४ ½ Ⅷ e\u0301 's't {END_OF_TEXT} <|im_end|>\n"
)
TEXTS = [TINY_TEXT, ODD_TEXT, ODD_TEXT * 3, "", "\n", " ", "é", "京", "🙂🙂", "zzz ÿ \x7f"]


@pytest.fixture
def llama():
    """Open a GGUF file with llama.cpp."""
    llama_cpp = pytest.importorskip("llama_cpp")
    opened = []

    def open_(path, **options):
        whole = {"type_k": 0, "type_v": 0}  # a cache in float32
        opened.append(llama_cpp.Llama(str(path), n_ctx=0, n_threads=1, verbose=False, **whole, **options))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


def write(path, tokenizer, config=None, dtype="fp32", **options):
    config = config or ModelConfig(**{**SHAPE, "family": "gpt2", "n_layer": 1, "vocab_size": tokenizer.vocab_size})
    model = make(config, torch.float32)
    write_gguf(path, model, tokenizer, dtype, "test", **options)
    return model


def tensors(path):
    return {each.name: each for each in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize(("family", "tokenizer"), [("gpt2", "bpe"), ("qwen3", "char"), ("llama", "bpe")])
def test_llama_cpp_writes_the_same_text_greedily(llama, tmp_path, family, tokenizer):
    name = f"{family}-{tokenizer}"
    make_tiny(name, family, tokenizer, steps=50, block_size=256, batch_size=3)
    export_gguf(name, tmp_path / "model.gguf")
    model, theirs = load_model(name, "cpu", "fp32"), llama(tmp_path / "model.gguf")
    prompt = "The fox went"
    ids = model.tokenizer.encode(prompt)
    params = SamplingParams(temperature=0.0, max_new_tokens=200, seed=1)
    written = list(Generation(model, ids, params))
    assert len(written) == 200
    assert [token for token, _ in zip(theirs.generate(ids, temp=0.0), written, strict=False)] == [
        token.token for token in written
    ]
    answer = theirs.create_completion(prompt, max_tokens=200, temperature=0.0)
    assert answer["choices"][0]["text"] == "".join(token.text for token in written)


@runnable
def test_llama_cpp_computes_the_same_logits(llama, tmp_path, config):
    model = write(tmp_path / "model.gguf", CHARACTERS, config)
    theirs = llama(tmp_path / "model.gguf", logits_all=True)
    ids = torch.arange(config.block_size) * 7 % config.vocab_size
    theirs.eval(ids.tolist())
    logits = theirs.scores[: config.block_size, : config.vocab_size]
    with torch.no_grad():
        difference = np.abs(logits - model(ids[None])[0].numpy()).max()
    # llama.cpp takes its GELU from a table in half precision
    assert difference < (1e-2 if config.family == "gpt2" else 1e-4)


@pytest.mark.parametrize("family", ["gpt2", "qwen3", "llama"])
@pytest.mark.parametrize("dtype", ["fp16", "bf16", "q8_0"])
def test_llama_cpp_runs_every_precision(llama, tmp_path, family, dtype):
    model = write(tmp_path / "model.gguf", CHARACTERS, CONFIGS[family], dtype)
    theirs = llama(tmp_path / "model.gguf", logits_all=True)
    ids = list(range(10))
    theirs.eval(ids)
    with torch.no_grad():
        ours = model(torch.tensor([ids]))[0].numpy()
    assert np.corrcoef(theirs.scores[: len(ids)].ravel(), ours.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_llama_cpp_reads_a_text_as_we_do(llama, tmp_path, kind):
    tokenizer = train_tokenizer(kind, [TINY_TEXT + ODD_TEXT * 20], 500)
    write(tmp_path / "model.gguf", tokenizer)
    theirs = llama(tmp_path / "model.gguf")
    draw = random.Random(1)
    texts = TEXTS + ["".join(draw.choices(ODD_TEXT, k=60)) for _ in range(200)]
    for text in texts:
        ids = tokenizer.encode_prompt(text)[0]  # without what it does not know
        assert theirs.tokenize(text.encode(), add_bos=True, special=False) == ids, text
        assert theirs.detokenize(ids).decode("utf-8", "replace") == tokenizer.decode(ids)


@pytest.mark.parametrize("alphabet", ["abc \n", "京都a", "é", "\u2003\u2004\u2005 x"])
def test_llama_cpp_leaves_out_characters_that_are_unknown_as_we_do(llama, tmp_path, alphabet):
    """Also those that begin with the same bytes as one that is known."""
    tokenizer = train_tokenizer("char", [alphabet])
    write(tmp_path / "model.gguf", tokenizer)
    theirs = llama(tmp_path / "model.gguf")
    for text in [*TEXTS, "京亰亭都", "\u2003\u2006\u2005", "éèé"]:
        assert theirs.tokenize(text.encode(), add_bos=True, special=False) == tokenizer.encode_prompt(text)[0], text


def foreign(*, words=None, normalizer=None, added=(), begin=None, **options):
    """A byte-level tokenizer as it comes from elsewhere: bytes, merges of `a` and of a space with each, and its way of
    cutting a text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(first, letter) for first in "aĠ" for letter in letters]
    vocabulary = {token: id for id, token in enumerate([*letters, *("".join(pair) for pair in merges)])}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, **options))
    backend.pre_tokenizer = words or pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if normalizer:
        backend.normalizer = normalizer
    backend.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    backend.add_tokens(list(added))
    if begin:
        backend.add_special_tokens([AddedToken(begin, special=True, normalized=False)])
        named = [(begin, backend.token_to_id(begin))]
        backend.post_processor = processors.TemplateProcessing(f"{begin} $A", special_tokens=named)
    return Tokenizer(backend, backend.token_to_id(END_OF_TEXT))


def characters_beside(added):
    backend = tokenizers.Tokenizer(models.BPE(vocab={"é": 0}, merges=[]))
    backend.add_special_tokens([AddedToken(END_OF_TEXT, special=True)])
    backend.add_tokens([AddedToken(added, special=False)])
    return Tokenizer(backend, 1)


def words_by(pattern):
    split = pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def smollms_words():
    digits = pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])


FOREIGN = {
    "gpt2": lambda: {},
    "qwen": lambda: {"words": words_by(QWEN2_WORDS)},
    "llama3": lambda: {"words": words_by(LLAMA3_WORDS), "ignore_merges": True, "begin": "<|begin_of_text|>"},
    "smollm": lambda: {"words": smollms_words()},
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_llama_cpp_cuts_words_as_foreign_tokenizers_do(llama, tmp_path, make):
    added = [AddedToken("<think>", special=False, normalized=False)]
    tokenizer = foreign(**make(), added=added)
    write(tmp_path / "model.gguf", tokenizer)
    theirs = llama(tmp_path / "model.gguf")
    draw = random.Random(2)
    texts = [*TEXTS, "a<think>a", *("".join(draw.choices("aa  1'\n" + ODD_TEXT, k=60)) for _ in range(200))]
    for text in texts:
        assert theirs.tokenize(text.encode(), add_bos=True, special=False) == tokenizer.encode_prompt(text)[0], text
    assert theirs.token_bos() == tokenizer.bos_id
    assert theirs.token_eos() == tokenizer.eot_id


def test_a_normalizer_that_llama_cpp_lacks_is_told():
    composing = to_vocabulary(foreign(normalizer=normalizers.NFC()), 1000)
    assert "NFC" in composing.remark
    assert not to_vocabulary(foreign(), 1000).remark


def test_a_gelu_that_llama_cpp_lacks_is_told(tmp_path):
    for name in ("gpt2", "gpt2-erf"):
        remark = write_gguf(tmp_path / name, make(CONFIGS[name], torch.float32), CHARACTERS, "fp32", "test").remark
        assert ("tanh" in remark) == (name == "gpt2-erf")


@pytest.mark.parametrize(
    ("tokenizer", "reason"),
    [
        (lambda: foreign(normalizer=normalizers.Lowercase()), "Lowercase"),
        (lambda: foreign(words=pre_tokenizers.ByteLevel(add_prefix_space=True)), "cut"),
        (lambda: foreign(words=pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)), "cut"),
        (lambda: foreign(words=pre_tokenizers.Whitespace()), "cut"),
        (lambda: foreign(ignore_merges=True), "takes whole words"),
        (lambda: foreign(words=words_by(LLAMA3_WORDS)), "does not take whole words"),
        (lambda: foreign(words=words_by(r"\p{N}| ?\p{L}+")), "cut"),
        (lambda: foreign(added=[AddedToken("<x>", lstrip=True, special=False)]), "<x>"),
        (lambda: characters_beside("Ã©"), "spelled"),  # which is how é is spelled
    ],
)
def test_a_tokenizer_that_llama_cpp_would_read_differently_is_refused(tokenizer, reason):
    with pytest.raises(TokenizerError, match=reason) as caught:
        to_vocabulary(tokenizer(), 1000)
    assert caught.value.hint


def test_rows_beyond_the_tokenizer_are_unused_tokens():
    vocabulary = to_vocabulary(CHARACTERS, 40)
    assert len(vocabulary.tokens) == len(set(vocabulary.tokens)) == len(vocabulary.kinds) == 40
    assert vocabulary.kinds == [1] * 36 + [3] + [5] * 3
    assert vocabulary.tokens[vocabulary.eot_id] == END_OF_TEXT


@runnable
def test_the_file_says_what_the_model_is(tmp_path, config):
    write(tmp_path / "model.gguf", CHARACTERS, config)
    fields = {name: field.contents() for name, field in gguf.GGUFReader(tmp_path / "model.gguf").fields.items()}
    family = fields["general.architecture"]
    assert (family, fields["general.name"]) == (config.family, "test")
    assert fields[f"{family}.context_length"] == config.block_size
    assert fields[f"{family}.feed_forward_length"] == config.inner_size
    assert fields["tokenizer.ggml.bos_token_id"] == fields["tokenizer.ggml.eos_token_id"] == CHARACTERS.eot_id
    assert not fields["tokenizer.ggml.add_bos_token"]


@runnable
@pytest.mark.parametrize(("dtype", "kind"), [("fp32", "F32"), ("fp16", "F16"), ("bf16", "BF16"), ("q8_0", "Q8_0")])
def test_matrices_are_stored_as_asked_and_all_else_in_float32(tmp_path, config, dtype, kind):
    model = write(tmp_path / "model.gguf", CHARACTERS, config, dtype)
    stored, ours = tensors(tmp_path / "model.gguf"), dict(to_gguf_weights(model))
    assert stored.keys() == ours.keys()
    for name, tensor in ours.items():
        is_whole = tensor.ndim == 1 or name == "position_embd.weight"
        assert stored[name].tensor_type.name == ("F32" if is_whole else kind)
        values = gguf.quants.dequantize(stored[name].data, stored[name].tensor_type)
        assert values.shape == tensor.shape
        allowed = {"F32": 0.0, "F16": 1e-3, "BF16": 1e-2, "Q8_0": 1e-2}[stored[name].tensor_type.name]
        assert np.abs(values - tensor.numpy()).max() <= allowed * tensor.abs().max().item()


@pytest.mark.parametrize(
    ("config", "dtype", "reason"),
    [
        (CONFIGS["nanochat"], "fp32", "nanochat"),
        (CONFIGS["gpt2-plain"], "fp32", "relu"),
        (ModelConfig(**{**SHAPE, "family": "gpt2", "n_embd": 40}), "q8_0", "32 numbers"),
        (ModelConfig(**{**SHAPE, "family": "qwen3", "n_inner": 100}), "q8_0", "ffn_down"),
    ],
)
def test_what_llama_cpp_cannot_run_is_refused_with_the_reason(tmp_path, config, dtype, reason):
    with pytest.raises(CheckpointError, match=reason) as caught:
        write(tmp_path / "model.gguf", CHARACTERS, config, dtype)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_weight_too_large_for_half_precision_is_refused(tmp_path):
    model = make(CONFIGS["gpt2"], torch.float32)
    with torch.no_grad():
        model.blocks[1].mlp.up.weight[3, 4] = 1e6
    with pytest.raises(CheckpointError, match=r"blk\.1\.ffn_up"):
        write_gguf(tmp_path / "model.gguf", model, CHARACTERS, "fp16", "test")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_stays_unless_it_is_gguf_and_may_be_replaced(tmp_path):
    path = tmp_path / "model.gguf"
    write(path, CHARACTERS)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="exists already"):
        write(path, CHARACTERS)
    assert path.read_bytes() == before
    write(path, CHARACTERS, dtype="fp16", replace=True)
    assert len(path.read_bytes()) < len(before)
    path.write_text("precious")
    with pytest.raises(CheckpointError, match="no GGUF file"):
        write(path, CHARACTERS, replace=True)
    assert path.read_text() == "precious"
    with pytest.raises(CheckpointError, match="no GGUF file"):
        write(tmp_path, CHARACTERS, replace=True)


def test_a_file_whose_writing_fails_half_way_is_not_there(tmp_path, monkeypatch):
    path = tmp_path / "model.gguf"
    write(path, CHARACTERS)
    before = path.read_bytes()

    def full(self, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(CheckpointError, match="No space left"):
        write(path, CHARACTERS, replace=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.posix
def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    write(tmp_path / "model.gguf", CHARACTERS)
    (tmp_path / "link").symlink_to(tmp_path / "model.gguf")
    write(tmp_path / "link", CHARACTERS, dtype="fp16", replace=True)
    assert (tmp_path / "link").is_symlink()
    assert tensors(tmp_path / "model.gguf")["token_embd.weight"].tensor_type.name == "F16"


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(InvalidSettingError, match=r"minigpt-tui\[gguf\]"):
        write(tmp_path / "model.gguf", CHARACTERS)
    assert list(tmp_path.iterdir()) == []
