"""What the Play screen says and does while its engine starts, loads, dies, hangs and comes back."""

from __future__ import annotations

import asyncio

import pytest
from scripted_client import ScriptedClient
from test_play_screen import WIDE, begin, settled, shown

from engine.errors import CheckpointError, WorkerError

pytest_plugins = ("play_fixtures",)

DAMAGED = CheckpointError("/m/model.safetensors is damaged", "copy it again")


async def test_without_a_model_the_status_names_the_key_that_chooses_one(make_app):
    client = ScriptedClient(load_error=DAMAGED)
    async with make_app(client=client, model="broken").run_test(size=WIDE) as pilot:
        await settled(pilot)
        assert "○ no model · l chooses one" in shown(pilot.app, "#status")
        client._load_error = None
        client.load_gate = asyncio.Event()
        await pilot.app.run_action("app.use_model('big')")
        await settled(pilot)
        assert "● loading big" in shown(pilot.app, "#status")  # the failure is of the past
        client.load_gate.set()
        await settled(pilot)
        assert "ready" in shown(pilot.app, "#status")


async def test_a_model_that_cannot_be_loaded_leaves_the_one_before(make_app, client):
    async with make_app(model="shakespeare").run_test(size=WIDE) as pilot:
        await settled(pilot)
        client._load_error = DAMAGED
        await pilot.app.run_action("app.use_model('broken')")
        await settled(pilot)
        assert "broken cannot be loaded" in shown(pilot.app, "#notice")
        assert "ready" in shown(pilot.app, "#status")
        assert pilot.app.play.wanted_model == "shakespeare"


async def test_choosing_a_model_starts_an_engine_that_died_too_often(make_app, client):
    async with make_app(model="shakespeare").run_test(size=WIDE) as pilot:
        for _ in range(3):
            await settled(pilot)
            client.move("dead", "out of memory")
        await settled(pilot)
        assert client.state == "dead"
        await pilot.app.run_action("app.use_model('small')")
        await settled(pilot)
        assert client.state == "ready"
        assert client.loads[-1] == "small"
        assert pilot.app.play.model.name == "small"


async def test_a_lost_answer_to_loading_is_told_though_the_engine_lives(make_app):
    client = ScriptedClient(load_error=WorkerError("an answer of the engine cannot be read"))
    async with make_app(client=client).run_test(size=WIDE) as pilot:
        await settled(pilot)
        assert "An answer of the engine cannot be read" in shown(pilot.app, "#notice")
        assert "no model" in shown(pilot.app, "#status")


async def test_an_engine_that_writing_has_revived_loads_the_model_too(make_app):
    client = ScriptedClient(until="importing")
    async with make_app(client=client).run_test(size=WIDE) as pilot:
        for _ in range(3):
            await settled(pilot)
            client.move("dead", "out of memory")
        await settled(pilot)
        assert client.state == "dead"
        client._until = "ready"
        client.loads.clear()
        stream = await begin(pilot, client, "a", "bc")
        stream.finish()
        await settled(pilot)
        assert client.loads == [""]
        assert pilot.app.play.model is not None
        assert "done" in shown(pilot.app, "#status")


@pytest.mark.parametrize("writes", [False, True])
async def test_another_model_that_loads_is_named_beside_the_one_that_writes_until_then(make_app, client, writes):
    async with make_app(model="shakespeare").run_test(size=WIDE) as pilot:
        await settled(pilot)
        if writes:
            await begin(pilot, client)
        client.load_gate = asyncio.Event()
        await pilot.app.run_action("app.use_model('/models/big')")
        await settled(pilot)
        assert "● loading big; shakespeare writes until then" in shown(pilot.app, "#status")
        client.load_gate.set()
        await settled(pilot)
        assert "loading" not in shown(pilot.app, "#status")
        assert pilot.app.play.wanted_model == "/models/big"


async def test_the_time_to_the_first_token_is_the_engines_and_never_another(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client)
        assert "first" not in shown(pilot.app, "#status")
        stream.finish()
        await settled(pilot)
        assert "first 9 ms" in shown(pilot.app, "#status")


async def test_a_second_esc_leaves_an_engine_that_does_not_answer(make_app, client):
    async with make_app().run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client)
        stream.cancel = lambda: None
        await pilot.press("escape")
        await asyncio.sleep(0.3)  # until the next figures
        assert pilot.app.play._live.running
        assert "esc leaves it" in shown(pilot.app, "#status")
        await pilot.press("escape")
        await settled(pilot)
        assert not pilot.app.play._live.running
        assert stream.closed
        assert "stopped" in shown(pilot.app, "#status")
        again = await begin(pilot, client, "g", "hello")  # the key, from the text
        assert "streaming" in shown(pilot.app, "#status")
        await pilot.press("escape")
        await settled(pilot)
        assert again.cancelled  # the first esc asks


@pytest.mark.parametrize("asked_while", ["loaded", "loading"])
async def test_a_model_is_never_sent_the_token_ids_of_another(make_app, client, asked_while):
    client.load_gate = asyncio.Event()
    if asked_while == "loaded":
        client.load_gate.set()
    async with make_app(model="shakespeare").run_test(size=WIDE) as pilot:
        await settled(pilot)
        await pilot.press("a", "b", "enter")
        await settled(pilot)
        stream = client.streams[-1]
        client.load_gate.set()
        await pilot.app.run_action("app.use_model('big')")
        await settled(pilot)
        stream.start()  # the engine begins what the first model was asked for
        stream.write("cd")
        stream.finish()
        await settled(pilot)
        await pilot.press("c")
        await settled(pilot)
        assert (client.streams[-1].prompt, client.streams[-1].prompt_tokens) == ("abcd", None)


async def test_a_prompt_sent_while_the_model_loads_continues_by_its_very_tokens(make_app, client):
    client.load_gate = asyncio.Event()
    async with make_app(model="shakespeare").run_test(size=WIDE) as pilot:
        await settled(pilot)
        await pilot.press("a", "b", "enter")
        client.load_gate.set()
        await settled(pilot)
        client.streams[-1].start()
        client.streams[-1].finish()
        await settled(pilot)
        await pilot.press("c")
        await settled(pilot)
        assert client.streams[-1].prompt_tokens == (0, 1)


async def test_what_another_model_leaves_out_of_a_continued_text_is_named(make_app, client):
    async with make_app(model="shakespeare").run_test(size=WIDE) as pilot:
        stream = await begin(pilot, client, "h", "é☃")
        stream.finish()
        await pilot.app.run_action("app.use_model('big')")
        await settled(pilot)
        await pilot.press("c")
        await settled(pilot)
        client.streams[-1].start(left_out="é☃", text="h")
        await settled(pilot)
        assert "left out: é ☃" in shown(pilot.app, "#prompt")


async def test_a_scripted_engine_that_is_dead_loads_nothing():
    client = ScriptedClient()
    await client.start()
    client.move("dead")
    with pytest.raises(WorkerError, match="not running"):
        await client.load()
