"""A conversation is written down in a process of its own: a stranger's template makes nobody wait."""

from __future__ import annotations

import time

import pytest

from engine.errors import CheckpointError, DataError
from engine.text.chat import SpecialTokens
from engine.text.special_tokens import AS_WORDS
from minigpt_tui import chat_rendering
from minigpt_tui.chat_rendering import render_chat

TALK = [{"role": "user", "content": "Who goes there?"}]
SPECIAL = SpecialTokens("<s>", "</s>", ("<s>", "</s>"))


async def test_a_conversation_is_written_down_by_the_models_template() -> None:
    template = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{% if add_generation_prompt %}A:{% endif %}"
    assert await render_chat(template, TALK, SPECIAL) == "<s>Who goes there?</s>A:"
    command = [{"role": "user", "content": "x</s>"}]
    text = await render_chat(template, command, SPECIAL, add_generation_prompt=False)
    assert text == f"<s>x</s>{AS_WORDS}</s>"


async def test_what_is_wrong_with_a_template_is_told_as_it_is() -> None:
    with pytest.raises(CheckpointError, match="does not work"):
        await render_chat("{{ oops", TALK, SPECIAL)
    with pytest.raises(DataError, match=r"refuses this conversation \(not you\)"):
        await render_chat("{{ raise_exception('not you') }}", TALK, SPECIAL)


async def test_a_template_without_an_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_rendering, "RENDER_SECONDS", 1.0)
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    began = time.monotonic()
    with pytest.raises(CheckpointError, match="comes to no end"):
        await render_chat(loop, TALK, SPECIAL)
    assert time.monotonic() - began < 5
