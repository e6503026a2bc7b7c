"""Reading texts: what is read is what the files say, and a file that cannot be used is named with what to do."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import DataError, TokenizerError
from engine.text.corpus import encode_documents, read_corpus, split_documents
from engine.text.tokenizers import train_tokenizer

quick = settings(max_examples=80, deadline=None)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def all_of(*splits: tuple[str, ...]) -> str:
    return "".join("".join(split) for split in splits)


def test_one_file_is_split_as_nanogpt_splits_it(tmp_path):
    text = "First line.\r\nÉ second 👩🏽‍🚀\n" * 37
    corpus = read_corpus(write(tmp_path / "plays.txt", text))
    assert corpus.train == (text[: int(len(text) * 0.9)],)
    assert corpus.val == (text[int(len(text) * 0.9) :],)
    assert corpus.test == ()
    assert corpus.name == "plays"
    assert corpus.sources == (str(tmp_path / "plays.txt"),)


@pytest.mark.parametrize("content", ["plain\n" * 9, "\ufeff" + "with a mark\r\n" * 3])
def test_the_hash_of_one_file_is_that_of_its_bytes_before_anything_is_changed(tmp_path, content):
    file = write(tmp_path / "a.txt", content)
    corpus = read_corpus(file, normalize=["nfc", "newlines", "lowercase"])
    assert corpus.sha256 == hashlib.sha256(content.encode()).hexdigest()
    assert "\ufeff" not in all_of(corpus.train, corpus.val)


def test_the_hash_of_several_files_tells_files_order_and_splits_apart(tmp_path):
    a, b, ab = (write(tmp_path / f"{name}.txt", name * 30) for name in ("a", "b", "ab"))
    hashes = [
        read_corpus(paths, val=val, test=test).sha256
        for paths, val, test in (
            ([a], None, None),
            ([a, b], None, None),
            ([b, a], None, None),
            ([a], b, None),
            ([a], None, b),
            ([ab], None, None),
        )
    ]
    assert len(set(hashes)) == len(hashes)
    assert read_corpus([a, b]).sha256 == hashes[1]


@quick
@given(st.lists(st.text(st.sampled_from("ab é\n"), min_size=1, max_size=30), min_size=1, max_size=8))
def test_a_split_loses_no_character_and_cuts_at_nine_tenths_of_all(documents):
    train, val = split_documents(documents)
    assert all_of(train, val) == "".join(documents)
    assert len(all_of(train)) == int(len("".join(documents)) * 0.9)
    assert all(train + val)
    whole = len(train) if all_of(train) == "".join(documents[: len(train)]) else len(train) - 1
    assert list(train[:whole]) == documents[:whole]


def test_own_files_for_validation_and_test_are_used_as_they_are(tmp_path):
    train, val, test = (write(tmp_path / f"{name}.txt", f"{name} " * 20) for name in ("train", "val", "test"))
    corpus = read_corpus([train], val=val, test=test)
    assert (corpus.train, corpus.val, corpus.test) == (("train " * 20,), ("val " * 20,), ("test " * 20,))
    corpus = read_corpus(train, test=test)
    assert all_of(corpus.train, corpus.val) == "train " * 20
    assert corpus.test == ("test " * 20,)
    with pytest.raises(DataError, match=r"missing\.txt is not there"):
        read_corpus(train, val=tmp_path / "missing.txt")


def test_a_folder_is_read_in_order_without_what_is_hidden_or_no_text(tmp_path):
    for name in (
        "b.txt",
        "a.md",
        "deep/er/c.py",
        "deep/d.TXT",
        "e.png",
        ".hidden.txt",
        ".git/f.txt",
        "__pycache__/g.py",
    ):
        write(tmp_path / name, f"[{name}]")
    write(tmp_path / "empty.txt", "")
    write(tmp_path / "rows.csv", "text\n[row 1]\n[row 2]\n")
    write(tmp_path / "rows.jsonl", '{"text": "[line 1]"}\n')
    corpus = read_corpus(tmp_path)
    expected = "[a.md][b.txt][deep/d.TXT][deep/er/c.py][row 1][row 2][line 1]"
    assert all_of(corpus.train, corpus.val) == expected
    assert [Path(source).name for source in corpus.sources] == [
        "a.md", "b.txt", "d.TXT", "c.py", "empty.txt", "rows.csv", "rows.jsonl",
    ]  # fmt: skip


def test_a_file_that_is_named_may_have_any_suffix(tmp_path):
    corpus = read_corpus(write(tmp_path / "notes.rst", "text " * 10))
    assert all_of(corpus.train, corpus.val) == "text " * 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\t\r\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"good \xe9 text", r"is not UTF-8 at byte 5 \(0xe9\)"),
        ("\u00e9".encode() * 10 + b"\xff", "is not UTF-8 at byte 20"),
        (b"\xef\xbb\xbfab\xc3", "is not UTF-8 at byte 5"),
        (b"text\0text", "looks like a binary file"),
        (bytes(range(1, 32)) * 10, "looks like a binary file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "looks like a binary file"),
        ("text".encode("utf-16"), "is UTF-16"),
    ],
)
def test_a_file_that_is_no_text_is_named_with_what_is_wrong(tmp_path, content, message):
    write(tmp_path / "folder" / "good.txt", "a good text")
    bad = write(tmp_path / "folder" / "zbad.txt", content)
    with pytest.raises(DataError, match=message) as caught:
        read_corpus(bad)
    assert str(bad) in caught.value.message
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_missing_and_unreadable_paths_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.txt is not there"):
        read_corpus(tmp_path / "nothing.txt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="has no text in it"):
        read_corpus(tmp_path / "folder")
    with pytest.raises(DataError, match="no text was given"):
        read_corpus([])


@pytest.mark.parametrize("header", ["id,text,summary", "id,Text,summary", "id,body,summary", "id,Content,summary"])
def test_a_csvs_text_column_is_known_by_its_name(tmp_path, header):
    file = write(tmp_path / "a.csv", f'{header}\n1,"one, ""two""\nthree",{"long " * 50}\n2,four,{"long " * 50}\n')
    corpus = read_corpus(file, val=file)
    assert corpus.train == ('one, "two"\nthree', "four")


def test_a_csvs_text_column_is_else_the_longest_and_can_be_named(tmp_path):
    file = write(tmp_path / "a.csv", "id;note;tale\n1;a short note;a tale that is much longer\n2;short;another tale\n")
    assert read_corpus(file, val=file).train == ("a tale that is much longer", "another tale")
    assert read_corpus(file, val=file, column="note").train == ("a short note", "short")
    with pytest.raises(DataError, match="no column 'tael': did you mean tale"):
        read_corpus(file, column="tael")


def test_a_csv_with_a_very_long_text_or_without_rows(tmp_path):
    text = "long " * 60_000
    file = write(tmp_path / "a.csv", f'text\n"{text}"\n')
    assert read_corpus(file, val=file).train == (text,)
    with pytest.raises(DataError, match="has no rows"):
        read_corpus(write(tmp_path / "b.csv", "text,more\n"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("text,id\na tale, with a comma,1\n", "3 cells at line 2 and 2 columns"),
        ("text\none tale\nanother, longer tale\n", "2 cells at line 3 and 1 columns"),
        ('text,id\n"a tale\non two lines",1\nand, more,2\n', "3 cells at line 4"),
        ("text,id,text\na,1,b\n", "several columns named 'text'"),
        ("text, text\na,b\n", "several columns named 'text'"),
        ("The fox went down to the river.\nThe river said nothing.\n", "first line of .* looks like text"),
        ("once upon a time there was\nand they lived\n", "first line of .* looks like text"),
        ("1,the fox\n2,the river said nothing\n", "first line of .* looks like text"),
        ("-0.5;the fox\n2;the river said nothing\n", "first line of .* looks like text"),
    ],
)
def test_no_text_of_a_csv_is_lost_without_a_word(tmp_path, content, says):
    with pytest.raises(DataError, match=says) as caught:
        read_corpus(write(tmp_path / "a.csv", content))
    assert caught.value.hint


def test_a_csv_may_have_empty_cells_and_names_and_a_header_that_is_named_is_believed(tmp_path):
    file = write(tmp_path / "a.csv", ",text,\n0,one tale,,\n1,another\n2\n")
    assert read_corpus(file, val=file).train == ("one tale", "another")
    survey = write(tmp_path / "b.csv", "1,What did you think of it all?\n2,It was a very good year for foxes\n")
    with pytest.raises(DataError, match="--column"):
        read_corpus(survey, val=survey)
    answers = read_corpus(survey, val=survey, column="What did you think of it all?").train
    assert answers == ("It was a very good year for foxes",)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('"one"\n\n{"text": "two"}\n', "an object at line 3 and a string at line 1"),
        ('{"text": "one"}\n{"content": "two"}\n', "no text under 'text' at line 2"),
        ('{"text": "one"}\n{"text": ["two", "three"]}\n', "no text under 'text' at line 2"),
        ('{"text": "one"}\n{"text": 2}\n', "no text under 'text' at line 2"),
        ('{"text": "one"}\n{"text": "half \\ud83d"}\n', r"half of a character \(U\+D83D\) at line 2"),
        ('"one"\n"\\udc00"\n', r"half of a character \(U\+DC00\) at line 2"),
        ('{"text": "one"}\n' + "[" * 100_000 + "\n", "nested too deeply at line 2"),
        ('{"text": "one"}\n' + '{"a":' * 100_000 + "\n", "nested too deeply at line 2"),
        ('{"text": "one", "n": ' + "1" * 5000 + "}\n", "not JSON at line 1"),
    ],
)
def test_no_text_of_a_jsonl_file_is_lost_without_a_word(tmp_path, content, says):
    with pytest.raises(DataError, match=says) as caught:
        read_corpus(write(tmp_path / "a.jsonl", content))
    assert caught.value.hint


def test_a_jsonl_line_may_say_that_it_has_no_text(tmp_path):
    file = write(
        tmp_path / "a.jsonl", '{"text": "\\ud83e\\udd8a"}\n{"text": null, "x": "half \\ud83e"}\n{"text": "b"}\n'
    )
    assert read_corpus(file, val=file).train == ("\U0001f98a", "b")


def test_a_path_that_no_file_can_have_is_one_clear_error():
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        read_corpus("a" * 300)


def test_jsonl_is_read_by_key_and_its_line_ends_are_kept(tmp_path):
    rows = [{"id": 1, "story": "one\u2028\r\ntwo", "by": "x"}, {"story": "three", "by": "y", "n": None}]
    file = write(tmp_path / "a.jsonl", "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n")
    assert read_corpus(file, val=file).train == ("one\u2028\r\ntwo", "three")
    assert read_corpus(file, val=file, column="by").train == ("x", "y")
    with pytest.raises(DataError, match="no column 'stry'"):
        read_corpus(file, column="stry")
    strings = write(tmp_path / "b.jsonl", '"one"\n"two"\n')
    assert read_corpus(strings, val=strings).train == ("one", "two")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{"text": \n', "not JSON at line 2"),
        ("[1]\n", "no text at line 1"),
        ('{"n": 1}\n', "no text in"),
    ],
)
def test_a_jsonl_file_that_is_broken_says_where(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_corpus(write(tmp_path / "a.jsonl", content))


def test_text_is_made_uniform_only_when_asked(tmp_path):
    text = "E\u0301a\r\nb\rc\n\u0130İ" * 5
    file = write(tmp_path / "a.txt", text)

    def read(*normalize: str) -> str:
        return "".join(read_corpus(file, val=file, normalize=normalize).train)

    assert read() == text
    assert read("newlines") == text.replace("\r\n", "\n").replace("\r", "\n")
    assert read("nfc") == unicodedata.normalize("NFC", text)
    assert read("lowercase") == text.lower()
    everything = read("lowercase", "newlines", "nfc")
    assert unicodedata.is_normalized("NFC", everything)
    assert everything == everything.lower()
    assert "\r" not in everything


@quick
@given(st.lists(st.text(st.sampled_from("ab\n"), max_size=12), max_size=6), st.sampled_from(["char", "byte"]))
def test_documents_are_joined_by_the_end_of_text_and_come_back(documents, kind):
    tokenizer = train_tokenizer(kind, ["ab\n"])
    tokens = encode_documents(tokenizer, documents)
    assert (tokens == tokenizer.eot_id).sum() == max(len(documents) - 1, 0)
    pieces: list[list[int]] = [[]]
    for token in tokens.tolist():
        if token == tokenizer.eot_id:
            pieces.append([])
        else:
            pieces[-1].append(token)
    assert [tokenizer.decode(piece) for piece in pieces] == (documents or [""])


def test_a_validation_text_with_unknown_characters_names_them():
    with pytest.raises(TokenizerError, match=r"U\+00E9"):
        encode_documents(train_tokenizer("char", ["abc"]), ["abc", "abé"])


@pytest.mark.parametrize(("name", "content"), [("n.csv", "a,b\n1,2.25\n"), ("n.jsonl", '{"a": "1", "b": "2.25"}\n')])
def test_columns_of_numbers_are_not_taken_for_text_unless_they_are_named(tmp_path, name, content):
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=r"'b'.*--column"):
        read_corpus(path)
    assert all_of(read_corpus(path, column="a").train, read_corpus(path, column="a").val) == "1"
