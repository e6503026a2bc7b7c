"""Looking inside the text on the Play screen, with an engine that says what each test wants."""

from __future__ import annotations

import asyncio
import math

from scripted_client import TEXT, ScriptedClient, inspected
from test_play_screen import NARROW, WIDE, begin, settled, shown

from engine.config import SamplingParams
from engine.errors import DataError
from engine.worker.protocol import Done
from minigpt_tui.inspecting import LEVELS, Measure
from minigpt_tui.widgets.attention_grid import Choice
from minigpt_tui.widgets.colour_scale import shade_scale, surprise_scale

pytest_plugins = ("play_fixtures",)


async def answered(pilot) -> None:
    """Wait until the engine was asked and has answered."""
    await asyncio.sleep(0.12)
    await pilot.pause()


async def inspect(pilot, client: ScriptedClient, prompt: str = "ROMEO:", text: str = TEXT):
    """A text that is done, and the cursor in it."""
    editor = pilot.app.screen.query_one("#prompt")
    editor.text = prompt
    editor.focus()
    stream = await begin(pilot, client, "", text)
    stream.finish()
    await settled(pilot)
    await pilot.press("i")
    await answered(pilot)
    return pilot.app.play


def at_cursor(play) -> str:
    return play.writing.document.text_between(*play._text.place)


def row_styles(play, row: int):
    return [(segment.text, segment.style) for segment in play._text.render_line(row - play._text.scroll_offset.y)]


def backgrounds(play, letters: str):
    """Of the first row's letters."""
    return {style.bgcolor for text, style in row_styles(play, 0) if text.strip() and {*text} <= {*letters}}


async def test_i_and_h_colour_the_text_and_show_what_could_have_come_at_the_cursor(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        play = await inspect(pilot, client)
        app = pilot.app
        assert at_cursor(play) == "."
        asked = client.inspections[-1]
        assert asked["position"] == len(play.writing.tokens()) - 1
        assert asked["tokens"] == play.writing.tokens()
        answer = inspected(asked["tokens"], asked["position"], asked["params"], 0, attention=False, lens=False)
        panel = shown(app, "#at")
        assert f"rank {answer.rank}" in panel
        assert f"{-answer.logprob / math.log(2):.2f} bits" in panel
        assert f"entropy {answer.entropy / math.log(2):.2f} bits" in panel
        assert "probability" in shown(app, "#text").splitlines()[0]
        assert "90 %" in shown(app, "#text").splitlines()[0]
        assert not app.screen.query_one("#next").display
        backgrounds = {style.bgcolor for _, style in row_styles(play, 1)}
        assert len(backgrounds) > 1
        for measure in (Measure.ENTROPY, Measure.RANK):
            await pilot.press("h")
            assert measure.value in str(play._text.border_title)
        await pilot.press("h")
        assert play._text.colouring is None
        await pilot.press("h")
        assert "probability" in str(play._text.border_title)
        await pilot.press("i")
        await settled(pilot)
        assert not app.screen.query_one("#at").display
        assert app.screen.query_one("#next").display
        assert len({style.bgcolor for _, style in row_styles(play, 1)}) == 1
        await pilot.press("i", "x")  # there is nothing to look into where there is no text
        await settled(pilot)
        assert not play.inspecting
        assert play._text.place is None


async def test_the_cursor_walks_by_tokens_rows_and_pages_and_goes_where_one_clicks(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        play = await inspect(pilot, client)
        document = play.writing.document
        await pilot.press("home")
        assert (play._cursor, at_cursor(play)) == (0, "R")
        await pilot.press("left")
        assert play._cursor == 0
        await pilot.press("right", "right")
        assert at_cursor(play) == "M"
        await pilot.press("down")
        assert document.row_at(play._text.place[0]) == 1
        assert document.column_of(play._text.place[0]) == 2
        await pilot.press("down", "down", "down", "down")
        assert document.row_at(play._text.place[0]) == 5
        await pilot.press("end")
        assert play._cursor == play._places.count
        await answered(pilot)
        assert "the next token" in shown(pilot.app, "#at")
        await pilot.press("up", "pageup")
        assert document.row_at(play._text.place[0]) == 0
        await pilot.press("pagedown")
        assert document.row_at(play._text.place[0]) == document.row_count - 1
        place = play._text.content_region
        await pilot.click(offset=(place.x + 6, place.y + 1))
        assert at_cursor(play) == "w"  # Speak w
        await answered(pilot)
        assert client.inspections[-1]["position"] == play._cursor
        await pilot.press("i", "x")
        await inspect(pilot, client, "abcdef", "\nxy\n123456")
        await pilot.press("home", *["right"] * 4)
        for expected in ("e", "\n", "5"):  # the column is kept past a shorter row
            assert at_cursor(play) == expected
            await pilot.press("down")


async def test_walking_asks_once_for_the_last_place_and_never_twice_at_a_time(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        play = await inspect(pilot, client)
        client.inspect_gate = asyncio.Event()
        before = len(client.inspections)
        await pilot.press(*["left"] * 5)
        await answered(pilot)
        (first,) = (asked["position"] for asked in client.inspections[before:])
        await pilot.press(*["left"] * 5)
        await answered(pilot)
        assert len(client.inspections) == before + 1
        client.inspect_gate.set()
        await answered(pilot)
        await answered(pilot)
        assert [asked["position"] for asked in client.inspections[before:]] == [first, play._cursor]
        assert play._at.place.drawn is not None
        assert play._at.place.position == play._cursor
        # Both are known now, and going back asks nothing.
        count = len(client.inspections)
        play._walk_to(first)
        assert play._at.place.position == first
        assert play._at.place.drawn is not None
        await answered(pilot)
        assert len(client.inspections) == count


async def test_an_answer_to_a_text_that_is_gone_is_not_shown(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        play = await inspect(pilot, client)
        client.inspect_gate = asyncio.Event()
        await pilot.press("left", "left")
        await answered(pilot)
        position = play._cursor
        await pilot.press("g")  # another text
        await settled(pilot)
        client.streams[-1].start()
        client.streams[-1].write("x" * len(TEXT))
        await settled(pilot)
        assert play._cursor <= play._places.count
        client.inspect_gate.set()
        await answered(pilot)
        await answered(pilot)
        assert client.inspections[-1]["tokens"] == play.writing.tokens()[: play._cursor + 1]
        assert play._at.place.position == play._cursor
        assert play._at.place.token == play.writing.tokens()[play._cursor]
        assert position >= play._cursor


async def test_text_goes_on_while_the_cursor_stands(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client)
        await pilot.press("i", *["left"] * 3)
        await answered(pilot)
        play = pilot.app.play
        place, cursor = play._text.place, play._cursor
        stream.write("\nmore" * 60)
        await settled(pilot)
        assert (play._text.place, play._cursor) == (place, cursor)
        assert play._text.scroll_offset.y == 0
        await pilot.press("end")
        end = play._cursor
        stream.write("x")
        await settled(pilot)
        assert play._cursor == end
        assert at_cursor(play) == "x"
        await pilot.press("escape")  # stops the text first
        await settled(pilot)
        assert stream.cancelled
        assert play.inspecting
        await pilot.press("escape")
        assert not play.inspecting


async def test_an_engine_that_dies_is_told_of_at_the_cursor_and_asked_again_when_another_is_there(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        play = await inspect(pilot, client)
        client.inspect_gate = asyncio.Event()
        await pilot.press("left")
        await answered(pilot)
        client.move("dead", "it was killed")
        await asyncio.sleep(0)
        client.inspect_gate = None
        await answered(pilot)
        await answered(pilot)
        assert play._at.place.position == play._cursor
        assert play._at.place.drawn is not None  # the next engine was asked
        assert play.writing.document.text() == "ROMEO:" + TEXT


async def test_another_model_is_asked_for_by_the_name_of_the_one_that_wrote_and_a_refusal_is_shown_in_words(
    make_app, client, monkeypatch
):
    async def refuse(*_, **__):
        raise DataError("a token of the text is not in the vocabulary", "ids go from 0 to 65")

    async with make_app().run_test(size=WIDE) as pilot:
        play = await inspect(pilot, client)
        wrote = client.inspections[-1]["model"]
        await pilot.app.run_action("app.use_model('other')")
        await answered(pilot)
        await pilot.press("left")
        await answered(pilot)
        assert play.model.name == "other"
        assert client.inspections[-1]["model"] == wrote
        monkeypatch.setattr(client, "inspect", refuse)
        await pilot.press("left")
        await answered(pilot)
        assert "The engine did not" in shown(pilot.app, "#at")


async def test_enter_forks_with_the_marked_alternative(make_app, client, monkeypatch):
    async with make_app().run_test(size=WIDE) as pilot:
        play = await inspect(pilot, client)
        forks = []
        monkeypatch.setattr(type(play), "fork_at", lambda self, position, token=None: forks.append((position, token)))
        await pilot.press("left", "left")
        await answered(pilot)
        await pilot.press("right_square_bracket", "right_square_bracket", "left_square_bracket")
        assert play._at.marked == 1
        alternative = play._at.place.alternatives[1]
        await pilot.press("enter")
        assert forks == [(play._cursor, alternative.token)]
        region = play._at.content_region
        row = next(n for n, line in enumerate(shown(pilot.app, "#at").splitlines()) if "before" in line)
        await pilot.click(offset=(region.x + 3, region.y + row + 2))
        assert play._at.marked == 2
        await pilot.click(offset=(region.x + 3, region.y + row + 2))
        assert forks[-1] == (play._cursor, play._at.place.alternatives[2].token)


async def test_what_the_filters_cut_is_said(make_app, client):
    app = make_app()
    app.session.params = app.session.params.replace(top_k=2)
    async with app.run_test(size=WIDE) as pilot:
        play = await inspect(pilot, client)
        assert client.inspections[-1]["params"].top_k == 2
        assert "cut" in shown(app, "#at")
        assert "top-k 2" in shown(app, "#at")
        drawn = [alternative.drawn for alternative in play._at.place.alternatives]
        assert sum(share > 0 for share in drawn) == 2


async def test_attention_shades_the_text_and_the_grid_chooses_heads(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        play = await inspect(pilot, client)
        await pilot.press("left", "A")
        await answered(pilot)
        app = pilot.app
        assert client.inspections[-1]["attention"]
        assert "mean of all heads" in shown(app, "#attention")
        assert f"sees all {play._cursor} before it" in shown(app, "#attention")
        assert "looked at" in str(play._text.border_title)
        await pilot.press("E", "H", "H")
        assert play._grid.choice == Choice(0, 1)
        shares = play._heads.of(0, 1)
        place = max(range(len(shares)), key=lambda n: shares[n])
        text = play.writing.document.text()
        assert f"‹{text[place].replace(' ', '␣')}›" in play._grid.looked_at[0].text
        assert play._grid.looked_at[0].share == shares[place]
        await pilot.press("tab")
        assert app.focused is play._grid
        await pilot.press("down", "left")
        assert play._grid.choice == Choice(1, 0)
        await pilot.press("home")
        assert play._grid.choice == Choice(1)
        await pilot.press("escape")
        assert app.focused is play._text
        assert play.inspecting
        region = play._grid.content_region
        await pilot.click(offset=(region.x + 4 + 3 + 2 * 2, region.y + 3 + 2))
        assert play._grid.choice == Choice(2, 2)
        assert play._text.colouring is not None
        await pilot.press("v", "A")
        assert "probability" in str(play._text.border_title)


async def test_the_lens_shows_where_the_model_changes_its_mind(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        play = await inspect(pilot, client)
        await pilot.press("W")
        await answered(pilot)
        panel = shown(pilot.app, "#lens")
        assert "embedding" in panel
        assert "layer   4" in panel
        assert "≠" in panel.splitlines()[2]
        assert len(play._lens.guesses) == 5
        asked = client.inspections[-1]
        answer = inspected(asked["tokens"], asked["position"], asked["params"], 0, attention=True, lens=True)
        assert play._lens.guesses == answer.lens


async def test_a_prompt_is_coloured_once_the_engine_has_scored_it(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        client.score_gate = asyncio.Event()
        play = await inspect(pilot, client)
        assert play._places.figures(1) is None
        assert len(backgrounds(play, "ROMEO:")) == 1
        client.score_gate.set()
        await answered(pilot)
        assert play._places.figures(1).logprob == -0.25
        assert play._places.figures(0) is None
        assert len(backgrounds(play, "ROMEO:")) > 1
        await pilot.press("i", "i")
        await answered(pilot)
        assert len(client.scored) == 1


async def test_a_text_is_scored_as_a_branch_of_its_own(make_app, client):
    async with make_app().run_test(size=(140, 36)) as pilot:
        play = await inspect(pilot, client)
        await pilot.press("i", "Q")
        prompt = pilot.app.screen.query_one("#prompt")
        assert pilot.app.focused is prompt
        assert "Score" in str(prompt.border_title)
        prompt.text = "The king shall have a zebra."
        await pilot.press("enter")
        await answered(pilot)
        assert play.writing.document.text() == "The king shall have a zebra."
        assert play.inspecting
        assert len(play.branches) == 2
        status = shown(pilot.app, "#status")
        assert "scored 27 tokens" in status
        assert "perplexity" in status
        assert "bits per byte" in status
        surprising = min(range(1, 28), key=lambda position: play._places.figures(position).logprob)
        assert play._cursor == surprising
        assert prompt.text == "ROMEO:"
        assert prompt.border_title == "Prompt"
        assert client.streams[-1] is client.streams[0]  # nothing was written


async def test_what_cannot_be_inspected_or_scored_is_told_in_words(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        play = pilot.app.play
        await pilot.press("escape", "i")
        assert not play.inspecting
        assert "nothing to look into" in shown(pilot.app, "#status")
        await pilot.press("Q")
        for text, said in (("", "nothing to score"), ("x", "too short")):
            pilot.app.screen.query_one("#prompt").text = text
            await pilot.press("enter")
            await answered(pilot)
            assert said in shown(pilot.app, "#status") + shown(pilot.app, "#notice")
            assert play.writing.is_empty
        await pilot.press("escape", "escape")
        assert not play.scoring


async def test_on_a_small_terminal_the_panels_stand_below_the_text(make_app, client):
    async with make_app().run_test(size=NARROW) as pilot:
        play = await inspect(pilot, client)
        app = pilot.app
        await stands_below(pilot, play, NARROW)
        await pilot.press("A", "d")
        await pilot.resize_terminal(60, 20)
        await answered(pilot)
        await stands_below(pilot, play, (60, 20))
        assert app.screen.query_one("#too-small").display is False


async def stands_below(pilot, play, size) -> None:
    app = pilot.app
    text, side = app.screen.query_one("#text").region, app.screen.query_one("#side").region
    assert text.bottom == side.y
    assert side.width == size[0]
    assert text.height >= 5
    assert "before" in shown(app, "#at")
    row = play.writing.document.row_at(play._text.place[0]) - play._text.scroll_offset.y
    assert 0 <= row < play._text.size.height
    await pilot.press("A")
    await answered(pilot)
    assert not app.screen.query_one("#at").display
    assert "mean of all heads" in shown(app, "#attention")
    await pilot.press("d")
    assert not app.screen.query_one("#side").display


async def test_it_reads_without_colours(make_app, client, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    async with make_app().run_test(size=WIDE) as pilot:
        play = await inspect(pilot, client)
        await pilot.press("Q")
        pilot.app.screen.query_one("#prompt").text = "The king shall have a zebra."
        await pilot.press("enter")
        await answered(pilot)
        styles = [style for text, style in row_styles(play, 0) if text.strip()]
        assert len({(bool(s.bold), bool(s.underline), bool(s.dim)) for s in styles if not s.reverse}) >= 3
        assert len({s.bgcolor for s in styles}) == 1
        assert [text for text, style in row_styles(play, 0) if style.reverse] == [at_cursor(play)]


async def test_the_two_ends_of_the_scale_differ_in_every_theme(make_app, client):
    app = make_app()
    async with app.run_test(size=WIDE) as pilot:
        play = await inspect(pilot, client)
        for theme in ("minigpt-light", "ansi-dark", "nord"):
            before = play._text.colouring
            app.theme = theme
            await settled(pilot)
            scale, shades = surprise_scale(app), shade_scale(app)
            assert play._text.colouring.styles == scale != before.styles
            assert len(scale) == len(shades) == LEVELS
            assert len({str(style) for style in (scale[0], scale[4], scale[8])}) == 3
            assert str(shades[0]) != str(shades[8])


async def test_figures_come_back_with_a_fork_of_the_text(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        play = await inspect(pilot, client)
        places = [play._places.span(position) for position in range(play._places.count)]
        await pilot.press(*["left"] * 10)
        await answered(pilot)
        position = play._cursor
        await pilot.press("right_square_bracket", "enter")
        await answered(pilot)
        stream = client.streams[-1]
        assert len(stream.prompt_tokens) == position + 1
        stream.start(text=play.writing.document.text()[:position] + "Z")
        stream.write("abc")
        stream.events.put_nowait(
            Done(id=1, finish_reason="length", text="", prompt_tokens=position, new_tokens=3, seed=7,
                 tokens_per_second=1.0, time_to_first_token=0.1)
        )  # fmt: skip
        await answered(pilot)
        assert play._places.count == position + 4
        assert [play._places.span(n) for n in range(position)] == places[:position]
        assert play.writing.params_at(position) == SamplingParams().replace(seed=play.writing.params_at(position).seed)
