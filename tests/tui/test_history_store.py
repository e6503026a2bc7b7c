"""The history on disk: what was kept comes back to the letter, is found by any piece, and survives what files meet."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
from history_maker import make_entry
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import SamplingParams
from engine.worker.protocol import ParamsAt
from minigpt_tui.history import migrations
from minigpt_tui.history.errors import EntryNotFoundError, HistoryError, SearchStoppedError
from minigpt_tui.history.packing import pack, unpack
from minigpt_tui.history.searching import Query, pieces
from minigpt_tui.history.store import Store


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "history" / "history.db"


@pytest.fixture(params=[True, False], ids=["indexed", "scanned"])
def store(path, request):
    with Store(path, index=request.param) as opened:
        assert opened._indexed is request.param
        yield opened


def found(store: Store, words: str = "", **filters) -> list[int]:
    return list(store.ids(Query(words=words, **filters)))


# What is kept


def test_an_entry_comes_back_to_the_letter(store):
    entry = make_entry(
        text="a\x00b\x1b[31m \r\n\u200fß😀 “quoted”",
        prompt="",
        params=SamplingParams(seed=2**62, temperature=0.1, stop=("\n\n", "|")),
        changes=(ParamsAt(3, SamplingParams(temperature=1.3, top_k=5)), ParamsAt(9, SamplingParams(stop=("x",)))),
        change_at=(2, 6),
        tokens=(0, 127, 128, 50_256, 2**31 - 1),
        finish_reason="lost",
        note="why\nnot",
        tags=("one", "two"),
        favourite=True,
        sha256="ab" * 32,
        model_path="/models/a b",
        version="0.1.0",
    )
    number = store.add(entry)
    assert store.entry(number) == msgspec.structs.replace(entry, id=number)


@given(st.lists(st.integers(0, 2**40)))
@settings(max_examples=60, deadline=None)
def test_token_ids_are_packed_without_loss(tokens):
    assert unpack(pack(tokens)) == tuple(tokens)


def test_tokens_of_a_character_model_take_a_byte_each():
    assert len(pack(range(128))) == 128


def test_half_a_surrogate_pair_is_no_reason_to_lose_a_text(store):
    assert store.entry(store.add(make_entry(text="a\ud800b"))).text == "a?b"


@pytest.mark.posix
def test_the_file_is_private(path):
    with Store(path) as store:
        store.add(make_entry())
        files = [path.parent, *path.parent.iterdir()]
        assert len(files) >= 2
        assert all(not stat.S_IMODE(file.stat().st_mode) & 0o077 for file in files)


# What is found


@pytest.mark.parametrize(
    "words",
    [
        "fox was",
        "OX W",
        "zebra",
        "ebr",
        "eb",
        "z",
        "striped",
        "ark",
        "#",
        "fox ark zeb",
        '"fox was"',
        '"fox',
        "was fox",
    ],
)
def test_a_text_is_found_by_any_piece_of_prompt_text_note_and_tags(store, words):
    other = store.add(make_entry(text=" is gone", prompt="A cat"))
    number = store.add(make_entry(text=" was here, a zebra # too", note="a striped one", tags=("Ark", "sea")))
    assert found(store, words) == [number]
    assert found(store) == [number, other]


@pytest.mark.parametrize("words", ['"fox is"', "foxwas", "zebras", "the  fox gone"])
def test_what_is_not_there_is_not_found(store, words):
    store.add(make_entry(text=" was here, a zebra"))
    assert found(store, words) == []


@pytest.mark.parametrize(
    "words",
    [
        '"',
        '""',
        "'",
        "*",
        "NEAR(",
        "a AND",
        "fox OR",
        "body:",
        "^",
        "%",
        "_",
        "\\",
        "a\0b",
        "{",
        "-x",
        "x" * 5000,
        "(" * 99,
    ],
)
def test_nothing_that_is_typed_is_an_error_and_signs_mean_themselves(store, words):
    store.add(make_entry())
    number = store.add(make_entry(text=f"say {words} so"))
    assert number in found(store, words)
    if pieces(words) and words != "'":
        assert len(found(store, f"{words}qq")) == 0


def test_letters_are_found_in_any_case_in_any_script(store):
    number = store.add(make_entry(text="Straße, ÉTÉ, Ἀθήνα, 東京タワー"))
    for words in ("straße", "été", "ÉTÉ", "Été s", "ἈΘΉΝΑ", "東京", "京タワー", "ß"):
        assert found(store, words) == [number], words


def test_filters_leave_what_is_wanted_the_latest_first(store):
    old = store.add(make_entry(time=100.0, model="a", tags=("x",)))
    new = store.add(make_entry(time=200.0, model="b", favourite=True))
    both = store.add(make_entry(time=300.0, model="a", favourite=True, tags=("x", "y")))
    assert found(store) == [both, new, old]
    assert found(store, model="a") == [both, old]
    assert found(store, since=200.0) == [both, new]
    assert found(store, until=200.0) == [old]
    assert found(store, favourites=True) == [both, new]
    assert found(store, tag="x") == [both, old]
    assert found(store, "fox", tag="x", favourites=True, model="a", since=200.0) == [both]
    assert store.models() == [("a", 2), ("b", 1)]
    assert store.tags() == [("x", 2), ("y", 1)]


def test_a_changed_note_and_changed_tags_are_found_and_the_old_ones_are_not(store):
    number = store.add(make_entry(note="before", tags=("early",)))
    store.set_note(number, "afterwards")
    store.set_tags(number, ["#late,later", "late"])
    assert found(store, "before") == found(store, "early") == found(store, tag="early") == []
    assert found(store, "afterw") == found(store, "later") == found(store, tag="late") == [number]
    assert store.entry(number).tags == ("late", "later")


def test_a_page_of_rows_says_what_a_list_shows(store):
    numbers = [store.add(make_entry(text="x" * 1000, favourite=place == 1)) for place in range(3)]
    rows = store.rows([*numbers, 99])
    assert list(rows) == numbers
    assert [row.favourite for row in rows.values()] == [False, True, False]
    assert rows[numbers[0]].beginning.startswith("The foxxx")
    assert len(rows[numbers[0]].beginning) == 400
    assert rows[numbers[0]].prompt_length == len("The fox")


def test_a_search_that_is_stopped_ends_with_a_word(path):
    with Store(path, index=False) as store:
        for _ in range(40):
            store.add(make_entry(text="é" * 200_000))
        timer = threading.Timer(0.02, store.stop)
        timer.start()
        with pytest.raises(SearchStoppedError):
            [found(store, "éx") for _ in range(2000)]
        timer.join()


# What is deleted


def test_what_was_deleted_can_be_brought_back_until_it_is_purged(store):
    first, second, third = (store.add(make_entry(text=word, tags=(word,))) for word in ("one", "two", "three"))
    assert store.delete([first, second, 99]) == [first, second]
    assert store.delete([first]) == []
    assert found(store) == found(store, "t") == [third]
    assert store.tags() == [("three", 1)]
    assert store.purge() == 0
    assert store.restore([first, third]) == [first]
    assert found(store) == [third, first]
    assert store.purge(older_than=0) == 1
    assert store.restore([second]) == []
    with pytest.raises(EntryNotFoundError):
        store.entry(second)
    assert found(store, "two") == []
    assert store.add(make_entry()) > third  # a number is never given twice


# Files that are not as they should be


V1 = """
PRAGMA application_id = 1833390164;
CREATE TABLE entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, source TEXT NOT NULL, model TEXT NOT NULL,
    family TEXT NOT NULL, parameters INTEGER NOT NULL, device TEXT NOT NULL, precision TEXT NOT NULL,
    finish_reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, new_tokens INTEGER NOT NULL,
    tokens_per_second REAL NOT NULL, time_to_first_token REAL NOT NULL, favourite INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE texts (
    id INTEGER PRIMARY KEY REFERENCES entries (id), note TEXT NOT NULL DEFAULT '', tags TEXT NOT NULL DEFAULT '',
    prompt_length INTEGER NOT NULL, body TEXT NOT NULL, prompt_ids BLOB NOT NULL, ids BLOB NOT NULL,
    params TEXT NOT NULL, changes TEXT NOT NULL, model_path TEXT NOT NULL, sha256 TEXT NOT NULL, version TEXT NOT NULL
);
INSERT INTO entries VALUES (5, 100.0, 'play', 'old', '', 0, 'cpu', 'fp32', 'stop', 2, 3, 1.5, 0.1, 1);
INSERT INTO texts VALUES (
    5, 'kept', '', 2, 'Hi you', x'4869', x'20796f', '{"temperature":0.5,"seed":1}', '[]', '', '', '0.0.1'
);
PRAGMA user_version = 1;
"""


def make_version_1(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    connection.executescript(V1)
    connection.close()


def version_of(path: Path) -> int:
    connection = sqlite3.connect(path)
    [[version]] = connection.execute("PRAGMA user_version")
    connection.close()
    return version


def test_a_file_of_version_1_is_brought_up_to_date(path):
    make_version_1(path)
    with Store(path) as store:
        entry = store.entry(5)
        assert (entry.prompt, entry.text, entry.note, entry.favourite) == ("Hi", " you", "kept", True)
        assert entry.params == SamplingParams(temperature=0.5, seed=1)
        assert found(store, "i yo") == found(store, "kep") == [5]
        store.set_tags(5, ["mended"])
        assert store.delete([5]) == [5]
        assert not store.problem
    assert version_of(path) == migrations.VERSION


@pytest.mark.posix
def test_a_migration_that_is_killed_half_way_leaves_the_file_as_it_was(path):
    make_version_1(path)
    killer = (
        "import os, signal, sys; from pathlib import Path; from minigpt_tui.history import database, store;"
        "real = database._connect\n"
        "class Killed:\n"
        "    def __init__(self, c): self.c = c\n"
        "    def __getattr__(self, name): return getattr(self.c, name)\n"
        "    def execute(self, sql, *a):\n"
        "        if 'tagged_id' in sql: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return self.c.execute(sql, *a)\n"
        "database._connect = lambda *a: Killed(real(*a))\n"
        "store.Store(Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", killer, path], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert version_of(path) == 1
    with Store(path) as store:
        assert store.entry(5).text == " you"
        assert not store.problem
    assert [file.name for file in path.parent.iterdir()] == ["history.db"]


@pytest.mark.parametrize(
    "garbage", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000, b"x", b"SQLite format 3\0"]
)
def test_a_damaged_file_is_set_aside_and_a_fresh_one_begun(path, garbage):
    path.parent.mkdir()
    for time_ in range(2):
        path.write_bytes(garbage)
        with Store(path) as store:
            kept = sorted(path.parent.glob("history.damaged-*.db"))
            assert len(kept) == time_ + 1
            assert {file.read_bytes() for file in kept} == {garbage}
            assert "damaged" in store.problem
            assert any(str(file) in store.problem for file in kept)
            assert found(store, "x") == []
            store.add(make_entry())
            assert len(found(store)) == 1


def test_a_database_of_another_program_is_set_aside(path):
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE passwords (word TEXT); INSERT INTO passwords VALUES ('mine');")
    connection.close()
    with Store(path) as store:
        [kept] = path.parent.glob("history.damaged-*.db")
        assert store.problem
    assert sqlite3.connect(kept).execute("SELECT word FROM passwords").fetchall() == [("mine",)]


def test_a_newer_file_is_set_aside_with_what_is_still_in_its_log(path):
    with Store(path) as store:
        store.add(make_entry())
    writer = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA user_version = 99');"
        "c.execute('UPDATE entries SET model = ?', ('in the log',)); c.commit(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", writer, path], check=True)
    assert path.with_name("history.db-wal").stat().st_size
    with Store(path) as store:
        assert "newer" in store.problem
        assert "99" in store.problem
        assert found(store) == []
        store.add(make_entry())
    [kept] = path.parent.glob("history.newer-*.db")
    connection = sqlite3.connect(kept)
    assert connection.execute("SELECT model FROM entries").fetchall() == [("in the log",)]
    connection.close()
    with Store(path) as store:
        assert len(found(store)) == 1
        assert not store.problem


def test_a_damaged_index_is_made_anew_and_no_text_is_lost(path):
    with Store(path) as store:
        number = store.add(make_entry())
    connection = sqlite3.connect(path)
    connection.execute("UPDATE words_data SET block = x'00ff00ff00ff'")
    connection.commit()
    connection.close()
    with Store(path) as store:
        assert found(store, "fox was") == [number]
        later = store.add(make_entry())
        store.set_note(later, "remarkable")
    with Store(path) as store:
        assert store._indexed
        assert found(store, "remark") == [later]
        assert found(store, "fox was") == [later, number]
        assert not store.problem


def test_an_index_that_another_sqlite_could_not_keep_is_brought_up_to_date(path):
    with Store(path) as store:
        first = store.add(make_entry(note="first note"))
    with Store(path, index=False) as store:
        second = store.add(make_entry(text=" came later"))
        store.set_note(first, "altered")
    with Store(path) as store:
        assert found(store, "later") == [second]
        assert found(store, "first") == []
        assert found(store, "alter") == [first]


def test_a_full_disk_is_said_and_what_was_kept_stays(path):
    with Store(path) as store:
        number = store.add(make_entry())
        [[pages]] = store.select("PRAGMA page_count")
        store.select(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(HistoryError, match="disk is full"):
            store.add(make_entry(text="x" * 100_000))
        assert found(store) == [number]
        store.select("PRAGMA max_page_count = 100000")
        store.add(make_entry(text="x" * 100_000))
        assert len(found(store, "xxxx")) == 1


def test_a_folder_in_the_files_place_is_one_clear_line(path):
    path.mkdir(parents=True)
    with pytest.raises(HistoryError, match="cannot be used"):
        Store(path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="may write everywhere")
def test_a_file_that_may_only_be_read_is_read(path):
    with Store(path) as store:
        number = store.add(make_entry())
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        with Store(path) as store:
            assert found(store, "fox") == [number]
            assert "only be read" in store.problem
            with pytest.raises(HistoryError, match="only be read"):
                store.add(make_entry())
    finally:
        path.parent.chmod(0o700)


def test_a_file_on_a_disk_that_is_read_only_is_read(path, monkeypatch):
    with Store(path) as store:
        number = store.add(make_entry())
    monkeypatch.setattr("minigpt_tui.history.database._may_write", lambda _: False)
    with Store(path) as store:
        assert found(store, "fox was") == [number]
        assert store.read_only
        for change in (lambda: store.add(make_entry()), lambda: store.delete([number]), store.purge):
            if change == store.purge:
                assert change() == 0
            else:
                with pytest.raises(HistoryError, match="only be read"):
                    change()


# Several at a time


def test_two_processes_write_and_search_at_the_same_time_and_nothing_is_lost(path):
    program = (
        "import sys; from pathlib import Path; from history_maker import make_entry\n"
        "from minigpt_tui.history.searching import Query; from minigpt_tui.history.store import Store\n"
        "with Store(Path(sys.argv[1])) as store:\n"
        "    for place in range(40):\n"
        "        number = store.add(make_entry(text=f'{sys.argv[2]} number {place}'))\n"
        "        store.set_note(number, 'seen')\n"
        "        assert number in store.ids(Query(words=f'{sys.argv[2]} number'))\n"
    )
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    started = [
        subprocess.Popen([sys.executable, "-c", program, path, name], env=here, stderr=subprocess.PIPE)
        for name in ("one", "two")
    ]
    for process in started:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err.decode()
    with Store(path) as store:
        assert len(found(store, "number")) == 80
        assert len(found(store, '"one number"')) == len(found(store, '"two number"')) == 40
        assert not store.problem


def test_threads_share_a_store(path):
    with Store(path) as store:
        threads = [
            threading.Thread(target=lambda: [store.add(make_entry()) for _ in range(10)] and None) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            found(store, "fox")
            time.sleep(0.001)
        assert len(found(store, "fox")) == 40
