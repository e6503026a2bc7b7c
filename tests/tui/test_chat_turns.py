"""What a chat is made of: its tree of turns, how they are written down, where the model's turn ends, and where it stops
seeing what was said."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import CheckpointError
from engine.inference.window import window_start
from engine.text.chat import SpecialTokens
from minigpt_tui.chat import kept
from minigpt_tui.chat.asking import Voice, ask, hear, messages_of
from minigpt_tui.chat.edge import exact_edge, told_edge
from minigpt_tui.chat.report import as_json, as_markdown, as_text
from minigpt_tui.chat.script import OF_MODEL, PLAIN, PLAY, Script, TurnEnd, lay, names_in, read, stops, written
from minigpt_tui.chat.turns import Chat, Turn, new_chat

OWN = Script(kind="own", you="### Human", model="### Bot", after=":\n", between="\n\n", stop=())


def talk(*words: str) -> Chat:
    """A chat in which the two spoke in turns."""
    chat, before = new_chat(), None
    for place, text in enumerate(words):
        turn = chat.add(before, "assistant" if place % 2 else "user", "ROMEO" if place % 2 else "JULIET", text)
        before = turn.id
    return chat


def texts(chat: Chat) -> list[str]:
    return [turn.text for turn in chat.path()]


def test_saying_something_else_keeps_what_followed_and_going_back_brings_all_of_it():
    chat = talk("a", "b", "c", "d")
    first, second = chat.path()[:2]
    other = chat.add(second.id, "user", "JULIET", "C")
    chat.add(other.id, "assistant", "ROMEO", "D")
    assert texts(chat) == ["a", "b", "C", "D"]
    before = chat.versions(other)[0]
    chat.show(before)
    assert texts(chat) == ["a", "b", "c", "d"]
    chat.add(first.id, "assistant", "ROMEO", "B")
    assert texts(chat) == ["a", "B"]
    chat.show(second)  # as far as it was shown last
    assert texts(chat) == ["a", "b", "c", "d"]
    chat.check()


def test_an_answer_of_which_nothing_came_leaves_no_trace():
    chat = talk("a", "b")
    question = chat.path()[0]
    empty = chat.add(question.id, "assistant", "ROMEO")
    chat.drop(empty)
    assert texts(chat) == ["a"]
    assert question.child == chat.turns[1].id
    chat.check()


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (PLAY, "A night.\n\nJULIET:\nWhat now?\n\nROMEO:\nI go.\n\nJULIET:\nStay.\n\nROMEO:\n"),
        (PLAIN, "A night.\nJULIET: What now?\nROMEO: I go.\nJULIET: Stay.\nModel:"),
        (OWN, "A night.\n\nJULIET:\nWhat now?\n\nROMEO:\nI go.\n\nJULIET:\nStay.\n\n### Bot:\n"),
    ],
)
def test_turns_are_written_down_as_the_template_has_it(script, text):
    turns = talk("What now?", "I go.\n", "Stay.").path()
    laid = lay(script, "A night.", turns)
    assert laid.text == text
    assert [laid.text[start:end].rstrip() for start, end in laid.spans] == ["What now?", "I go.", "Stay."]


def test_who_speaks_under_another_name_stands_there_with_it():
    turns = talk("a", "b").path()
    turns[0].name = "First Citizen"
    assert lay(PLAY, "", turns, answered=False).text == "First Citizen:\na\n\nROMEO:\nb"
    assert names_in(PLAY, turns) == ["JULIET", "ROMEO", "First Citizen"]


def end_of(script: Script, text: str, names=("JULIET", "ROMEO"), size: int = 1) -> tuple[str, bool]:
    """What was shown of an answer at its end, checked at each step of its way."""
    end, shown = TurnEnd(script, names), ""
    for place in range(0, len(text) + size, size):
        now = text[: place + size][: end.look(text[: place + size])]
        assert now.startswith(shown)  # what was shown is never taken back
        shown = now
        if end.found:
            return shown, True
    return text[: end.look(text, whole=True)], end.found


@pytest.mark.parametrize(
    ("text", "shown", "found"),
    [
        ("I go.\nFarewell.\n\nJULIET:\nStay", "I go.\nFarewell.", True),
        ("I go.\nJULIET:\nStay", "I go.", True),  # without an empty line
        ("I go.\nKING RICHARD III:\nNo", "I go.", True),  # one who was never heard
        ("I go.\nFirst Citizen:\nNo", "I go.", True),
        ("\nJULIET:\nStay", "", True),  # says nothing
        ("JULIET:\nStay", "", True),
        ("And said:\nBe gone", "And said:\nBe gone", False),  # a verse that ends with a colon
        ("I go.\nO, JULIET: stay\n", "I go.\nO, JULIET: stay\n", False),
        ("I go.\nJULIET: stay", "I go.\nJULIET: stay", False),  # spoken to, and not alone on its line
        ("I\ngo", "I\ngo", False),
        ("I go.\nROMEO:", "I go.", True),  # cut right there
        ("I go.\nJUL", "I go.", False),  # nor a part of it
        ("I go.\n", "I go.\n", False),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_next_name_is_never_shown_whoever_it_is(text, shown, found, size):
    assert end_of(PLAY, text, ("JULIET", "ROMEO", "First Citizen"), size) == (shown, found)


@pytest.mark.parametrize(
    ("text", "shown", "found"),
    [(" I go.\nYou: stay", " I go.", True), (" I go.\nNote: stay", " I go.\nNote: stay", False)],
)
def test_in_a_dialogue_only_those_who_speak_end_a_turn(text, shown, found):
    assert end_of(PLAIN, text, ("You", "Model")) == (shown, found)


@given(st.text(alphabet="JULIETROMO:\n ab", max_size=60), st.integers(1, 9))
def test_what_is_shown_is_never_taken_back_and_holds_no_name(text, size):
    shown, _ = end_of(PLAY, text, size=size)
    assert text.startswith(shown)
    assert not any(line in ("JULIET:", "ROMEO:") for line in shown.split("\n"))


def test_a_name_without_a_mark_is_one_where_it_is_all_that_stands_on_its_line():
    bare = Script(kind="own", you="You", model="Bot", after="\n", between="\n", stop=())
    assert stops(bare, ["You"]) == ("\nYou\n",)
    assert end_of(bare, "I\nYou know\nA\nYou\nHi", ("You", "Bot")) == ("I\nYou know\nA", True)


def test_a_template_of_the_models_own_is_cut_nowhere():
    assert end_of(OF_MODEL, "USER:\nx") == ("USER:\nx", False)


def test_stop_strings_end_a_turn_at_the_next_name_or_an_empty_line():
    assert stops(PLAY, ["JULIET", "ROMEO"]) == ("\n\n", "\nJULIET:", "\nROMEO:")
    assert stops(PLAIN, ["You", "Model"]) == ("\nYou:", "\nModel:")
    assert stops(Script(kind="own", you="A", model="B", after=": ", between=" / ", stop=("END",)), ["A"]) == (
        "END",
        " / A:",
    )


@given(st.text(alphabet=" \n\t\\abns:", max_size=8))
def test_what_stands_between_turns_can_be_typed(text):
    assert read(written(text)) == text


# What the model sees.


def test_the_edge_is_where_the_window_begins_to_the_character():
    turns = talk("a" * 30, "b" * 30, "c" * 30).path()
    text = lay(PLAY, "", turns).text
    assert exact_edge(PLAY, "", turns, len(text)) == (0, 0, len(text), len(text))
    edge = exact_edge(PLAY, "", turns, 64)
    start = window_start(len(text), 64)
    begins = [span[0] for span in lay(PLAY, "", turns).spans]
    assert (edge.turn, edge.offset) == (1, start - begins[1])
    assert edge.seen == len(text) - start


def test_characters_that_the_model_does_not_know_are_no_tokens():
    plain, strange = talk("a" * 40, "b" * 40).path(), talk("a☃" * 40, "b" * 40).path()
    one, other = exact_edge(PLAY, "", plain, 64), exact_edge(PLAY, "", strange, 64, unknown="☃")
    assert one.length == other.length
    assert (one.turn, one.seen) == (other.turn, other.seen)
    begun = talk("☃" * 40 + "a" * 80).path()
    edge = exact_edge(PLAY, "", begun, 64, unknown="☃")
    shown = begun[0].text[edge.offset :]
    assert len(shown.replace("☃", "")) + len("\n\nROMEO:\n") == edge.seen


def test_a_model_that_told_how_long_its_answers_were_has_an_edge_too():
    turns = talk("a" * 100, "b" * 100, "c" * 100, "d" * 100, "e").path()
    assert told_edge(turns, 64) is None
    turns[1].prompt_tokens, turns[1].new_tokens = 30, 20
    turns[3].prompt_tokens, turns[3].new_tokens = 80, 20
    edge = told_edge(turns, 64)
    assert edge.length == 100
    assert edge.seen == 100 - window_start(100, 64) == 36
    assert edge.turn == 2  # from 50 to 80, and the window begins at 64
    assert edge.offset == pytest.approx(100 * 14 / 30, abs=1)
    assert told_edge(turns, 64, "f" * 400).length > edge.length


# What the model is asked.


async def test_a_model_with_a_template_is_asked_by_it_and_one_whose_template_is_damaged_says_so(tmp_path):
    template = "{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}"
    voice = Voice(template, SpecialTokens("<s>", "</s>", ("<s>", "</s>")))
    question = await ask(OF_MODEL, voice, "Be brief.", talk("a", "b", "c").path())
    assert question.prompt == "user=a;assistant=b;user=c;"  # it is not known to have a place for a system message
    assert question.template
    assert question.stop == ("</s>",)
    assert "<s>\ufdd1" in (await ask(OF_MODEL, voice, "", talk("a").path(), "x<s>")).prompt
    with pytest.raises(CheckpointError, match="no chat template"):
        await ask(OF_MODEL, Voice(), "", talk("a").path())
    (tmp_path / "tokenizer_config.json").write_text("{")
    assert "damaged" in (await hear(str(tmp_path))).problem
    assert await hear(str(tmp_path / "nowhere")) == Voice()


@pytest.mark.parametrize(
    ("template", "has"),
    [
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}", True),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", False),
        ("{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}", False),
        ("{{ oops", False),
    ],
)
async def test_a_template_is_asked_whether_it_has_a_place_for_a_system_message(tmp_path, template, has):
    (tmp_path / "chat_template.jinja").write_text(template)
    assert (await hear(str(tmp_path))).has_system == has


def test_two_turns_without_an_answer_between_them_are_one_message():
    turns = [Turn(id=n, parent=None, role="user", text=text) for n, text in enumerate("ab")]
    assert messages_of(turns, "s") == [{"role": "system", "content": "s"}, {"role": "user", "content": "a\n\nb"}]


# On the disk.


@pytest.fixture
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path))
    return tmp_path / "state"


def test_a_chat_and_the_desk_come_back_as_they_were(own_state):
    files, chat = kept.ChatFiles(), talk("a", "b")
    chat.add(chat.path()[0].id, "assistant", "ROMEO", "B")  # is being written
    chat.system = "A night."
    desk = kept.Desk(open=chat.id, draft="and", scripts={"shakespeare": PLAIN})
    for what in (chat, desk):
        assert files.write(*files.snapshot(what))
    found = kept.load_desk()
    assert found.desk == desk
    assert [turn.finish_reason for turn in found.chat.turns] == ["", "lost", "lost"]
    assert texts(found.chat) == ["a", "B"]
    assert [(row.key, row.title, row.turns) for row in kept.list_chats()] == [(chat.id, "a", 3)]


def test_of_two_writings_the_newer_stays_and_what_was_deleted_does_not_come_back(own_state):
    files, chat = kept.ChatFiles(), talk("a")
    old = files.snapshot(chat)
    chat.add(chat.leaf, "assistant", "ROMEO", "b")
    files.write(*files.snapshot(chat))
    files.write(*old)
    assert len(kept.load_chat(chat.id).turns) == 2
    late = files.snapshot(chat)
    files.remove(chat.id)
    files.write(*late)
    assert kept.list_chats() == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: data[: len(data) // 2], "damaged"),
        (lambda data: data.replace(b'"id": 2', b'"id": 1'), "damaged"),
        (lambda data: data.replace(b'"leaf": 2', b'"leaf": 7'), "damaged"),
        (lambda data: data.replace(b'"parent": 1', b'"parent": 2'), "damaged"),
        (lambda data: data.replace(b"{", b'{"version": 9,', 1), "newer"),
    ],
)
def test_a_damaged_or_newer_chat_is_set_aside_and_said(own_state, change, why):
    files, chat = kept.ChatFiles(), talk("a", "b")
    for what in (chat, kept.Desk(open=chat.id)):
        files.write(*files.snapshot(what))
    path = kept.chats_folder() / f"{chat.id}.json"
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before
    found = kept.load_desk()
    assert found.chat is None
    assert f"{chat.id}.{why}" in found.problem
    assert path.with_suffix(f".{why}").exists()
    assert not path.exists()


def test_a_chat_is_saved_to_be_read_and_for_programs():
    chat = talk("What\nnow?", "I go.")
    chat.path()[1].model = "shakespeare"
    chat.add(chat.path()[0].id, "assistant", "ROMEO", "No.")
    markdown = as_markdown(chat, PLAY)
    assert markdown.startswith("# What now?")
    assert "**JULIET**\n\nWhat  \nnow?\n\n**ROMEO**\n\nNo." in markdown
    assert "I go" not in markdown
    told = json.loads(as_json(chat, PLAY))
    assert [message["content"] for message in told["messages"]] == ["What\nnow?", "No."]
    assert [turn["text"] for turn in told["turns"]] == ["What\nnow?", "I go.", "No."]
    assert as_text(msgspec.structs.replace(OF_MODEL), "", chat.path()) == "JULIET: What\nnow?\n\nROMEO: No."
