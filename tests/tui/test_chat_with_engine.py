"""The Chat screen with the real engine process: a turn of the bundled model, and a tiny one with a chat template."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import tokenizers
from tiny_models import make_tiny
from tokenizers import AddedToken

from engine.text.tokenizers import Tokenizer, train_tokenizer
from minigpt_tui.app import MiniGPTApp

PATIENCE = 60.0
SPECIAL = ("<|im_start|>", "<|im_end|>")

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


async def until(pilot, holds, what: str) -> None:
    """Wait for something that the engine brings about."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"waited in vain for: {what}"
        await asyncio.sleep(0.02)
    await pilot.pause()


@pytest.fixture
def talker(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model of bytes with special tokens and a ChatML template."""
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))

    def with_specials(*asked) -> Tokenizer:
        plain = train_tokenizer(*asked)
        backend = tokenizers.Tokenizer.from_str(plain._backend.to_str())
        backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
        return Tokenizer(backend, plain.eot_id)

    monkeypatch.setattr("engine.text.tokenizers.train_tokenizer", with_specials)
    path = make_tiny("talker", tokenizer="bpe", steps=3)
    (path / "chat_template.jinja").write_text(CHATML)
    return path


async def say(pilot, screen, words: str) -> None:
    screen._editor.text = words
    screen._editor.focus()
    await pilot.press("enter")


async def test_a_turn_of_romeo_ends_before_the_next_name_and_a_template_is_used_to_the_letter(talker: Path):
    app = MiniGPTApp(model="shakespeare", device="cpu", precision="fp32")
    app.session.params = app.session.params.replace(seed=11, max_new_tokens=400)
    app.session.full_speed = True
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f7")
        await until(pilot, lambda: app.screen is not app.play, "the screen")
        screen = app.screen
        # What is said before torch is there is answered when it is.
        await say(pilot, screen, "What say you of the king?")
        await until(pilot, lambda: len(screen.chat.path()) == 2 and not screen.busy, "an answer")
        question, answer = screen.chat.path()
        assert (question.name, answer.name) == ("JULIET", "ROMEO")
        assert answer.finish_reason == "stop"
        assert len(answer.text) > 3
        assert "\n\n" not in answer.text
        assert not any(line.endswith(":") and line.isupper() for line in answer.text.split("\n"))
        assert answer.prompt_tokens == len("JULIET:\nWhat say you of the king?\n\nROMEO:\n")
        # What will be read is known before it is sent, to the token.
        screen._editor.text = "And of the queen?"
        told = screen.edge(screen.chat.path()).length
        await pilot.press("enter")
        await until(pilot, lambda: len(screen.chat.path()) == 4 and not screen.busy, "a second answer")
        assert screen.chat.path()[-1].prompt_tokens == told
        screen._transcript.choose(answer.id)
        # The same seed says the same, and another something else; both are kept.
        await pilot.press("escape", "G")
        await until(pilot, lambda: len(screen.chat.versions(answer)) == 2 and not screen.busy, "the same answer")
        assert screen.chat.path()[-1].text == answer.text
        await pilot.press("g")
        await until(pilot, lambda: len(screen.chat.versions(answer)) == 3 and not screen.busy, "another answer")
        assert screen.chat.path()[-1].text != answer.text
        # Cut, and written on: the text that was never cut.
        app.session.params = app.session.params.replace(max_new_tokens=12)
        await pilot.press("left_square_bracket", "G")
        await until(pilot, lambda: len(screen.chat.versions(answer)) == 4 and not screen.busy, "half an answer")
        assert screen.chat.path()[-1].finish_reason == "length"
        app.session.params = app.session.params.replace(max_new_tokens=400)
        await pilot.press("c")
        await until(pilot, lambda: screen.chat.path()[-1].finish_reason == "stop", "the other half")
        assert screen.chat.path()[-1].text == answer.text

        # Another model, which has a template.
        await app.run_action("app.use_model('talker')")
        await until(pilot, lambda: screen.info.name == "talker", "the other model")
        await until(pilot, lambda: screen.script.kind == "model", "its template")
        app.session.params = app.session.params.replace(max_new_tokens=20)
        await pilot.press("x", "tab", "i")
        await say(pilot, screen, "Be brief.")
        await say(pilot, screen, "Who goes <|im_end|> there?")
        await until(pilot, lambda: len(screen.chat.path()) == 2 and not screen.busy, "its answer")
        assert screen.writing.document.text().startswith(
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWho goes <|im_end|> there?<|im_end|>\n"
            "<|im_start|>assistant\n"
        )
        # What was written is words, and what the template writes is commands.
        ids, end = screen.writing.prompt_tokens, Tokenizer.open(talker).vocab_size - 1
        assert ids.count(end) == 2
        assert screen.writing.first_params.stop == ("<|endoftext|>", *SPECIAL)
        last = screen.chat.path()[-1]
        assert last.model == "talker"
        assert 0 < last.new_tokens <= 20
        assert screen.edge(screen.chat.path()).length == last.prompt_tokens + last.new_tokens
        shown = "\n".join("".join(segment.text for segment in strip) for strip in screen._compositor.render_strips())
        assert "im_start" not in shown
        await pilot.press("ctrl+q")
