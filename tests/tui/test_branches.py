"""The tree of texts: whatever is written, forked, deleted and brought back, each branch keeps its text as it was."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field, replace

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scripted_client import MODEL, token

from engine.config import SamplingParams
from engine.worker.protocol import Done, ParamsChanged, Started, Tokens
from minigpt_tui import kept_branches
from minigpt_tui.branches import Branch, Branches
from minigpt_tui.kept_branches import BranchFile, Kept, kept_of, load_kept
from minigpt_tui.paths import branches_file
from minigpt_tui.writing import Writing

pytest_plugins = ("play_fixtures",)


def shown(writing: Writing) -> str:
    """The text with its marks."""
    document = writing.document
    return "".join(text for text, _ in document.runs_between(0, document.length))


def start(branches: Branches, writing: Writing, prompt: str) -> Branch:
    ids = tuple(map(ord, prompt))
    writing.start(Started(id=1, prompt=prompt, prompt_tokens=ids, seed=7), prompt, SamplingParams())
    return branches.begin(writing)


def write(writing: Writing, text: str) -> None:
    for character in text:
        event = Tokens(id=1, tokens=(token(writing.length, character),), context=1)
        writing.apply([event])


def change(writing: Writing, temperature: float) -> None:
    params = writing.params.replace(temperature=temperature)
    writing.apply([ParamsChanged(id=1, position=writing.length, params=params)])


def end(branches: Branches, writing: Writing) -> None:
    writing.apply(
        [Done(id=1, finish_reason="length", text="", prompt_tokens=1, new_tokens=writing.new_tokens, seed=7,
              tokens_per_second=9.0, time_to_first_token=0.1)]
    )  # fmt: skip
    if branches.current is not None:
        branches.keep(branches.current, writing)


def fork(branches: Branches, writing: Writing, position: int) -> Branch:
    before, offset = branches.current, writing.offset_at(position)
    assert before is not None
    writing.truncate(position)
    text = writing.document.text()
    writing.resume(Started(id=1, prompt=text, prompt_tokens=writing.tokens(), seed=7), writing.params)
    return branches.part_from(before, position, offset)


def read_anew(branches: Branches, writing: Writing) -> Branch:
    """Another model, whose ids are others, goes on."""
    before, document = branches.current, writing.document
    assert before is not None
    if (mark := document.trailing_mark()) is not None:
        document.truncate(mark)
    offset, text = document.length, document.text()
    ids = tuple(5000 + ord(character) for character in text)
    writing.resume_anew(Started(id=1, prompt=text, prompt_tokens=ids, seed=7), writing.params)
    return branches.read_anew(before, offset, ids)


@dataclass
class Plain:
    """What a branch must be, kept as plain lists."""

    ids: list[int]
    marked: str  # with marks
    ends: list[int]  # where the text of each token after the prompt ends in it
    first: int  # how many ids stand before those
    temperatures: list[float] = field(default_factory=list)  # of each of them

    def copy(self) -> Plain:
        return replace(self, ids=[*self.ids], ends=[*self.ends], temperatures=[*self.temperatures])

    def check(self, writing: Writing) -> None:
        assert list(writing.tokens()) == self.ids
        assert shown(writing) == self.marked
        assert writing.document.text() == "".join(chr(id % 5000) for id in self.ids)
        assert [writing.trace.end(place) for place in range(len(writing.trace))] == self.ends
        held = [writing.params_at(self.first + place).temperature for place in range(len(self.ends))]
        assert held == self.temperatures


WORDS = st.text("abcdefgh \n", min_size=1, max_size=12)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("start"), WORDS),
        st.tuples(st.just("write"), WORDS),
        st.tuples(st.just("change"), st.sampled_from([0.5, 0.8, 1.1, 1.5])),
        st.tuples(st.sampled_from(["fork", "go", "delete"]), st.integers(0, 1000)),
        st.tuples(st.sampled_from(["anew", "undo", "clear", "restart"]), st.none()),
    ),
    min_size=5,
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
@example([("start", "a"), ("start", "b"), ("fork", 0), ("delete", 1), ("restart", None)])
def test_every_branch_keeps_its_text_to_the_letter_whatever_is_done(steps):
    branches, writing = Branches(), Writing()
    plain: dict[int, Plain] = {}
    deleted: list[int] = []

    def temperature() -> float:
        return writing.params.temperature

    def note(branch: Branch, was: Plain) -> None:
        plain[branch.id] = was
        was.marked = shown(writing)

    for verb, what in steps:
        here = branches.current
        if verb == "start":
            branch = start(branches, writing, what)
            note(branch, Plain([*map(ord, what)], what, [], len(what)))
            end(branches, writing)
        elif verb == "clear":
            writing.clear()
            branches.current = None
        elif verb == "undo":
            back = branches.undo()
            assert (back.id if back else None) == (deleted.pop() if deleted else None)
        elif verb == "restart":
            kept = msgspec.msgpack.decode(msgspec.msgpack.encode(_stripped(kept_of(branches, None, ""))), type=Kept)
            kept_branches._check(kept)
            branches, old = Branches(), plain
            taken = branches.take_in(kept.branches)
            plain = {branch.id: old[id] for id, branch in taken.items() if not branch.hidden}
            deleted = []
            if kept.shown is None:
                writing.clear()
            else:
                branches.show(taken[kept.shown], writing)
        elif here is None:
            continue
        elif verb == "write":
            was = plain[here.id]
            for character in what:
                write(writing, character)
                was.ids.append(ord(character))
                was.ends.append(writing.document.length)
                was.temperatures.append(temperature())
            assert shown(writing) == was.marked + what
            was.marked += what
            end(branches, writing)
        elif verb == "change":
            change(writing, what)
            plain[here.id].marked = shown(writing)
            end(branches, writing)
        elif verb == "fork":
            was = plain[here.id].copy()
            position = was.first + what % (len(was.ends) + 1)
            count = position - was.first
            del was.ids[position:], was.ends[count:], was.temperatures[count:]
            branch = fork(branches, writing, position)
            text = was.marked[: was.ends[-1]] if was.ends else None
            note(branch, was)
            assert text is None or was.marked.startswith(text)
            end(branches, writing)
        elif verb == "anew":
            branch = read_anew(branches, writing)
            ids = [5000 + ord(character) for character in writing.document.text()]
            note(branch, Plain(ids, "", [], len(ids)))
            end(branches, writing)
        elif verb == "go":
            seen = [line.branch for line in branches.lines()]
            branches.show(seen[what % len(seen)], writing)
        elif verb == "delete":
            seen = [line.branch for line in branches.lines()]
            branch = seen[what % len(seen)]
            deleted.append(branch.id)
            branches.delete(branch)
            if branch is here:
                writing.clear()
        # Nothing is lost: what can be seen is all that was written and not deleted, and each reads as it was.
        seen = [line.branch for line in branches.lines()]
        assert {branch.id for branch in seen} == plain.keys() - {*deleted}
        if branches.current is not None:
            plain[branches.current.id].check(writing)
        for branch in [*branches]:
            if branch.id in plain:
                other, current = Writing(), branches.current
                branches.show(branch, other)
                branches.current = current
                plain[branch.id].check(other)


def _stripped(kept: Kept) -> Kept:
    for branch in kept.branches:
        branch.part = branch.part.without_alternatives()
    return kept


def test_a_long_text_that_is_forked_fifty_times_stays_small():
    branches, writing = Branches(), Writing()
    root = start(branches, writing, "p")
    batch = (msgspec.structs.replace(token(1, "x"), top=()),) * 200_000
    writing.apply([Tokens(id=1, tokens=batch, context=1)])
    end(branches, writing)
    for place in range(50):
        if place % 10 == 0:
            branches.show(root, writing)
        fork(branches, writing, 40_000 - 800 * (place % 10) - place)
        write(writing, "abc")
        end(branches, writing)
    own = [len(branch.part.trace) for branch in branches]
    assert own == [200_000, *[3] * 50]
    data = msgspec.msgpack.encode(_stripped(kept_of(branches, None, "")))
    assert len(data) < 30 * 200_000
    branches.show(branches[51], writing)
    assert writing.document.text() == "p" + "x" * (writing.length - 4) + "abc"


def test_what_could_have_come_is_known_in_a_branch_that_shares_its_beginning():
    branches, writing = Branches(), Writing()
    start(branches, writing, "p")
    write(writing, "abcdef")
    end(branches, writing)
    child = fork(branches, writing, 4)
    write(writing, "XY")
    end(branches, writing)
    branches.show(child, writing)
    tokens = [writing.trace.token(place) for place in range(5)]
    assert [found.piece for found in tokens] == [*"abcXY"]
    assert all(len(found.top) == 8 for found in tokens)
    assert writing.latest[0].logprob == pytest.approx(math.log(0.41))


def test_half_a_character_at_the_end_becomes_whole_where_the_text_goes_on():
    writing = Writing()
    writing.start(Started(id=1, prompt="a", prompt_tokens=(1,), seed=7), "a", SamplingParams())
    half = msgspec.structs.replace(token(1, ""), token=195, piece="\ufffd")
    whole = msgspec.structs.replace(token(2, "é"), token=169, piece="\ufffd")
    done = Done(id=1, finish_reason="length", text="\ufffd", prompt_tokens=1, new_tokens=1, seed=7,
                tokens_per_second=0.0, time_to_first_token=0.0)  # fmt: skip
    writing.apply([Tokens(id=1, tokens=(half,), context=2), done])
    assert writing.document.text() == "a\ufffd"
    writing.resume(Started(id=1, prompt="a\ufffd", prompt_tokens=(1, 195), seed=7), SamplingParams())
    writing.apply([Tokens(id=1, tokens=(whole,), context=3)])
    assert writing.document.text() == "aé"


# On the disk.


def a_tree() -> tuple[Branches, Writing]:
    branches, writing = Branches(), Writing()
    start(branches, writing, "ab")
    writing.model, writing.asked_model = MODEL, "shakespeare"
    write(writing, "cdef")
    change(writing, 1.2)
    write(writing, "gh")
    end(branches, writing)
    fork(branches, writing, 4)
    write(writing, "XYZ")
    end(branches, writing)
    return branches, writing


def test_a_tree_comes_back_from_the_disk_as_it_was(own_home):
    branches, writing = a_tree()
    file = BranchFile()
    file.write(kept_of(branches, 3, "a draft\nof two lines"), file.number())
    kept, problem = load_kept()
    assert not problem
    assert (kept.top, kept.draft) == (3, "a draft\nof two lines")
    again, other = Branches(), Writing()
    taken = again.take_in(kept.branches)
    again.show(taken[kept.shown], other)
    assert (shown(other), other.tokens(), other.facts) == (shown(writing), writing.tokens(), writing.facts)
    assert other.settings == writing.settings
    branches.show(branches[1], writing)
    again.show(again[1], other)
    assert shown(other) == shown(writing) == "abcdef⟨temperature 1.20⟩gh"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"{}",
        lambda data: data.replace(b"\xa6offset\x04", b"\xa6offset\x63"),
        lambda data: data.replace(b"\xa6parent\x01", b"\xa6parent\x02"),
        lambda data: data.replace(b"\xa8position\x04", b"\xa8position\x1f"),
    ],
    ids=["cut", "empty", "other", "offset", "parent", "position"],
)
def test_a_damaged_file_is_set_aside_and_said_to_be(own_home, damage):
    branches, _ = a_tree()
    file = BranchFile()
    file.write(kept_of(branches, None, ""), file.number())
    data = branches_file().read_bytes()
    assert damage(data) != data
    branches_file().write_bytes(damage(data))
    kept, problem = load_kept()
    assert (kept.branches, kept.draft) == ([], "")
    assert "could not be read" in problem
    assert branches_file().with_suffix(".damaged").read_bytes() == damage(data)
    assert load_kept() == (Kept(), "")


def test_a_file_of_a_newer_version_is_kept_as_it_is(own_home):
    path = branches_file()
    path.parent.mkdir(parents=True)
    data = msgspec.msgpack.encode({"version": 2, "forest": 1})
    path.write_bytes(data)
    kept, problem = load_kept()
    assert not kept.branches
    assert "newer version" in problem
    assert path.with_suffix(".newer").read_bytes() == data


def test_the_oldest_go_where_the_file_would_be_too_long_and_never_what_is_shown(own_home, monkeypatch):
    branches, writing = Branches(), Writing()
    for number in range(20):
        start(branches, writing, f"{number:02}")
        write(writing, "x" * 200)
        end(branches, writing)
        branches[number + 1].made = float(number)
    one = branches[1].weight
    monkeypatch.setattr(kept_branches, "KEPT_BYTES", 5 * one)
    branches.current = branches[1]
    kept = kept_of(branches, None, "")
    assert [branch.id for branch in kept.branches] == [1, 17, 18, 19, 20]
    assert kept.shown == 1


def test_what_is_written_last_stays_however_many_threads_write(own_home):
    branches, _ = a_tree()
    file = BranchFile()
    numbered = [(kept_of(branches, None, str(place)), file.number()) for place in range(12)]
    threads = [threading.Thread(target=file.write, args=pair) for pair in reversed(numbered)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert load_kept()[0].draft == "11"
    assert [path.name for path in branches_file().parent.iterdir()] == ["branches.msgpack"]


def test_half_characters_in_a_draft_do_not_stop_it_from_being_kept(own_home):
    file = BranchFile()
    file.write(kept_of(Branches(), None, "a\ud800b"), file.number())
    assert load_kept()[0].draft == "a?b"


def test_a_deleted_branch_leaves_what_parts_from_it():
    branches, _ = a_tree()
    root, child = branches[1], branches[2]
    branches.delete(root)
    assert [(line.branch.id, line.depth) for line in branches.lines()] == [(child.id, 0)]
    other = Writing()
    branches.show(child, other)
    assert other.document.text() == "abcdXYZ"
    assert branches.undo() is root
    assert [line.depth for line in branches.lines()] == [0, 1]
