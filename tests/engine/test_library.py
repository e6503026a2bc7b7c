"""Texts by name: they are found, and a download is whole and checked or leaves nothing behind."""

from __future__ import annotations

import hashlib
import sysconfig
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engine import folders
from engine.errors import DataError
from engine.text import library
from engine.text.library import Download, describe, download, find_text, list_texts, open_corpus

BODY = b"Before we proceed any further, hear me speak.\n" * 9000


class Server(BaseHTTPRequestHandler):
    """Answers by path: /whole, /broken (half of what was announced), /wrong, /endless, /missing."""

    def do_GET(self):
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/endless":
            self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        try:
            if self.path == "/broken":
                self.wfile.write(BODY[: len(BODY) // 2])
            elif self.path == "/wrong":
                self.wfile.write(BODY[:-1] + b"?")
            elif self.path == "/endless":
                while True:
                    self.wfile.write(BODY)
            elif self.path == "/hangs":
                self.wfile.write(BODY[:1000])
                self.server.release.wait(20)
            else:
                self.wfile.write(BODY)
        except OSError:
            pass  # the client went away, as it should
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    http = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    http.release = threading.Event()
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.release.set()
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))
    source = Download("http://nowhere.invalid/", hashlib.sha256(BODY).hexdigest(), len(BODY), "a text for tests")
    monkeypatch.setitem(library.DOWNLOADS, "plays", source)
    return tmp_path / "home"


def left_over() -> list[str]:
    folder = folders.user_texts()
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.posix
def test_a_download_is_whole_checked_and_private(server, home):
    calls: list[tuple[int, int]] = []
    path = download("plays", url=f"{server}/whole", progress=lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == BODY
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    assert calls[-1] == (len(BODY), len(BODY))
    assert calls == sorted(calls)
    assert find_text("plays") == [path]
    assert left_over() == ["plays.txt"]


def test_a_text_that_is_here_is_not_fetched_again(server):
    path = download("plays", url=f"{server}/whole")
    assert download("plays", url=f"{server}/missing") == path
    path.write_bytes(BODY[:100])  # damaged since
    assert download("plays", url=f"{server}/whole").read_bytes() == BODY


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("broken", f"broke after {len(BODY) // 2:,} of {len(BODY):,} bytes"),
        ("wrong", "is not the text that it should be"),
        ("endless", "is not the text that it should be"),
        ("missing", "answered 404"),
        ("hangs", "broke after 1,000 of"),
    ],
)
def test_a_download_that_fails_says_why_and_leaves_nothing(server, where, message):
    with pytest.raises(DataError, match=message) as caught:
        download("plays", url=f"{server}/{where}", timeout=1.0 if where == "hangs" else 30.0)
    assert caught.value.hint
    assert left_over() == []


def test_what_was_there_stays_when_a_new_download_fails(server):
    folders.private(folders.user_texts())
    (folders.user_texts() / "plays.txt").write_text("an older copy")
    with pytest.raises(DataError):
        download("plays", url=f"{server}/broken")
    assert (folders.user_texts() / "plays.txt").read_text() == "an older copy"
    assert left_over() == ["plays.txt"]


def test_an_interrupted_download_leaves_nothing(server):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download("plays", url=f"{server}/whole", progress=interrupt)
    assert left_over() == []


def test_a_server_that_is_not_there_and_an_address_that_is_none(server, tmp_path):
    with pytest.raises(DataError, match="cannot be reached") as caught:
        download("plays", url="http://127.0.0.1:9/")
    assert "--from-file" in caught.value.hint
    (tmp_path / "secret").write_bytes(BODY)
    with pytest.raises(DataError, match="not a web address"):
        download("plays", url=f"file://{tmp_path}/secret")
    assert left_over() == []


def test_a_copy_on_this_machine_is_checked_too(tmp_path):
    copy = tmp_path / "copy.txt"
    copy.write_bytes(BODY[:-1])
    with pytest.raises(DataError, match="is too short"):
        download("plays", from_file=copy)
    with pytest.raises(DataError, match="cannot be read"):
        download("plays", from_file=tmp_path / "nothing")
    assert left_over() == []
    copy.write_bytes(BODY)
    assert download("plays", from_file=copy).read_bytes() == BODY
    assert copy.read_bytes() == BODY


def test_only_a_known_download_is_downloaded():
    with pytest.raises(DataError, match="fables need not be downloaded"):
        download("fables")
    with pytest.raises(DataError, match="did you mean tinyshakespeare"):
        download("tinyshakespear")


def test_texts_are_found_by_name_and_by_path(tmp_path):
    (fables,) = find_text("fables")
    assert fables.parent == folders.bundled_texts()
    assert find_text(str(fables)) == [fables]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("text")
    assert find_text(tmp_path / "folder") == [tmp_path / "folder" / "a.txt"]


def test_an_unknown_name_brings_the_nearest_and_a_missing_path_is_called_a_file():
    with pytest.raises(DataError, match="no text 'fabels': did you mean fables"):
        find_text("fabels")
    with pytest.raises(DataError, match=r"no file some/where\.txt"):
        find_text("some/where.txt")
    with pytest.raises(DataError, match="no text 'aaa"):
        find_text("a" * 300)
    with pytest.raises(DataError, match=r"tinyshakespeare is not downloaded yet: .*data get tinyshakespeare"):
        find_text("tinyshakespeare")


def test_the_users_own_texts_have_names(home):
    root = folders.private(folders.user_texts())
    (root / "notes.md").write_text("my notes")
    (root / "notes.txt").write_text("more notes")
    (root / "picture.png").write_bytes(b"\x89PNG")
    (root / ".plays.txt.x.part").write_bytes(b"half")
    (root / "letters").mkdir()
    (root / "letters" / "1.txt").write_text("dear reader")
    texts = {text.name: text for text in list_texts()}
    assert list(texts) == ["fables", "stdlib", "tinyshakespeare", "plays", "letters", "notes", "notes.txt"]
    assert texts["plays"].state == texts["tinyshakespeare"].state == "to download"
    assert texts["notes"].bytes == len("my notes")
    assert find_text("notes") == [root / "notes.md"]
    assert find_text("notes.txt") == [root / "notes.txt"]
    assert find_text("letters") == [root / "letters" / "1.txt"]


def test_the_standard_library_is_read_where_it_lies():
    files = find_text("stdlib")
    root = Path(sysconfig.get_path("stdlib"))
    names = {str(file.relative_to(root)) for file in files}
    assert {"argparse.py", "json/decoder.py", "asyncio/events.py"} <= names
    unwanted = ("test", "tests", "idlelib", "site-packages", "dist-packages", "encodings")
    assert not [name for name in names if set(Path(name).parts) & set(unwanted)]
    assert files == sorted(files)


def test_facts_about_a_text_are_counted(tmp_path):
    text = "aaa b\r\n\x1b[31mé\n" * 20 + "last"
    (tmp_path / "a.txt").write_bytes(text.encode())
    facts = describe(tmp_path / "a.txt", beginning=10)
    assert (facts.name, facts.files, facts.documents) == ("a", 1, 1)
    assert facts.bytes == len(text.encode())
    assert facts.characters == len(text) == facts.train_characters + facts.val_characters
    assert facts.train_characters == int(len(text) * 0.9)
    assert facts.distinct_characters == len(set(text))
    assert facts.lines == 41
    assert facts.most_common[0] == ("a", 61)
    assert facts.beginning == text[:10]
    assert facts.sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_a_corpus_remembers_names_and_whole_paths(tmp_path, monkeypatch):
    (tmp_path / "mine.txt").write_text("my text " * 20)
    monkeypatch.chdir(tmp_path)
    corpus = open_corpus(["fables", "mine.txt"], test="mine.txt")
    assert corpus.name == "fables-mine"
    assert corpus.sources == ("fables", str(tmp_path / "mine.txt"), str(tmp_path / "mine.txt"))
    assert corpus.test == ("my text " * 20,)
    assert open_corpus(["mine.txt"]).sha256 == describe("mine.txt").sha256
    assert open_corpus(["."]).name == tmp_path.name
