"""The Chat screen under the keyboard, with an engine that says what each test wants."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest
from scripted_client import MODEL, ScriptedClient

from engine.errors import CheckpointError, WorkerError
from engine.worker.protocol import Loaded
from minigpt_tui.chat import kept
from minigpt_tui.chat.script import Script
from minigpt_tui.screens.chat import ChatScreen

pytest_plugins = ("play_fixtures",)

WIDE, NARROW, SMALLEST = (140, 40), (80, 24), (60, 20)


@pytest.fixture
def entries(monkeypatch) -> list:
    """What would go into the history."""
    found = []
    monkeypatch.setattr(
        "minigpt_tui.app_wishes.WishingScreens.on_written", lambda self, event: found.append(event.entry)
    )
    return found


async def settled(pilot, seconds: float = 0.06) -> None:
    """Wait for a frame and its painting."""
    await asyncio.sleep(seconds)
    await pilot.pause()


async def until(pilot, holds) -> None:
    """Wait for something that happens beside the screen."""
    for _ in range(200):
        if holds():
            break
        await asyncio.sleep(0.02)
    assert holds()
    await settled(pilot)


async def opened(pilot) -> ChatScreen:
    await pilot.press("f7")
    await settled(pilot)
    screen = pilot.app.screen
    assert isinstance(screen, ChatScreen)
    await until(pilot, lambda: screen._is_read)
    return screen


async def say(pilot, words: str) -> None:
    """Write something where one writes, in place of what stands there, and send it."""
    editor = pilot.app.screen._editor
    editor.text = words
    editor.focus()
    await pilot.press("enter")


async def type_over(pilot, words: str) -> None:
    """Write something in the line that has the focus, in place of what stands there."""
    pilot.app.screen.focused.value = words
    await pilot.pause()


async def sent(pilot, client, words: str = "Hi"):
    """Say something, and have the engine begin with the answer."""
    before = len(client.streams)
    await say(pilot, words)
    await until(pilot, lambda: len(client.streams) > before)
    stream = client.streams[-1]
    stream.start(seed=stream.params.seed or 7)
    await settled(pilot)
    return stream


async def answered(pilot, client, words: str = "Hi", answer: str = "I go.", reason: str = "stop"):
    stream = await sent(pilot, client, words)
    stream.write(answer)
    stream.finish(reason)
    await settled(pilot)
    return stream


def turns(screen) -> list[tuple[str, str]]:
    return [(turn.name, turn.text) for turn in screen.chat.path()]


def shown(screen, selector: str = "") -> str:
    """What stands on the screen, or in one of its parts."""
    region = screen.query_one(selector).region if selector else screen.region
    lines = ["".join(segment.text for segment in strip) for strip in screen._compositor.render_strips()]
    return "\n".join(line[region.x : region.right] for line in lines[region.y : region.bottom])


async def test_an_empty_chat_says_what_to_do_and_a_turn_is_answered_under_its_name(make_app, client, entries):
    async with make_app().run_test(size=NARROW) as pilot:
        screen = await opened(pilot)
        assert "Nothing is said yet" in shown(screen)
        assert "enter sends" in shown(screen)
        stream = await sent(pilot, client, "What now?")
        assert stream.prompt == "JULIET:\nWhat now?\n\nROMEO:\n"
        assert not stream.template
        assert "\n\n" in stream.params.stop
        assert screen._editor.text == ""
        stream.write("I go")
        await settled(pilot)
        assert "I go▌" in shown(screen)
        assert "answering" in shown(screen, "#status")
        stream.write(".\nFarewell.")
        stream.finish("stop")
        await settled(pilot)
        assert turns(screen) == [("JULIET", "What now?"), ("ROMEO", "I go.\nFarewell.")]
        assert "answered · 15 tokens" in shown(screen, "#status")
        [entry] = entries
        assert (entry.source, entry.text, entry.finish_reason) == ("chat", "I go.\nFarewell.", "stop")
        stream = await sent(pilot, client, "Stay.")
        assert stream.prompt == "JULIET:\nWhat now?\n\nROMEO:\nI go.\nFarewell.\n\nJULIET:\nStay.\n\nROMEO:\n"


async def test_the_models_turn_ends_before_whoever_speaks_next(make_app, client, entries):
    async with make_app().run_test(size=NARROW) as pilot:
        screen = await opened(pilot)
        stream = await sent(pilot, client)
        stream.write("I go.\nKING RICHARD III:\nMy horse!")
        await until(pilot, lambda: not screen.busy)
        assert turns(screen)[-1] == ("ROMEO", "I go.")
        assert screen.chat.path()[-1].finish_reason == "stop"
        assert stream.closed
        assert "RICHARD" not in shown(screen)
        [entry] = entries
        assert (entry.text, len(entry.tokens), entry.finish_reason) == ("I go.", 5, "stop")
        assert screen.chat.path()[-1].new_tokens == 5


async def test_an_earlier_turn_is_said_otherwise_and_one_key_goes_back(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await opened(pilot)
        await answered(pilot, client, "One", "First.")
        await answered(pilot, client, "Two", "Second.")
        screen._editor.text = "draft"
        await pilot.press("tab", "up", "up", "up", "e")
        assert screen._editor.text == "One"
        assert "Say it otherwise" in shown(screen, "#prompt")
        await pilot.press("escape")
        assert screen._editor.text == "draft"  # nothing is lost
        await pilot.press("tab", "e", *"!", "enter")
        await until(pilot, lambda: len(client.streams) == 3)
        assert client.streams[-1].prompt == "JULIET:\nOne!\n\nROMEO:\n"
        client.streams[-1].start()
        client.streams[-1].write("Other.")
        client.streams[-1].finish("stop")
        await settled(pilot)
        assert [text for _, text in turns(screen)] == ["One!", "Other."]
        assert screen._editor.text == "draft"
        assert "2 of 2" in shown(screen, "#transcript")
        await pilot.press("tab")
        assert "[ other branch" in shown(screen, "#transcript")
        await pilot.press("left_square_bracket")
        await settled(pilot)
        assert [text for _, text in turns(screen)] == ["One", "First.", "Two", "Second."]
        await pilot.press("right_square_bracket")
        assert [text for _, text in turns(screen)] == ["One!", "Other."]


async def test_an_answer_is_given_again_with_a_new_seed_or_the_same(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await opened(pilot)
        screen._session.params = screen._session.params.replace(seed=5)
        await answered(pilot, client, "One", "First.")
        assert client.streams[0].params.seed == 5
        await pilot.press("tab", "g")
        await until(pilot, lambda: len(client.streams) == 2)
        assert client.streams[1].params.seed is None
        client.streams[1].start(seed=9)
        client.streams[1].write("Second.")
        client.streams[1].finish("stop")
        await settled(pilot)
        await pilot.press("G")
        await until(pilot, lambda: len(client.streams) == 3)
        assert client.streams[2].params.seed == 9
        assert client.streams[2].prompt == client.streams[0].prompt
        client.streams[2].start(seed=9)
        client.streams[2].write("Third.")
        client.streams[2].finish("stop")
        await settled(pilot)
        assert [turn.text for turn in screen.chat.versions(screen.chat.path()[-1])] == ["First.", "Second.", "Third."]


async def test_a_stopped_answer_goes_on_where_it_was_stopped(make_app, client, entries):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await opened(pilot)
        stream = await sent(pilot, client)
        stream.write("I go")
        await settled(pilot)
        await pilot.press("escape")
        await settled(pilot)
        assert screen.chat.path()[-1].finish_reason == "cancelled"
        assert "stopped · c goes on" in shown(screen, "#transcript")
        await pilot.press("escape", "c")
        await until(pilot, lambda: len(client.streams) == 2)
        again = client.streams[1]
        assert len(again.prompt_tokens) == len(stream.prompt) + 4  # to the letter: by its tokens
        again.start(text=stream.prompt + "I go")
        again.write(" home.")
        again.finish("stop")
        await settled(pilot)
        assert turns(screen)[-1] == ("ROMEO", "I go home.")
        assert [entry.text for entry in entries] == ["I go", " home."]
        await pilot.press("c")
        assert "the model has ended its turn" in shown(screen, "#status")


async def test_a_stop_before_the_first_word_leaves_the_turn_without_an_answer(make_app, client):
    async with make_app().run_test(size=NARROW) as pilot:
        screen = await opened(pilot)
        await sent(pilot, client)
        await pilot.press("escape")
        await settled(pilot)
        assert turns(screen) == [("JULIET", "Hi")]
        assert "no answer yet · g asks again" in shown(screen, "#transcript")


async def test_settings_are_turned_while_an_answer_comes_and_its_turn_still_ends(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await opened(pilot)
        stream = await sent(pilot, client)
        stream.write("I go")
        await settled(pilot)
        await pilot.press("tab", "T", "greater_than_sign")
        assert stream.params.temperature == pytest.approx(0.85)
        assert "\n\n" in stream.params.stop
        assert stream.pace == 0.0
        assert screen._session.params.stop == ()
        assert "temp 0.85" in shown(screen, "#chat-settings")
        await pilot.press("slash")
        await type_over(pilot, "END")
        await pilot.press("enter")
        assert screen._session.params.stop == ("END",)
        assert {"END", "\n\n"} <= set(stream.params.stop)


async def test_the_edge_of_the_window_is_a_line_among_the_turns_and_moves_as_one_types(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await opened(pilot)
        await answered(pilot, client, "One", "a" * 100)
        assert "the model sees from here" not in shown(screen)
        assert "context" in shown(screen, "#transcript")
        await answered(pilot, client, "Two", "b" * 90)
        assert "the model sees from here" not in shown(screen)
        screen._editor.text = "twenty more letters!"
        await settled(pilot)
        text = shown(screen)
        assert "the model sees from here" in text
        # It stands above the row with the first character that is seen.
        edge = screen.edge(screen.chat.path())
        assert (edge.turn, edge.offset, edge.length - edge.seen) == (2, 0, 128)  # in the name of who speaks there
        assert text.index("bbb") > text.index("the model sees from here") > text.index("aaa")
        await answered(pilot, client, "Three", "c" * 120)
        assert "the model sees from here · 5 turns are unseen" in shown(screen)


async def test_unknown_characters_are_said_where_they_were_written(make_app, client):
    async with make_app().run_test(size=NARROW) as pilot:
        screen = await opened(pilot)
        await say(pilot, "fé☃")
        await until(pilot, lambda: bool(client.streams))
        stream = client.streams[-1]
        stream.start(left_out="é☃", text=stream.prompt.replace("é", "").replace("☃", ""))
        stream.write("Yes.")
        stream.finish("stop")
        await settled(pilot)
        assert "left out, as the model has never seen it: é ☃" in shown(screen)


async def test_who_speaks_and_how_it_is_written_is_chosen_and_kept_for_the_model(make_app, client):
    async with make_app().run_test(size=NARROW) as pilot:
        screen = await opened(pilot)
        await answered(pilot, client, "One", "First.")
        await pilot.press("tab", "f")
        await settled(pilot)
        await pilot.press("tab")
        await type_over(pilot, "Nurse")
        await pilot.press("tab", "down", "enter")  # the name that is offered behind ROMEO
        await settled(pilot)
        assert pilot.app.screen is screen
        assert "you are Nurse, First Citizen answers" in shown(screen, "#transcript")
        stream = await answered(pilot, client, "Two", "Second.")
        assert stream.prompt == "JULIET:\nOne\n\nROMEO:\nFirst.\n\nNurse:\nTwo\n\nFirst Citizen:\n"
        assert {"\nJULIET:", "\nROMEO:", "\nNurse:"} <= set(stream.params.stop)
        await pilot.press("tab", "u")
        assert (screen.script.you, screen.script.model) == ("First Citizen", "Nurse")
        # A dialogue, and one of one's own.
        await pilot.press("f")
        await settled(pilot)
        await pilot.press("right")
        assert "You: How are you?" in shown(pilot.app.screen)
        await pilot.press("right", "tab", "tab", "tab")
        await type_over(pilot, r">\s")
        await pilot.press("enter")
        await settled(pilot)
        assert screen.script == Script(kind="own", you="You", model="Model", after="> ", between="\n", stop=())
        assert json.loads(kept.desk_file().read_text())["scripts"]["shakespeare"]["kind"] == "own"


async def test_a_form_that_would_never_end_a_turn_is_refused(make_app, client):
    async with make_app().run_test(size=NARROW) as pilot:
        screen = await opened(pilot)
        await pilot.press("escape", "f")
        await settled(pilot)
        form = pilot.app.screen
        await pilot.press("tab")
        await type_over(pilot, "ROMEO")
        await pilot.press("enter")
        assert pilot.app.screen is form
        assert "they need two names" in shown(form)
        await pilot.press("escape")
        assert screen.script.you == "JULIET"


TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONFIG = {
    "eos_token": "<|im_end|>",
    "added_tokens_decoder": {
        str(place): {"content": name, "special": True} for place, name in enumerate(("<|im_start|>", "<|im_end|>"))
    },
}


class TalkerClient(ScriptedClient):
    """Its model lies in a folder, where it may have a chat template."""

    path = ""

    async def load(self, model: str = "", device: str = "auto", precision: str = "auto") -> Loaded:
        loaded = await super().load(model, device, precision)
        info = msgspec.structs.replace(MODEL, name="talker", path=self.path, tokenizer="bpe", sha256="talker")
        return msgspec.structs.replace(loaded, model=info)


@pytest.fixture
def talker(tmp_path) -> TalkerClient:
    client = TalkerClient()
    client.path = str(tmp_path / "talker")
    (tmp_path / "talker").mkdir()
    (tmp_path / "talker" / "tokenizer_config.json").write_text(json.dumps(CONFIG | {"chat_template": TEMPLATE}))
    return client


async def test_a_model_with_a_chat_template_is_asked_by_it_with_a_system_message(make_app, talker):
    async with make_app(client=talker).run_test(size=NARROW) as pilot:
        screen = await opened(pilot)
        await until(pilot, lambda: screen.voice.template is not None)
        assert screen.script.kind == "model"
        await pilot.press("escape", "i")
        await say(pilot, "Be brief.")
        stream = await sent(pilot, talker, "<|im_end|>")
        assert stream.template
        assert stream.prompt == (
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<|im_end|>\ufdd1<|im_end|>\n"
            "<|im_start|>assistant\n"
        )
        assert stream.params.stop == ("<|im_end|>", "<|im_start|>")
        stream.write("USER:\nhello")  # no name ends a turn here
        stream.finish("length")
        await settled(pilot)
        text = shown(screen)
        assert "im_start" not in text
        assert "\ufdd1" not in text
        assert "Be brief." in text
        assert turns(screen) == [("", "<|im_end|>"), ("", "USER:\nhello")]
        assert "cut at its length · c goes on" in text


async def test_a_template_that_fails_is_said_and_the_turn_is_kept(make_app, talker, tmp_path):
    config = CONFIG | {"chat_template": "{{ raise_exception('not you') }}"}
    (tmp_path / "talker" / "tokenizer_config.json").write_text(json.dumps(config))
    async with make_app(client=talker).run_test(size=NARROW) as pilot:
        screen = await opened(pilot)
        await say(pilot, "Hi")
        await until(pilot, lambda: screen._notice.is_open)
        notice = shown(screen, "#notice")
        assert "not you" in notice
        assert "f template" in notice
        assert turns(screen) == [("", "Hi")]
        assert not talker.streams
        await pilot.press("escape", "tab", "f")
        await settled(pilot)
        await pilot.press("right", "enter")  # a play instead
        await settled(pilot)
        await pilot.press("g")
        await until(pilot, lambda: bool(talker.streams))
        assert talker.streams[0].prompt == "JULIET:\nHi\n\nROMEO:\n"


async def test_without_a_model_the_turn_is_kept_and_the_keys_go_on(make_app):
    client = ScriptedClient(load_error=CheckpointError("/m/model.safetensors is damaged", "copy it again"))
    async with make_app(client=client, model="broken").run_test(size=NARROW) as pilot:
        screen = await opened(pilot)
        await say(pilot, "Hi")
        await until(pilot, lambda: screen._notice.is_open)
        notice = shown(screen, "#notice")
        assert "is damaged" in notice
        assert "What was said is safe" in notice
        assert "l model" in notice
        assert turns(screen) == [("JULIET", "Hi")]
        client._load_error = None
        await pilot.press("escape", "tab", "g")
        await until(pilot, lambda: bool(client.streams))


async def test_an_engine_that_dies_leaves_what_was_said_and_a_key_tries_again(make_app, client):
    async with make_app().run_test(size=NARROW) as pilot:
        screen = await opened(pilot)
        stream = await sent(pilot, client)
        stream.write("I go")
        await settled(pilot)
        client.move("dead", "killed")
        stream.fail(WorkerError("the engine's process was killed"))
        await until(pilot, lambda: screen._notice.is_open)
        assert "The engine stopped" in shown(screen, "#notice")
        assert turns(screen)[-1] == ("ROMEO", "I go")
        assert screen.chat.path()[-1].finish_reason == "lost"
        assert "cut off · c goes on" in shown(screen, "#transcript")
        await pilot.press("escape", "tab", "c")
        await until(pilot, lambda: len(client.streams) == 2)
        assert client.state == "ready"


async def test_what_was_said_survives_a_quit_in_mid_stream_and_goes_on(make_app, client):
    async with make_app().run_test(size=NARROW) as pilot:
        screen = await opened(pilot)
        await answered(pilot, client, "One", "First.")
        stream = await sent(pilot, client, "Two")
        stream.write("I am")
        await settled(pilot)
        screen._editor.text = "draft"
        entries = screen.close_texts()
        assert [entry.text for entry in entries] == ["I am"]
        await pilot.press("ctrl+q")
    async with make_app().run_test(size=NARROW) as pilot:
        screen = await opened(pilot)
        assert [text for _, text in turns(screen)] == ["One", "First.", "Two", "I am"]
        assert screen._editor.text == "draft"
        assert "c goes on" in shown(screen, "#transcript")
        before = len(client.streams)
        await pilot.press("escape", "c")
        await until(pilot, lambda: len(client.streams) > before)
        again = client.streams[-1]
        assert again.prompt.endswith("JULIET:\nTwo\n\nROMEO:\nI am")
        again.start()
        again.write(" here.")
        again.finish("stop")
        await settled(pilot)
        assert turns(screen)[-1] == ("ROMEO", "I am here.")


async def test_a_kill_in_mid_stream_loses_no_more_than_a_second(make_app, client):
    async with make_app().run_test(size=NARROW) as pilot:
        screen = await opened(pilot)
        stream = await sent(pilot, client)
        stream.write("I am")
        await until(pilot, lambda: any("I am" in path.read_text() for path in kept.chats_folder().glob("*.json")))
        path = kept.chats_folder() / f"{screen.chat.id}.json"
        assert json.loads(path.read_text())["turns"][-1]["text"] == "I am"
        assert kept.load_chat(screen.chat.id).turns[-1].finish_reason == "lost"


async def test_a_damaged_chat_is_set_aside_and_said(make_app, client, own_home):
    kept.chats_folder().mkdir(parents=True)
    (kept.chats_folder() / "20260101-101010-aaaaaa.json").write_text("{")
    async with make_app().run_test(size=NARROW) as pilot:
        screen = await opened(pilot)
        assert "A chat was set aside" in shown(screen, "#notice")
        assert screen.chat.is_empty


async def test_a_new_chat_keeps_the_old_one_and_the_list_brings_it_back(make_app, client):
    async with make_app().run_test(size=NARROW) as pilot:
        screen = await opened(pilot)
        await answered(pilot, client, "One", "First.")
        await pilot.press("tab", "x")
        await settled(pilot)
        assert "Nothing is said yet" in shown(screen)
        await answered(pilot, client, "Other", "Second.")
        await pilot.press("tab", "b")
        await until(pilot, lambda: "First" not in shown(pilot.app.screen) and "One" in shown(pilot.app.screen))
        await pilot.press("down", "enter")
        await until(pilot, lambda: turns(screen)[:1] == [("JULIET", "One")])
        assert "First." in shown(screen)
        # The list stops no answer, and another chat does, with what has come of it.
        stream = await sent(pilot, client, "Two")
        stream.write("I am")
        await settled(pilot)
        await pilot.press("tab", "b")
        await settled(pilot, 0.2)
        assert not stream.closed
        stream.write(" here")
        await settled(pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: turns(screen)[:1] == [("JULIET", "Other")])
        assert stream.closed
        assert kept.load_chat(kept.list_chats()[0].key).turns[-1].text == "I am here"
        await pilot.press("b")
        await settled(pilot, 0.2)
        await pilot.press("up", "enter")
        await until(pilot, lambda: turns(screen)[:1] == [("JULIET", "One")])
        # One is deleted, and the other stays.
        await pilot.press("b")
        await settled(pilot, 0.2)
        await pilot.press("D", "y", "enter")
        await until(pilot, lambda: len(kept.list_chats()) == 1)
        await pilot.press("escape")
        await settled(pilot)
        assert kept.list_chats()[0].title == "Other"
        assert screen.chat.is_empty


async def test_a_turn_and_the_whole_chat_are_copied_saved_and_opened_in_play(make_app, client, tmp_path):
    app = make_app()
    async with app.run_test(size=NARROW) as pilot:
        screen = await opened(pilot)
        await answered(pilot, client, "One", "First.")
        await pilot.press("tab", "y")
        assert app.clipboard == "First."
        await pilot.press("up", "y")
        assert app.clipboard == "One"
        await pilot.press("Y")
        assert app.clipboard == "JULIET:\nOne\n\nROMEO:\nFirst."
        for name in ("chat.md", "chat.json"):
            await pilot.press("w")
            await type_over(pilot, str(tmp_path / name))
            await pilot.press("enter")
            await settled(pilot)
            assert "First." in (tmp_path / name).read_text()
        await pilot.press("w", "enter")
        assert "enter overwrites" in shown(screen, "#ask")
        await pilot.press("escape", "o")
        await until(pilot, lambda: app.screen is app.play)
        assert app.play.writing.document.text() == "JULIET:\nOne\n\nROMEO:\nFirst."


async def test_it_fits_the_terminal_and_one_that_is_too_small_says_so(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await opened(pilot)
        await answered(pilot, client, "What say you of the king, my love?", "word " * 60)
        await pilot.press("tab")
        for size in (WIDE, NARROW, SMALLEST):
            await pilot.resize_terminal(*size)
            await settled(pilot)
            text = shown(screen)
            assert "g again" in text
            assert "context" in text
            assert "word word" in text
            assert screen._transcript.region.bottom <= screen._chips.region.y
            assert screen._editor.region.height >= 3
        await pilot.resize_terminal(50, 15)
        await settled(pilot)
        assert "What was said is safe." in shown(screen)


async def test_the_words_of_several_turns_are_selected_without_what_was_wrapped(make_app, client):
    async with make_app().run_test(size=SMALLEST) as pilot:
        screen = await opened(pilot)
        words = "these are many words, and they are wrapped where the terminal ends, twice"
        await answered(pilot, client, "One", words)
        screen._transcript.text_select_all()
        assert screen.get_selected_text() == f"JULIET\nOne\n\nROMEO\n{words}"
        await answered(pilot, client, "Two", "[red]x[/] \x1b[31m\u202e")
        assert "[red]x[/] ␛[31m␦" in shown(screen)  # what a model says is data
