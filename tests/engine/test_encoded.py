"""Encoded texts: the ids of a long text that is mapped are those of the text in memory, at any cut; its files are whole
or made again, and go when there is no room for them.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from engine import folders
from engine.errors import DataError, MiniGPTError, TokenizerError
from engine.text import corpus_cache, encoded, pieces
from engine.text import tokenizers as ours
from engine.text.batches import Batches, StartFinder, paragraph_starts
from engine.text.corpus import encode_documents
from engine.text.cutting import cut_documents
from engine.text.decoding import Decoder
from engine.text.encoded import open_encoded
from engine.text.library import open_corpus
from engine.text.provenance import text_record
from engine.text.tokenizers import Tokenizer, train_tokenizer

NASTY = "aab  \n\n\r\r\t1.'Z_ΣΣσς\u0301\u0307İé日本か\u3099\u1100\u1161\u11a8한😀\ufeff\u200b\u0085\u2028\x0b"
WORDS = (
    "the fox ",
    "ΟΔΟΣ. ",
    "ΟΣ'\u0301\u0301",
    "\r\n",
    "river\n\n",
    "e\u0301",
    "12 345 ",
    "of it",
    "\u1112\u1161\u11ab",
)
FOX = "The fox had said to the river: what will you carry for me? The river said nothing.\n\n"

texts = st.lists(st.one_of(st.sampled_from(WORDS), st.text(st.sampled_from(NASTY), max_size=6)), max_size=14).map(
    "".join
)
steps = st.lists(st.sampled_from(["nfc", "newlines", "lowercase"]), unique=True, max_size=3)
slow = settings(
    max_examples=70, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home of its own, where every text is long and comes in tiny pieces."""
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(encoded, "IN_MEMORY_BYTES", dict.fromkeys(("char", "byte", "bpe"), -1))
    monkeypatch.setattr(corpus_cache, "_RACY_NANOSECONDS", 0)
    monkeypatch.setattr(encoded, "_BATCH", 50)
    return tmp_path / "home"


def entries() -> list[Path]:
    folder = corpus_cache.entries_folder()
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def in_memory(names, tokenizer, *, vocab_size=262, **arguments):
    """What the functions for texts in memory give: the reference."""
    corpus = open_corpus(names, **arguments)
    if not isinstance(tokenizer, Tokenizer):
        documents = corpus.train if tokenizer == "bpe" else (*corpus.train, *corpus.val, *corpus.test)
        tokenizer = train_tokenizer(tokenizer, documents, vocab_size)
    splits = {name: encode_documents(tokenizer, getattr(corpus, name)) for name in ("train", "val", "test")}
    splits["starts"] = paragraph_starts(splits["train"], tokenizer)
    record = text_record(corpus, *(len(splits[name]) for name in ("train", "val", "test")))
    return corpus, tokenizer, splits, record


def assert_equal_to_the_text_in_memory(names, tokenizer, **arguments) -> None:
    refused: MiniGPTError | None = None
    try:
        corpus, made, splits, record = in_memory(names, tokenizer, **arguments)
    except MiniGPTError as error:
        refused = error
    if refused is not None:
        with pytest.raises(type(refused)) as caught:
            open_encoded(names, tokenizer=tokenizer, vocab_size=262, **arguments)
        assert isinstance(refused, TokenizerError) or str(caught.value) == str(refused)
        return
    for _ in range(2):  # made, then opened
        opened = open_encoded(names, tokenizer=tokenizer, vocab_size=262, **arguments)
        for name, ids in splits.items():
            np.testing.assert_array_equal(getattr(opened, name), ids)
            assert getattr(opened, name).dtype == ids.dtype
            assert not getattr(opened, name).flags.writeable or not len(ids)
        assert opened.tokenizer.sha256() == made.sha256()
        assert (opened.name, opened.sha256, opened.data) == (corpus.name, corpus.sha256, record)


@slow
@given(
    documents=st.lists(texts, min_size=1, max_size=3),
    val=st.none() | texts,
    test=st.none() | texts,
    normalize=steps,
    kind=st.sampled_from(["char", "byte", "bpe", "nfc"]),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 30)),
)
@example(["ΟΔΟΣ" + "\u0301" * 30 + " Σ'" * 20, "é\r\n" * 40], None, None, ["lowercase", "newlines"], "char", (1, 1, 1))
@example(["  ", "e\u0301 " * 40, ""], None, None, ["nfc"], "bpe", (1, 1, 1))
@example(["a\n\n\n" * 40, "a   b" * 40], None, None, [], "bpe", (1, 1, 1))
def test_the_ids_of_a_mapped_text_are_those_of_the_text_in_memory(
    home, tmp_path_factory, documents, val, test, normalize, kind, sizes
):
    folder = tmp_path_factory.mktemp("texts")
    names = [write(folder / f"{number}.txt", text) for number, text in enumerate(documents)]
    arguments = {
        "val": None if val is None else write(folder / "val.txt", val),
        "test": None if test is None else write(folder / "test.txt", test),
        "normalize": normalize,
    }
    with pytest.MonkeyPatch.context() as patch:
        tokenizer = with_nfc() if kind == "nfc" else kind
        patch.setattr(pieces, "PIECE", sizes[0])
        patch.setattr(encoded, "_BATCH", sizes[2])
        for module in (ours, encoded):  # only the mapped text is cut so finely: cuts are seen to change nothing
            patch.setattr(module, "safe_chunks", lambda given: cut_documents(given, ours._SAFE_CUT, sizes[1]))
        assert_equal_to_the_text_in_memory(names, tokenizer, **arguments)


def with_nfc() -> Tokenizer:
    """A tokenizer from elsewhere that composes what it reads, as Qwen's does."""
    backend = tokenizers.Tokenizer.from_str(train_tokenizer("bpe", [FOX * 9], 300)._backend.to_str())
    backend.normalizer = normalizers.NFC()
    return Tokenizer(backend, backend.get_vocab_size() - 1)


@settings(slow, max_examples=25)
@given(rows=st.lists(texts, min_size=1, max_size=5), suffix=st.sampled_from(["csv", "jsonl"]), normalize=steps)
def test_rows_are_documents_in_a_mapped_text_too(home, tmp_path_factory, rows, suffix, normalize):
    folder = tmp_path_factory.mktemp("rows")
    if suffix == "jsonl":
        content = "".join(json.dumps({"note": "x", "tale": row}) + "\n" for row in rows)
    else:
        content = "note,tale\n" + "".join(f'x,"{row}"\n' for row in rows)
    names = [write(folder / f"rows.{suffix}", content), write(folder / "b.txt", FOX)]
    for column in ("tale", "tael"):
        assert_equal_to_the_text_in_memory(names, "byte", column=column, normalize=normalize)
    assert_equal_to_the_text_in_memory([names[0]], "char", column="tale", val=names[1])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([b"a", b"\xc3", b"\xa9", b"\xe2\x82", b"\xac", b"\xf0\x9f", b"\xed\xa0", b"\xff", b"\n"])),
    st.integers(1, 4),
)
def test_the_byte_that_is_not_utf8_is_named_however_the_file_is_read(parts, size):
    data = b"".join(parts)
    decoder = Decoder(Path("a.txt"))
    text = "".join([decoder.decode(data[at : at + size]) for at in range(0, len(data), size)])
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        if not data.startswith(b"\xff\xfe"):
            with pytest.raises(DataError, match=rf"at byte {error.start} \(0x{data[error.start]:02x}\)"):
                decoder.finish()
    else:
        decoder.finish()
        assert text == whole


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n" * 50,
        b"abc\0def" * 20,
        b"\x01\x02\x03\x04" * 5 + b"\xff",
        "text".encode("utf-16"),
        b"x" * 99 + b"\xe2\x28\xa1",
        b"x" * 99 + b"\xc3",
    ],
)
def test_a_long_file_that_is_no_text_is_named_as_a_short_one_is(home, tmp_path, monkeypatch, content):
    monkeypatch.setattr(pieces, "PIECE", 7)
    file = write(tmp_path / "a.txt", content)
    for names in ([file], [write(tmp_path / "b.txt", FOX), file]):
        assert_equal_to_the_text_in_memory(names, "char")
    assert_equal_to_the_text_in_memory([write(tmp_path / "b.txt", FOX)], "char", val=file)


def test_a_tokenizer_that_does_not_know_a_character_says_so_and_leaves_nothing(home, tmp_path):
    file = write(tmp_path / "a.txt", FOX * 5 + "é")
    with pytest.raises(TokenizerError, match=r"U\+00E9"):
        open_encoded([file], tokenizer=train_tokenizer("char", [FOX]))
    assert list(corpus_cache.entries_folder().glob("*")) == [corpus_cache.entries_folder() / "files.json"]


def forbid(monkeypatch, module, *names: str) -> None:
    def fail(*arguments):
        raise AssertionError("this should not be needed")

    for name in names:
        monkeypatch.setattr(module, name, fail)


def test_a_second_start_reads_nothing_and_a_moved_text_is_known_again(home, tmp_path, monkeypatch):
    file = write(tmp_path / "a.txt", FOX * 30)
    said: list[str] = []
    first = open_encoded([file], tokenizer="bpe", vocab_size=270, report=said.append)
    assert "encoded, once" in said[0]
    forbid(monkeypatch, encoded, "_build")
    moved = open_encoded([file.rename(tmp_path / "b.txt")], tokenizer="bpe", vocab_size=270, report=said.append)
    forbid(monkeypatch, corpus_cache, "checked_sha256")
    again = open_encoded([tmp_path / "b.txt"], tokenizer="bpe", vocab_size=270, report=said.append)
    assert len(said) == 1
    for opened in (moved, again):
        np.testing.assert_array_equal(opened.train, first.train)
        assert opened.name == "b"


def test_whatever_decides_the_ids_makes_another_entry(home, tmp_path):
    file = write(tmp_path / "a.txt", FOX * 5)
    rows = write(tmp_path / "a.csv", "text,more\nthe fox,x\nthe long river,y\n")
    choices = [
        ({}, file),
        ({"tokenizer": "byte"}, file),
        ({"tokenizer": "bpe", "vocab_size": 258}, file),
        ({"tokenizer": "bpe", "vocab_size": 260}, file),
        ({"tokenizer": train_tokenizer("bpe", [FOX[::-1]], 258)}, file),
        ({"normalize": ["lowercase"]}, file),
        ({"val": file}, file),
        ({"test": file}, file),
        ({"column": "text"}, rows),
        ({"column": "more"}, rows),
        ({}, write(tmp_path / "rows.txt", rows.read_bytes())),
    ]
    for number, (arguments, source) in enumerate(choices, 1):
        open_encoded([source], **arguments)
        assert len(entries()) == number
    open_encoded([file], vocab_size=512)  # which a char tokenizer has no use for
    open_encoded([file], tokenizer=train_tokenizer("bpe", [FOX[::-1]], 258), vocab_size=512)
    assert len(entries()) == len(choices)


def test_a_file_that_changed_just_now_is_not_trusted_to_be_the_same(home, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_cache, "_RACY_NANOSECONDS", 10**12)
    file = write(tmp_path / "a.txt", FOX * 30)
    open_encoded([file])
    assert json.loads((corpus_cache.entries_folder() / "files.json").read_bytes()) == {}
    monkeypatch.setattr(corpus_cache, "_RACY_NANOSECONDS", 0)
    before = open_encoded([file])
    kept = json.loads((corpus_cache.entries_folder() / "files.json").read_bytes())
    assert kept[str(file)][1] == before.sha256
    stat = file.stat()
    write(file, (FOX * 30).replace("fox", "owl"))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same time, same inode
    after = open_encoded([file])
    assert after.sha256 == hashlib.sha256(file.read_bytes()).hexdigest() != before.sha256
    assert "owl" in after.tokenizer.decode(after.train[:100])


def cut_short(entry: Path) -> None:
    os.truncate(entry / "train.bin", 10)


def change_a_byte(entry: Path) -> None:
    data = bytearray((entry / "train.bin").read_bytes())
    data[len(data) // 2] ^= 1
    (entry / "train.bin").write_bytes(data)


def lose_a_file(entry: Path) -> None:
    (entry / "tokenizer.json").unlink()


def spoil_the_contents(entry: Path) -> None:
    (entry / "entry.json").write_text("{")


@pytest.mark.parametrize("damage", [cut_short, change_a_byte, lose_a_file, spoil_the_contents])
def test_a_damaged_copy_is_made_again_and_said(home, tmp_path, damage):
    file, said = write(tmp_path / "a.txt", FOX * 30), []
    first = open_encoded([file])
    ids = first.train.tolist()
    damage(entries()[0])
    again = open_encoded([file], report=said.append)
    assert [line for line in said if "damaged" in line]
    assert again.train.tolist() == ids
    assert len(entries()) == 1
    assert open_encoded([file], report=said.append).train.tolist() == ids
    assert len(said) == 2


def test_a_long_file_that_was_zeroed_is_found_by_a_look_at_a_part(tmp_path):
    file = write(tmp_path / "a.bin", os.urandom(1 << 20))
    whole = corpus_cache._probe(file)
    with file.open("r+b") as handle:
        handle.seek(1 << 19)
        handle.write(bytes(1 << 15))
    assert corpus_cache._probe(file) != whole


BUILD = """
import os, signal, sys
from engine.text import encoded
encoded.IN_MEMORY_BYTES = dict.fromkeys(encoded.IN_MEMORY_BYTES, -1)
def progress(what, share):
    if what == "encoding" and "die" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "encoding" and "wait" in sys.argv:
        print("half", flush=True)
        sys.stdin.readline()
corpus = encoded.open_encoded([sys.argv[1]], tokenizer="byte", progress=progress)
print(bytes(corpus.train.astype("u1"))[:20].decode(), flush=True)
if "hold" in sys.argv:
    sys.stdin.readline()
"""


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILD, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_processes_may_make_the_same_copy_at_once(home, tmp_path):
    file = write(tmp_path / "a.txt", FOX * 1000)
    processes = [start(file, "wait") for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "half\n"
    for process in processes:
        out, _ = process.communicate("go\n" * 100, timeout=30)
        assert process.returncode == 0
        assert out.endswith(FOX[:20] + "\n")
    assert len(entries()) == 1


@pytest.mark.posix
def test_what_a_killed_process_was_making_is_cleared_away(home, tmp_path):
    process = start(write(tmp_path / "a.txt", FOX * 1000), "die")
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert [path.name for path in entries() if ".writing-" in path.name]
    open_encoded([write(tmp_path / "b.txt", FOX * 10)])
    assert len(entries()) == 1


def test_a_copy_in_use_stays_and_of_the_others_that_goes_which_was_not_used_for_the_longest(
    home, tmp_path, monkeypatch
):
    files = [write(tmp_path / f"{name}.txt", FOX * (100 + number)) for number, name in enumerate("abcd")]
    holder = start(files[0], "hold")
    assert holder.stdout.readline() == FOX[:20] + "\n"
    made = dict(zip("a", entries(), strict=True))
    for file in files[1:3]:
        open_encoded([file], tokenizer="byte")
        made[file.stem] = next(path for path in entries() if path not in made.values())
    for age, name in enumerate("cba"):
        os.utime(made[name], (1e9 - age, 1e9 - age))
    open_encoded([files[1]], tokenizer="byte")  # b is used
    size = sum(file.stat().st_size for file in made["a"].iterdir())
    monkeypatch.setattr(corpus_cache, "MOST_BYTES", int(3.5 * size))
    last = open_encoded([files[3]], tokenizer="byte")
    assert made["a"].is_dir()
    assert made["b"].is_dir()
    assert not made["c"].is_dir()
    assert len(entries()) == 3
    monkeypatch.setattr(corpus_cache, "MOST_BYTES", 0)
    corpus_cache.make_room()
    assert len(entries()) == 2  # a is in use, and so is the last
    holder.communicate("", timeout=30)
    assert last.train[:3].tolist() == list(b"The")
    del last
    corpus_cache.make_room()
    assert entries() == []


def test_a_disk_that_is_nearly_full_holds_few_copies(home, tmp_path, monkeypatch):
    for name in "ab":
        open_encoded([write(tmp_path / f"{name}.txt", FOX * 200 + name)])
    usage = corpus_cache.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(corpus_cache.shutil, "disk_usage", lambda path: usage._replace(free=0))
    kept = open_encoded([write(tmp_path / "c.txt", FOX * 200 + "c")])
    assert len(entries()) == 1
    assert len(kept.train)


def test_a_text_that_changes_while_it_is_read_is_refused(home, tmp_path):
    file = write(tmp_path / "a.txt", FOX * 30)

    def grow(what: str, share: float) -> None:
        if what == "encoding":
            with file.open("a") as handle:
                handle.write(FOX)

    with pytest.raises(DataError, match="changed while it was read"):
        open_encoded([file], progress=grow)
    assert entries() == []
    open_encoded([file])


def test_where_nothing_can_be_written_is_said(home, tmp_path):
    write(folders.cache_home(), "no folder")
    with pytest.raises(DataError, match="cannot be written to") as caught:
        open_encoded([write(tmp_path / "a.txt", FOX)])
    assert "MINIGPT_HOME" in caught.value.hint


def test_a_short_text_leaves_nothing_on_disk_and_is_the_same(home, tmp_path, monkeypatch):
    file = write(tmp_path / "a.txt", FOX * 30)
    mapped = open_encoded([file], test=file)
    monkeypatch.setattr(encoded, "IN_MEMORY_BYTES", dict.fromkeys(("char", "byte", "bpe"), 10_000))
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "other"))
    short = open_encoded([file], test=file)
    assert not folders.cache_home().exists()
    for name in ("train", "val", "test", "starts"):
        np.testing.assert_array_equal(getattr(short, name), getattr(mapped, name))
    assert (short.name, short.sha256, short.data) == (mapped.name, mapped.sha256, mapped.data)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_can_be_read_but_once_is_read_once(home, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(FOX * 30))
    writer.start()
    corpus = open_encoded([pipe])
    writer.join()
    assert corpus.tokenizer.decode([*corpus.train, *corpus.val]) == FOX * 30


def test_merges_of_a_very_long_text_are_learned_from_a_sample_of_all_of_it(home, tmp_path, monkeypatch):
    monkeypatch.setattr(ours, "_CHUNK", 100)
    file = write(tmp_path / "a.txt", FOX * 60 + FOX.replace("fox", "owl") * 60)
    said: list[str] = []
    whole = open_encoded([file], tokenizer="bpe", vocab_size=399, report=said.append)
    assert len(said) == 1
    monkeypatch.setattr(encoded, "SAMPLE", 2000)
    sampled = open_encoded([file], tokenizer="bpe", vocab_size=400, report=said.append)
    assert "sample" in said[2]
    assert {" fox", " owl"} <= {sampled.tokenizer.piece(id) for id in range(400)}
    corpus_cache.discard(entries()[0])
    corpus_cache.discard(entries()[0])
    again = open_encoded([file], tokenizer="bpe", vocab_size=400)
    assert again.tokenizer.sha256() == sampled.tokenizer.sha256()
    assert whole.tokenizer.decode(whole.train) == again.tokenizer.decode(again.train)


def test_training_reads_windows_of_a_mapped_text_and_no_more(home, tmp_path):
    corpus = open_encoded([write(tmp_path / "a.txt", FOX * 50)])
    batches = Batches(corpus.train, 16, 8, 1, corpus.tokenizer.eot_id, corpus.starts)
    copies = Batches(corpus.train.copy(), 16, 8, 1, corpus.tokenizer.eot_id, corpus.starts.copy())
    assert np.shares_memory(batches.tokens, corpus.train)
    assert np.shares_memory(batches.starts, corpus.starts)
    assert isinstance(corpus.train.base, np.memmap)
    for step in range(40):
        for mine, other in zip(batches.batch(step), copies.batch(step), strict=True):
            np.testing.assert_array_equal(mine, other)


@settings(max_examples=60, deadline=None)
@given(st.text("ab\n", max_size=30), st.lists(st.integers(0, 30), max_size=5))
def test_starts_are_the_same_in_whatever_pieces_the_tokens_come(text, cuts):
    tokenizer = train_tokenizer("byte", [])
    tokens = tokenizer.encode_array(text)
    finder = StartFinder(tokenizer)
    found = [finder.find(part) for part in np.split(tokens, sorted(min(cut, len(tokens)) for cut in cuts))]
    np.testing.assert_array_equal(np.concatenate(found), paragraph_starts(tokens, tokenizer))


MEASURE = """
import resource, sys
from engine.text.encoded import open_encoded
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 if sys.platform == "darwin" else 1024)
before = peak()
corpus = open_encoded([sys.argv[1]])
print(peak() - before, len(corpus.train))
"""


@pytest.mark.posix
def test_a_long_text_is_never_in_memory_as_a_whole(home, tmp_path):
    file = write(tmp_path / "a.txt", FOX * 600_000)
    done = subprocess.run([sys.executable, "-c", MEASURE, str(file)], capture_output=True, text=True, check=True)
    megabytes, tokens = map(int, done.stdout.split())
    assert tokens == int(len(FOX) * 600_000 * 0.9)
    assert megabytes < 150  # as text, codes and ids it would be several times 50 MB
