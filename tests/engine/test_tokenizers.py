"""Tokenizers: every text comes back to the letter, here and in the libraries that others open our files with."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, models, normalizers, pre_tokenizers

from engine.errors import TokenizerError
from engine.text import tokenizers as ours
from engine.text.tokenizers import END_OF_TEXT, Tokenizer, train_tokenizer

DEVANAGARI = "क्षत्रिय हिन्दी में"
EMOJI = "👩🏽‍🚀👨‍👩‍👧‍👦 🏳️‍🌈"
SPACES = "  two  and\u00a0more \t tab\n\n\nlines\r\nend  "
ALPHABET = "".join(sorted(set(SPACES + DEVANAGARI + EMOJI + "e\u0301é\u2028\x0b<|endoftext|>ﷺ\ufeff")))
ENGLISH = "The fox had said to the river: and what will you carry for me? The river said nothing.\n\n" * 20

over_alphabet = st.text(st.sampled_from(ALPHABET), max_size=40)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def char() -> Tokenizer:
    return train_tokenizer("char", [ALPHABET])


@pytest.fixture(scope="module")
def byte() -> Tokenizer:
    return train_tokenizer("byte", [])


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_tokenizer("bpe", [ENGLISH, DEVANAGARI], 300)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, char, byte, bpe):
    """Each tokenizer's folder, ours reopened, the library's and transformers'."""
    from transformers import AutoTokenizer

    opened = {}
    for tokenizer in (char, byte, bpe):
        folder = tmp_path_factory.mktemp(tokenizer.kind)
        tokenizer.save(folder, model_max_length=64)
        library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        opened[tokenizer.kind] = (Tokenizer.open(folder), library, AutoTokenizer.from_pretrained(str(folder)))
    return opened


def without_end(text: str) -> str:
    return text.replace(END_OF_TEXT, "")


@quick
@given(text=over_alphabet)
def test_char_text_comes_back_to_the_letter_from_the_saved_file_in_every_library(saved, char, text):
    reopened, library, auto = saved["char"]
    ids = char.encode(text)
    assert len(ids) == len(text)
    assert reopened.encode(text) == ids
    assert reopened.decode(ids) == text
    plain = without_end(text)  # the libraries read the special token's name as the token
    assert library.encode(plain).ids == char.encode(plain)
    assert library.decode(char.encode(plain)) == plain
    assert auto(plain)["input_ids"] == char.encode(plain)
    assert auto.decode(char.encode(plain)) == plain


@quick
@given(text=any_text, kind=st.sampled_from(["byte", "bpe"]))
def test_any_text_comes_back_to_the_letter_from_bytes_and_bpe(saved, text, kind):
    reopened, library, auto = saved[kind]
    ids = reopened.encode(text)
    assert reopened.decode(ids) == text
    plain = without_end(text)
    assert library.encode(plain).ids == reopened.encode(plain)
    assert auto(plain)["input_ids"] == reopened.encode(plain)
    assert auto.decode(reopened.encode(plain)) == plain


@pytest.mark.parametrize("text", [SPACES, DEVANAGARI, EMOJI, "", " ", "\n", "  a", "a  ", "\r\n\t\n"])
@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_spaces_line_ends_devanagari_and_emoji_survive(saved, kind, text):
    known = train_tokenizer("char", [ALPHABET + "a"]) if kind == "char" else saved[kind][0]
    assert known.decode(known.encode(text)) == text
    assert known.decode(known.encode_array(text)) == text
    assert known.encode_prompt(text) == (known.encode(text), text, "")


@quick
@given(text=over_alphabet, kind=st.sampled_from(["char", "byte", "bpe"]))
def test_the_array_for_corpora_holds_the_same_ids(saved, text, kind):
    tokenizer = saved[kind][0]
    assert tokenizer.encode_array(text).tolist() == tokenizer.encode(text)


def test_transformers_knows_the_ends_of_text_and_the_length(saved):
    for tokenizer, _, auto in saved.values():
        assert auto.eos_token_id == auto.bos_token_id == tokenizer.eot_id
        assert auto.model_max_length == 64
        assert len(auto) == tokenizer.vocab_size


def test_ids_are_in_the_documented_order(char, byte, bpe):
    assert [char.piece(id) for id in range(char.vocab_size)] == [*ALPHABET, END_OF_TEXT]
    assert [byte.token_bytes(id) for id in range(256)] == [bytes([value]) for value in range(256)]
    assert sorted(bpe.token_bytes(id) for id in range(256)) == [bytes([value]) for value in range(256)]
    for tokenizer in (char, byte, bpe):
        assert tokenizer.eot_id == tokenizer.vocab_size - 1
    assert (char.vocab_size, byte.vocab_size, bpe.vocab_size) == (len(ALPHABET) + 1, 257, 300)
    assert char.alphabet == frozenset(ALPHABET)
    assert byte.alphabet is None
    assert bpe.alphabet is None


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_a_written_end_of_text_is_text_and_never_the_token(saved, kind):
    tokenizer = saved[kind][0]
    text = f"a{END_OF_TEXT}\n{END_OF_TEXT}" if kind != "char" else f"{END_OF_TEXT}\n{END_OF_TEXT}"
    for ids in (tokenizer.encode(text), tokenizer.encode_prompt(text)[0], tokenizer.encode_array(text)):
        assert tokenizer.eot_id not in ids
        assert tokenizer.decode(ids) == text


def test_the_end_of_text_has_a_name_and_no_bytes(char, byte, bpe):
    for tokenizer in (char, byte, bpe):
        assert tokenizer.piece(tokenizer.eot_id) == END_OF_TEXT
        assert tokenizer.token_bytes(tokenizer.eot_id) == b""
        assert tokenizer.decode([tokenizer.eot_id, tokenizer.encode("t")[0], tokenizer.eot_id]) == "t"
        assert tokenizer.token_bytes(10**6) == tokenizer.token_bytes(-1) == b""


def test_half_a_character_is_shown_as_one_that_is_broken(byte):
    ids = byte.encode("é")
    assert [byte.piece(id) for id in ids] == ["\ufffd", "\ufffd"]
    assert byte.decode(ids[:1]) == "\ufffd"
    assert byte.decode(ids) == "é"


def test_unknown_characters_are_named_and_a_prompt_leaves_them_out():
    tokenizer = train_tokenizer("char", ["hello world"])
    for encode in (tokenizer.encode, tokenizer.encode_array):
        with pytest.raises(TokenizerError, match=r"'é' \(U\+00E9\), '\\u200d' \(U\+200D\)") as caught:
            encode("hé\u200déllo")
        assert caught.value.hint
        assert caught.value.message.count("é") == 1
    ids, text, left_out = tokenizer.encode_prompt("hé\u200déllo wor!d")
    assert text == "hllo word"
    assert left_out == "é\u200d!"
    assert ids == tokenizer.encode("hllo word")


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_half_of_a_surrogate_pair_is_refused_or_left_out(saved, kind):
    tokenizer = saved[kind][0]
    with pytest.raises(TokenizerError, match=r"U\+D83D"):
        tokenizer.encode("e\ud83d")
    with pytest.raises(TokenizerError, match=r"U\+D83D"):
        tokenizer.encode_array("e\ud83d")
    assert tokenizer.encode_prompt("e\ud83d")[1:] == ("e", "\ud83d")


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_the_same_text_gives_the_same_tokenizer(tmp_path, kind):
    for name in "ab":
        train_tokenizer(kind, [ENGLISH, DEVANAGARI], 320).save(tmp_path / name)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_bpe_learns_the_words_of_its_text(bpe):
    assert len(bpe.encode(ENGLISH)) < len(ENGLISH) / 2
    pieces = {bpe.piece(id) for id in range(bpe.vocab_size)}
    assert {"The", " river", " said"} <= pieces


def test_a_long_text_is_cut_where_no_token_runs_across(monkeypatch):
    text = (ENGLISH + DEVANAGARI + "  spaces \n\n\n. . 12 345\n") * 10
    tokenizer = train_tokenizer("bpe", [text], 400)
    whole = tokenizer.encode(text)
    monkeypatch.setattr(ours, "_CHUNK", 100)
    assert len(list(ours._chunks(text))) > 50
    assert "".join(ours._chunks(text)) == text
    assert tokenizer.encode_array(text).tolist() == whole


@pytest.mark.parametrize("pattern", ["ACGT", "-=", " \n"])
def test_merges_are_learned_from_a_text_of_one_line_in_no_time(pattern):
    draw = np.random.default_rng(0)
    line = "".join(draw.choice(list(pattern), 1 << 18))
    began = time.monotonic()
    tokenizer = train_tokenizer("bpe", [line], 300)
    assert time.monotonic() - began < 10  # it was minutes, and hours for ten times the length
    assert tokenizer.vocab_size > 257
    assert tokenizer.decode(tokenizer.encode(line)) == line


def test_a_large_vocabulary_needs_wider_ids():
    tokenizer = train_tokenizer("char", [(chr(code) for code in range(0x20000, 0x20000 + 66_000))])
    text = chr(0x20000) + chr(0x20000 + 65_999)
    assert tokenizer.encode_array(text).dtype == np.uint32
    assert tokenizer.encode_array(text).tolist() == [0, 65_999]
    assert train_tokenizer("char", ["ab"]).encode_array("ba").dtype == np.uint16


def test_what_cannot_be_trained_is_refused():
    for kind, documents, size in (("char", [""], 0), ("bpe", ["abc"], 256), ("word", ["abc"], 300)):
        with pytest.raises(TokenizerError) as caught:
            train_tokenizer(kind, documents, size)
        assert caught.value.hint


# Foreign tokenizers ------------------------------------------------------------------------------------------------


def gpt2_files(folder: Path) -> None:
    """GPT-2's pair of files, with a few merges."""
    letters = sorted(ours.byte_values())
    tokens = [*letters, "th", "the", "Ġthe", END_OF_TEXT]
    (folder / "vocab.json").write_text(json.dumps({token: id for id, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e\nĠ the\n")


def test_gpt2s_older_files_open(tmp_path):
    gpt2_files(tmp_path)
    tokenizer = Tokenizer.open(tmp_path)
    assert (tokenizer.kind, tokenizer.vocab_size, tokenizer.eot_id) == ("bpe", 260, 259)
    ids = tokenizer.encode("the the\u00e9")
    assert [tokenizer.token_bytes(id) for id in ids] == [b"the", b" the", b"\xc3", b"\xa9"]
    assert tokenizer.decode(ids) == "the theé"
    tokenizer.save(tmp_path / "again")
    assert Tokenizer.open(tmp_path / "again").encode("the the") == tokenizer.encode("the the")


def qwen3_like(folder: Path) -> None:
    """A small copy of Qwen3's make: its pattern, NFC, many special tokens, the end of a turn as eos."""
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    backend = tokenizers.Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, show_progress=False, initial_alphabet=sorted(ours.byte_values())
    )
    backend.train_from_iterator([ENGLISH], trainer)
    backend.add_special_tokens([AddedToken(token, special=True) for token in (END_OF_TEXT, "<|im_end|>")])
    backend.add_tokens([AddedToken("<think>", special=False)])
    backend.save(str(folder / "tokenizer.json"))
    config = {"eos_token": "<|im_end|>", "tokenizer_class": "Qwen2Tokenizer", "chat_template": "{{ messages }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def test_a_qwen3_tokenizer_opens_and_is_saved_with_what_it_said(tmp_path):
    qwen3_like(tmp_path)
    tokenizer = Tokenizer.open(tmp_path)
    assert tokenizer.piece(tokenizer.eot_id) == END_OF_TEXT
    assert tokenizer.token_bytes(tokenizer.vocab_size - 1) == b"<think>"
    assert tokenizer.token_bytes(tokenizer.vocab_size - 2) == b"<|im_end|>"
    ids, text, left_out = tokenizer.encode_prompt("e\u0301 the<|im_end|>")
    assert (text, left_out) == ("é the<|im_end|>", "")
    assert tokenizer.vocab_size - 2 not in ids
    tokenizer.save(tmp_path / "again", model_max_length=128)
    config = json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())
    assert config["eos_token"] == "<|im_end|>"
    assert config["chat_template"] == "{{ messages }}"
    assert config["model_max_length"] == 128


def test_chunks_are_the_whole_for_qwen3s_pattern_too(tmp_path, monkeypatch):
    qwen3_like(tmp_path)
    tokenizer = Tokenizer.open(tmp_path)
    text = (ENGLISH + " what?!\n\n\n  (a) 12 345 .\r\n\r\n") * 5
    whole = tokenizer.encode(text)
    monkeypatch.setattr(ours, "_CHUNK", 50)
    assert tokenizer.encode_array(text).tolist() == whole


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer_config.json", {"eos_token": "Ġthe"}),
        ("tokenizer_config.json", {"eos_token": {"content": "Ġthe"}}),
        ("generation_config.json", {"eos_token_id": [258, 5]}),
        ("config.json", {"eos_token_id": 258}),
    ],
)
def test_a_foreign_end_of_text_is_found_where_the_folder_names_it(tmp_path, file, content):
    gpt2_files(tmp_path)
    vocab = json.loads((tmp_path / "vocab.json").read_text())
    del vocab[END_OF_TEXT]
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    with pytest.raises(TokenizerError, match="no token for the end"):
        Tokenizer.open(tmp_path)
    (tmp_path / file).write_text(json.dumps(content))
    assert Tokenizer.open(tmp_path).eot_id == 258


def test_a_tokenizer_of_another_kind_is_refused(tmp_path):
    backend = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "hello": 1, END_OF_TEXT: 2}, unk_token="[UNK]"))
    backend.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TokenizerError, match="WordPiece"):
        Tokenizer.open(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "other", "config"])
def test_a_damaged_tokenizer_is_one_clear_error(tmp_path, damage):
    train_tokenizer("char", ["hello"]).save(tmp_path)
    file = tmp_path / "tokenizer.json"
    if damage == "missing":
        file.unlink()
    elif damage == "empty":
        file.write_text("")
    elif damage == "cut":
        file.write_text(file.read_text()[:200])
    elif damage == "other":
        file.write_text('{"hello": 1}')
    else:
        (tmp_path / "tokenizer_config.json").write_text("[1, 2")
    with pytest.raises(TokenizerError) as caught:
        Tokenizer.open(tmp_path)
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint


def tokenizer_json(folder: Path, vocabulary: dict[str, int]) -> None:
    """A char tokenizer's file whose vocabulary was changed."""
    train_tokenizer("char", ["abc"]).save(folder)
    values = json.loads((folder / "tokenizer.json").read_text())
    values["model"]["vocab"] = vocabulary
    (folder / "tokenizer.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    "vocabulary",
    [
        {"a": 0, "b": 1, "c": 1},  # one id for two characters
        {"a": 0, "b": 0, "c": 0},
        {"a": 0, "b": 1, "c": 3},  # and the id of the end of text
        {"a": 0, "b": 1},  # no character has id 2
        {"a": 0, "b": 1, "c": 7},
        {"a": 0, "b": 1, "c": 4_000_000_000},
        {},
    ],
)
def test_a_char_tokenizer_whose_ids_have_holes_or_doubles_is_refused(vocabulary, tmp_path):
    tokenizer_json(tmp_path, vocabulary)
    with pytest.raises(TokenizerError) as caught:
        Tokenizer.open(tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize("ids", [[-1], -1, 10**30, True, [True], "258", [], 2**32, 2**32 + 258, 300])
def test_an_end_of_text_that_is_no_id_is_not_taken_for_one(tmp_path, ids):
    gpt2_files(tmp_path)
    vocab = json.loads((tmp_path / "vocab.json").read_text())
    del vocab[END_OF_TEXT]
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    with pytest.raises(TokenizerError, match="no token for the end"):
        Tokenizer.open(tmp_path)


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ([999_999], "the id 999999 before a text, which is no special token"),
        ([300], "the id 300 before a text"),  # one behind the last
        ([5], "the id 5 before a text"),  # a word's
        ([299] * 5000, "puts 5,000 tokens before a text"),
        ([299] * 9, "puts 9 tokens before a text"),
    ],
)
def test_what_a_tokenizer_puts_before_a_text_is_a_few_special_tokens(tmp_path, bpe, ids, says):
    bpe.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    values = json.loads(file.read_text())

    def begin_with(ids: list[int]) -> None:
        begins = [{"SpecialToken": {"id": "begin", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
        tokens = {"begin": {"id": "begin", "ids": ids, "tokens": ["begin"] * len(ids)}}
        template = {
            "type": "TemplateProcessing",
            "single": begins,
            "pair": [*begins, {"Sequence": {"id": "B", "type_id": 0}}],
        }
        file.write_text(json.dumps(values | {"post_processor": template | {"special_tokens": tokens}}))

    assert bpe.eot_id == 299
    begin_with([299] * 8)
    assert Tokenizer.open(tmp_path).prefix == (299,) * 8
    begin_with(ids)
    with pytest.raises(TokenizerError, match=says) as caught:
        Tokenizer.open(tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "\ud800", '{"a": ' + "1" * 5000 + "}"])
def test_a_config_that_cannot_be_read_is_named(tmp_path, content):
    train_tokenizer("char", ["hello"]).save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json is damaged"):
        Tokenizer.open(tmp_path)
