"""Texts that come from another machine: each is kept once, under a path that means it alone, and is never lost."""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine import folders, safe_writing
from engine.text.library import find_text, list_texts
from engine.text.path_completion import complete
from engine.text.sent_texts import keep_text


@pytest.fixture(autouse=True)
def texts(tmp_path, monkeypatch) -> Path:
    """The folder of texts; whoever reads them stands in a home beside it."""
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "own"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    return folders.private(folders.user_texts())


def test_what_was_sent_is_what_is_read_also_where_a_folder_has_its_name(texts):
    for name in ("notes", "checkpoints"):
        Path(name).mkdir()
        Path(name, "diary.txt").write_text("not this")
        assert find_text(keep_text(f"{name}.txt", b"this")) == [texts / f"{name}.txt"]


def test_what_was_sent_before_is_that_text_and_not_another_of_its_name(texts):
    (texts / "a.md").write_text("mine")
    (texts / "a.txt").write_text("sent")
    (texts / "fables.txt").write_text("sent")
    for name in ("a.txt", "fables.txt"):
        [found] = find_text(keep_text(name, b"sent"))
        assert found == texts / name
    assert len(list(texts.iterdir())) == 3


def test_texts_of_one_name_that_come_at_the_same_moment_are_all_kept(texts, monkeypatch):
    all_have_looked = threading.Barrier(2, timeout=0.3)
    write_file = safe_writing.write_file

    def write(path: Path, data: bytes) -> None:
        with contextlib.suppress(
            threading.BrokenBarrierError
        ):  # as it should be: the others wait until this is written
            all_have_looked.wait()
        write_file(path, data)

    monkeypatch.setattr(safe_writing, "write_file", write)
    sent = [f"text {number}".encode() for number in range(4)]
    with ThreadPoolExecutor(len(sent)) as pool:
        kept = list(pool.map(lambda data: keep_text("song.txt", data), sent))
    assert [Path(path).read_bytes() for path in kept] == sent


@pytest.mark.posix
def test_a_link_to_nowhere_is_no_text_and_nothing_takes_its_place(texts):
    (texts / "gone.txt").symlink_to(texts / "nothing.txt")
    (texts / "circle.txt").symlink_to("circle.txt")
    (texts / "folder").mkdir()
    (texts / "folder" / "a.txt").write_text("four")
    (texts / "folder" / "b.txt").symlink_to("nothing.txt")
    assert not {"gone", "circle"} & {text.name for text in list_texts()}
    assert next(text.bytes for text in list_texts() if text.name == "folder") == 4
    assert keep_text("gone.txt", b"new") == str(texts / "gone-2.txt")
    assert (texts / "gone.txt").is_symlink()


@pytest.mark.posix
def test_a_link_that_cannot_be_followed_is_offered_like_a_file(tmp_path):
    (tmp_path / "po").mkdir()
    (tmp_path / "poem.txt").write_text("x")
    (tmp_path / "poet").symlink_to("poet")
    found = complete(f"{tmp_path}/po").entries
    assert [(entry.name, entry.is_folder, entry.size) for entry in found] == [
        ("po", True, None),
        ("poem.txt", False, 1),
        ("poet", False, None),
    ]


@pytest.mark.posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root looks anywhere")
def test_a_link_into_a_folder_that_is_closed_is_no_text_and_ends_nothing(texts, tmp_path):
    (tmp_path / "closed" / "inside").mkdir(parents=True)
    for name in ("closed.txt", "folder"):
        (texts / name).symlink_to(tmp_path / "closed" / "inside")
    (tmp_path / "closed").chmod(0)
    try:
        assert not {"closed", "folder"} & {text.name for text in list_texts()}
        assert not any(entry.is_folder for entry in complete(f"{texts}/").entries)
    finally:
        (tmp_path / "closed").chmod(0o700)


@pytest.mark.posix
def test_a_path_is_parted_as_the_machine_that_completes_it_does(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.text.path_completion.SEPARATORS", "\\/")
    begun = f"{tmp_path}/Gedichte\\"  # such a folder, to this system
    Path(begun).mkdir()
    Path(begun, "poem.txt").write_text("x")
    found = complete(f"{begun}po")
    assert found.folder == begun
    assert [entry.name for entry in found.entries] == ["poem.txt"]
