"""Branches on the Play screen, with an engine that says what each test wants: forks, steps, the tree, what is deleted,
what goes into the history, and what comes back from it."""

from __future__ import annotations

import msgspec
import pytest
from scripted_client import MODEL, ScriptedClient
from test_play_screen import NARROW, WIDE, begin, marks, settled, shown

from engine.config import SamplingParams
from engine.errors import ModelNotFoundError, WorkerError
from engine.worker.protocol import ParamsAt
from minigpt_tui.app import MiniGPTApp
from minigpt_tui.history.entry import Entry
from minigpt_tui.wishes import Written

pytest_plugins = ("play_fixtures",)


@pytest.fixture
def written(monkeypatch) -> list[Entry]:
    """What goes into the history."""
    entries: list[Entry] = []
    monkeypatch.setattr(MiniGPTApp, "on_written", lambda self, event: entries.append(event.entry))
    return entries


async def write(pilot, client: ScriptedClient, text: str, *, seed: int = 7, prompt: str | None = None) -> None:
    """Let the engine answer what was asked last, and end."""
    await settled(pilot)
    stream = client.streams[-1]
    stream.start(seed=seed, text=prompt)
    stream.write(text)
    stream.finish()
    await settled(pilot)


async def a_text(pilot, client: ScriptedClient, prompt: str = "ab", text: str = "cdefgh") -> None:
    (await begin(pilot, client, prompt, text)).finish()
    await settled(pilot)


def texts(app: MiniGPTApp) -> list[str]:
    """The text of every branch, in the order of the tree; what is shown stays."""
    branches, writing = app.play.branches, app.play.writing
    shown_now = branches.current
    app.play._keep()
    found = []
    for line in branches.lines():
        branches.show(line.branch, writing)
        found.append(writing.document.text())
    if shown_now is not None:
        branches.show(shown_now, writing)
    return found


async def test_every_regeneration_and_new_prompt_is_kept_and_clear_loses_nothing(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        app = pilot.app
        await a_text(pilot, client)
        await pilot.press("g")
        await write(pilot, client, "xyz")
        await pilot.press("G")
        await write(pilot, client, "xyz!")
        await pilot.press("x")
        await settled(pilot)
        assert app.play.writing.is_empty
        await pilot.press("z")
        await write(pilot, client, "nothing")
        assert texts(app) == ["abcdefgh", "abxyz", "abxyz!", "nothing"]
        assert "branch 4 of 4" in shown(app, "#text")
        assert [len(branch.part.trace) for branch in app.play.branches] == [6, 3, 4, 7]


async def test_a_continuation_is_the_same_branch_also_where_others_part_from_it(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        app = pilot.app
        await a_text(pilot, client)
        app.play.fork_at(5)
        await write(pilot, client, "XY", prompt="abcde")
        assert client.streams[-1].prompt_tokens == (0, 1, *map(ord, "cde"))
        assert client.streams[-1].params.seed == 7
        await pilot.press("B", "c")
        await write(pilot, client, "ij", prompt="abcdefgh")
        assert texts(app) == ["abcdefghij", "abcdeXY"]


async def test_a_fork_with_a_chosen_token_goes_on_behind_it(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        app = pilot.app
        await a_text(pilot, client)
        writing = app.play.writing
        chosen = writing.trace.token(2).top[1]  # at hand: of the likeliest there
        app.play.fork_at(4, chosen.token)
        await settled(pilot)
        assert client.streams[-1].prompt_tokens == (0, 1, *map(ord, "cd"), chosen.token)
        await write(pilot, client, "Q", prompt=f"abcd{chosen.text}")
        assert writing.document.text() == "abcd Q"
        found = writing.trace.token(2)
        assert (found.token, found.piece, found.rank) == (chosen.token, chosen.text, 2)
        assert not client.inspections
        app.play.fork_at(3, ord("k"))  # nobody knows how likely it was there: the model is asked
        await settled(pilot)
        assert client.inspections[-1]["tokens"] == (0, 1, ord("c"), ord("k"))
        await write(pilot, client, "R", prompt="abck")
        assert writing.document.text() == "abckR"
        assert writing.trace.token(1).logprob < -1
        assert texts(app) == ["abcdefgh", "abcd Q", "abckR"]


async def test_a_fork_inside_the_prompt_begins_anew_with_its_tokens(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        app = pilot.app
        await a_text(pilot, client, "abc", "def")
        app.play.fork_at(2, ord("Z"))
        await settled(pilot)
        assert client.streams[-1].prompt_tokens == (0, 1, ord("Z"))
        await write(pilot, client, "w", prompt="abZ")
        assert texts(app) == ["abcdef", "abZw"]
        assert [line.depth for line in app.play.branches.lines()] == [0, 0]


async def test_f_says_where_the_same_text_would_be_written_and_F_draws_a_seed(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        app = pilot.app
        await a_text(pilot, client)
        await pilot.press("f")
        await write(pilot, client, "ij", prompt="abcdefgh")
        await pilot.press("B", "f")
        await settled(pilot)
        assert "that text is there already" in shown(app, "#status")
        assert len(client.streams) == 2
        await pilot.press("F")
        await settled(pilot)
        assert client.streams[-1].params.seed != 7
        await write(pilot, client, "kl", prompt="abcdefgh", seed=client.streams[-1].params.seed)
        await pilot.press("B", "T", "f")
        await write(pilot, client, "mn", prompt="abcdefgh")
        assert texts(app) == ["abcdefgh", "abcdefghij", "abcdefghkl", "abcdefghmn"]
        assert marks(app) == ["⟨temperature 0.85⟩"]


async def test_the_tree_shows_each_branch_at_once_and_names_where_it_parts(make_app, client):
    async with make_app().run_test(size=(140, 40)) as pilot:
        app = pilot.app
        await a_text(pilot, client)
        await pilot.press("T")
        app.play.fork_at(5)
        await write(pilot, client, "other words", prompt="abcde")
        await pilot.press("b")
        await settled(pilot)
        assert app.focused.id == "branches"
        tree = shown(app, "#branches")
        assert "Branches · 2" in tree
        assert "└ 5 other words" in tree
        assert "temp 0.85" in tree or "temp…" in tree
        await pilot.press("up")
        await settled(pilot)
        assert "abcdefgh" in shown(app, "#text")
        assert "branch 1 of 2" in shown(app, "#text")
        await pilot.press("down", "enter")
        await settled(pilot)
        assert app.focused.id == "text"
        assert app.play.writing.document.text() == "abcdeother words"
        await pilot.press("V")
        assert "no other branch" in shown(app, "#status")
        await pilot.click("#branches", offset=(5, 1))
        await settled(pilot)
        assert app.play.writing.document.text() == "abcdefgh"
        await pilot.press("b")
        await settled(pilot)
        assert not app.screen.query_one("#branches").display


@pytest.mark.parametrize("size", [NARROW, (60, 20)])
async def test_a_narrow_terminal_lays_the_tree_over_the_text(make_app, client, size):
    async with make_app().run_test(size=size) as pilot:
        app = pilot.app
        await a_text(pilot, client)
        await pilot.press("g")
        await write(pilot, client, "xyz")
        await pilot.press("b")
        await settled(pilot)
        region = app.screen.query_one("#branches").region
        assert "└ 2 xyz" in shown(app, "#branches")
        assert region.height >= 4
        assert region.right <= size[0]
        for _ in range(9):
            await pilot.press("g")
            await write(pilot, client, "more")
        await settled(pilot)
        region = app.screen.query_one("#branches").region
        assert region.bottom <= app.screen.query_one("#text").region.bottom
        assert "›●└ 2 more" in shown(app, "#branches")
        await pilot.press("home", "down", "up", "escape")
        await settled(pilot)
        assert app.focused.id == "text"
        assert not app.screen.query_one("#branches").display
        assert app.play.writing.document.text() == "abcdefgh"


async def test_a_branch_that_is_left_in_mid_stream_is_ended_and_kept_and_goes_on_to_the_letter(
    make_app, client, written
):
    async with make_app().run_test(size=WIDE) as pilot:
        app = pilot.app
        await a_text(pilot, client)
        await pilot.press("g")
        await settled(pilot)
        stream = client.streams[-1]
        stream.start(seed=9)
        stream.write("xy")
        await settled(pilot)
        await pilot.press("B")
        await settled(pilot)
        assert app.play.writing.document.text() == "abcdefgh"
        assert stream.closed
        assert not app.play._live.running
        assert [(entry.text, entry.finish_reason) for entry in written] == [("cdefgh", "length"), ("xy", "cancelled")]
        await pilot.press("b", "down", "enter", "c")
        await settled(pilot)
        assert client.streams[-1].prompt_tokens == (0, 1, *map(ord, "xy"))
        assert client.streams[-1].params.seed == 9
        await write(pilot, client, "z", prompt="abxy", seed=9)
        assert texts(app) == ["abcdefgh", "abxyz"]


async def test_a_deleted_branch_comes_back_with_u_and_those_that_part_from_it_stay(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        app = pilot.app
        await a_text(pilot, client)
        await pilot.press("g")
        await write(pilot, client, "xyz")
        await pilot.press("b", "up", "D")
        await settled(pilot)
        assert texts(app) == ["abxyz"]
        assert app.play.writing.document.text() == "abxyz"
        await pilot.press("D")
        await settled(pilot)
        assert texts(app) == []
        assert app.play.writing.is_empty
        await pilot.press("u", "u")
        await settled(pilot)
        assert texts(app) == ["abcdefgh", "abxyz"]
        assert app.play.writing.document.text() == "abcdefgh"
        await pilot.press("u")
        assert "nothing was deleted" in shown(app, "#status")


async def test_each_step_writes_one_token_and_all_of_them_are_one_generation(make_app, client, written):
    async with make_app().run_test(size=WIDE) as pilot:
        app = pilot.app
        await a_text(pilot, client)
        await pilot.press("j", "j", "j")  # faster than the engine: none is lost
        text = "abcdefgh"
        for count, character in enumerate("ijk"):
            await settled(pilot)
            assert len(client.streams) == 2 + count
            assert client.streams[-1].params == SamplingParams(seed=7, max_new_tokens=1)
            await write(pilot, client, character, prompt=text)
            text += character
        await pilot.press("T", "j")
        await write(pilot, client, "l", prompt=text)
        assert app.play.writing.document.text() == "abcdefghijkl"
        assert marks(app) == ["⟨temperature 0.85⟩"]
        assert len(app.play.branches) == 1
        assert [entry.text for entry in written] == ["cdefgh"]
        await pilot.press("c")
        await write(pilot, client, "m", prompt="abcdefghijkl")
        assert [entry.text for entry in written] == ["cdefgh", "ijkl", "m"]
        stepped = written[1]
        assert stepped.prompt == "abcdefgh"
        assert len(stepped.prompt_tokens) == 8
        assert [(change.position, change.params.temperature) for change in stepped.changes] == [
            (11, pytest.approx(0.85))
        ]


async def test_a_step_ends_what_streams_and_goes_on_from_there(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client, "ab", "cd")
        await pilot.press("j")
        await settled(pilot)
        assert stream.closed
        assert client.streams[-1].prompt_tokens == (0, 1, *map(ord, "cd"))
        await write(pilot, client, "e", prompt="abcd")
        assert pilot.app.play.writing.document.text() == "abcde"


async def test_a_step_can_be_chosen_and_the_next_goes_on_behind_it(make_app, client, written):
    async with make_app().run_test(size=WIDE) as pilot:
        app = pilot.app
        await a_text(pilot, client)
        app.play.step(ord("k"))
        await settled(pilot)
        client.streams[-1].start(text="abcdefghk")
        await settled(pilot)
        assert app.play.writing.document.text() == "abcdefghk"
        assert app.play.writing.tokens()[-1] == ord("k")
        assert client.streams[-1].closed
        await pilot.press("j")
        await write(pilot, client, "l", prompt="abcdefghk")
        app.play.step(ord("k"))
        await settled(pilot)
        client.streams[-1].start(text="abcdefghklk")
        await settled(pilot)
        assert app.play.writing.document.text() == "abcdefghklk"
        # What was chosen is part of the prompt of what was drawn behind it.
        assert [(entry.prompt, entry.text) for entry in written] == [("ab", "cdefgh"), ("abcdefghk", "l")]


async def test_a_step_from_an_empty_text_begins_with_the_prompt_that_is_typed(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        await pilot.press("h", "i", "escape", "j")
        await settled(pilot)
        assert (client.streams[-1].prompt, client.streams[-1].params.max_new_tokens) == ("hi", 1)
        await write(pilot, client, "!")
        await pilot.press("j")
        await settled(pilot)
        assert client.streams[-1].prompt_tokens == (0, 1, ord("!"))


async def test_another_model_goes_on_in_a_branch_of_its_own(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        app = pilot.app
        await a_text(pilot, client)
        await app.run_action("app.use_model('other')")
        await settled(pilot)
        await pilot.press("c")
        await settled(pilot)
        assert client.streams[-1].prompt == "abcdefgh"
        await write(pilot, client, "ij")
        assert texts(app) == ["abcdefgh", "abcdefghij"]
        await pilot.press("b")
        await settled(pilot)
        assert "other" in shown(app, "#branches")
        await pilot.press("up", "escape")
        app.play.fork_at(4)
        assert "another model wrote this text" in shown(app, "#status")


async def test_each_text_goes_into_the_history_once_with_all_that_it_takes_to_write_it_again(make_app, client, written):
    async with make_app().run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client, "ab", "cd")
        await pilot.press("T")
        stream.write("ef")
        await settled(pilot)
        stream.finish()
        await settled(pilot)
        await pilot.press("c")
        await write(pilot, client, "gh", prompt="abcdef")
        first, second = written
        assert (first.prompt, first.text, first.finish_reason) == ("ab", "cdef", "length")
        assert (first.prompt_tokens, first.tokens) == ((0, 1), tuple(map(ord, "cdef")))
        assert first.params == SamplingParams(seed=7)
        assert [(change.position, change.params.temperature) for change in first.changes] == [(4, pytest.approx(0.85))]
        assert (first.model_path, first.sha256, first.device) == (MODEL.path, MODEL.sha256, MODEL.device)
        assert (second.prompt, second.text) == ("abcdef", "gh")
        assert second.prompt_tokens == (0, 1, *map(ord, "cdef"))
        assert second.params.temperature == pytest.approx(0.85)
        assert second.changes == ()
        assert second.time >= first.time > 1e9


async def test_what_a_dead_engine_wrote_is_kept_and_goes_into_the_history(make_app, client, written):
    async with make_app().run_test(size=WIDE) as pilot:
        await a_text(pilot, client)
        await pilot.press("g")
        await settled(pilot)
        client.streams[-1].start()
        client.streams[-1].write("xy")
        await settled(pilot)
        client.move("dead", "the engine's process was killed")
        client.streams[-1].fail(WorkerError("the engine's process was killed"))
        await settled(pilot)
        assert [(entry.text, entry.finish_reason) for entry in written] == [("cdefgh", "length"), ("xy", "lost")]
        assert texts(pilot.app) == ["abcdefgh", "abxy"]


async def test_closing_in_mid_stream_returns_what_was_written_and_says_it_once(make_app, client, written):
    async with make_app().run_test(size=WIDE) as pilot:
        await begin(pilot, client, "ab", "cd")
        [entry] = pilot.app.play.close_texts()
        assert (entry.text, entry.finish_reason) == ("cd", "cancelled")
        assert pilot.app.play.close_texts() == []
        await settled(pilot)
        assert written == []


# What comes from the history.

ENTRY = Entry(
    time=1e9,
    source="generate",
    prompt="ab",
    text="cdef",
    prompt_tokens=(97, 98),
    tokens=tuple(map(ord, "cdef")),
    params=SamplingParams(seed=5),
    changes=(ParamsAt(4, SamplingParams(seed=5, temperature=1.5)),),
    finish_reason="cancelled",
    model="shakespeare",
    sha256=MODEL.sha256,
)


async def test_an_entry_is_shown_as_a_branch_with_its_marks_and_can_go_on(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        app = pilot.app
        await a_text(pilot, client)
        app.play.open_entry(ENTRY, replay=False)
        await settled(pilot)
        assert app.focused.id == "text"
        assert "abcd⟨temperature 1.50⟩ef" in shown(app, "#text")
        assert texts(app) == ["abcdefgh", "abcdef"]
        await pilot.press("c")
        await settled(pilot)
        assert client.streams[-1].prompt_tokens == (97, 98, *map(ord, "cdef"))
        assert client.streams[-1].params.seed == 5
        await write(pilot, client, "g", prompt="abcdef", seed=5)
        assert texts(app) == ["abcdefgh", "abcdefg"]
        # Where a token is not a character, nobody knows where in the text the change fell.
        longer = msgspec.structs.replace(ENTRY, text="cd ef gh")
        app.play.open_entry(longer, replay=False)
        await settled(pilot)
        assert "abcd ef gh⟨temperature 1.50 from token 3 on⟩" in shown(app, "#text")


async def test_an_entry_is_written_again_with_its_changes_to_its_last_token(make_app, client, written):
    async with make_app().run_test(size=WIDE) as pilot:
        app = pilot.app
        app.play.open_entry(ENTRY, replay=True)
        await settled(pilot)
        stream = client.streams[-1]
        assert stream.prompt_tokens == (97, 98)
        assert stream.params == SamplingParams(seed=5, max_new_tokens=4)
        assert [(change.position, change.params.max_new_tokens) for change in stream.changes] == [(4, 4)]
        stream.start(text="ab", seed=5)
        stream.write("cdef")
        stream.finish()
        await settled(pilot)
        assert "abcd⟨temperature 1.50⟩ef" in shown(app, "#text")
        assert "the same text, to the letter" in shown(app, "#status")
        assert [entry.tokens for entry in written] == [ENTRY.tokens]
        app.play.open_entry(ENTRY, replay=True)
        await settled(pilot)
        client.streams[-1].start(text="ab", seed=5)
        client.streams[-1].write("cdxf")
        client.streams[-1].finish()
        await settled(pilot)
        assert "another text from token 3 on" in shown(app, "#status")


async def test_a_model_that_changed_or_is_gone_is_said_when_a_text_is_written_again(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        app = pilot.app
        app.play.open_entry(msgspec.structs.replace(ENTRY, sha256="another"), replay=True)
        await settled(pilot)
        assert "has other weights now" in shown(app, "#notice")
        assert len(client.streams) == 1

        async def gone(*_: object) -> None:
            raise ModelNotFoundError("there is no model shakespeare", "see the list")

        client.load = gone
        app.play.open_entry(ENTRY, replay=True)
        await settled(pilot)
        assert "there is no model shakespeare" in shown(app, "#notice").lower().replace("\n", " ")
        assert app.play.writing.document.text() == "abcdef"
        assert len(client.streams) == 1


def test_what_is_written_is_told_by_a_message_that_the_app_answers():
    assert hasattr(MiniGPTApp, Written(ENTRY).handler_name)
