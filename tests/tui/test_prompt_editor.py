"""The prompt's editor: up and down move within a long prompt, and recall others from its outer rows."""

from __future__ import annotations

import time

import pytest
from textual.app import App, ComposeResult
from textual.events import Paste

from minigpt_tui.widgets.prompt_editor import MOST_EDITED, PromptEditor


async def test_in_a_wrapped_prompt_up_and_down_move_by_rows_before_they_recall():
    class Shown(App[None]):
        def compose(self) -> ComposeResult:
            yield PromptEditor(["earlier"])

    async with Shown().run_test(size=(30, 12)) as pilot:
        editor = pilot.app.query_one(PromptEditor)
        long = "a long prompt of one line " * 3
        editor.text = long
        editor.move_cursor(editor.document.end)
        await pilot.pause()
        rows = editor.wrapped_document.height
        assert rows > 1
        await pilot.press(*["up"] * (rows - 1))
        assert editor.text == long
        await pilot.press("up")
        assert editor.text == "earlier"
        await pilot.press("down")
        assert editor.text == long
        editor.move_cursor((0, 0))
        await pilot.press(*["down"] * (rows - 1))
        assert editor.text == long
        assert editor.cursor_location[1] > len(long) - 30


class Editing(App[None]):
    def __init__(self, earlier: list[str] | None = None) -> None:
        super().__init__()
        self.sent: list[str] = []
        self.earlier = earlier or []

    def compose(self) -> ComposeResult:
        yield PromptEditor(self.earlier)

    def on_prompt_editor_sent(self, event: PromptEditor.Sent) -> None:
        self.sent.append(event.prompt)


MEGABYTES = {
    "lines": "the quick brown fox jumps over the dog\n" * 25_600,
    "one line": "the quick brown fox jumps " * 38_500,
    "wide": "漢字 " * 350_000,
}


@pytest.mark.parametrize("text", MEGABYTES.values(), ids=MEGABYTES.keys())
async def test_a_megabyte_is_pasted_without_a_wait_and_sent_to_the_letter(text):
    async with Editing().run_test(size=(80, 24)) as pilot:
        editor = pilot.app.query_one(PromptEditor)
        await pilot.press("a")
        began = time.thread_time()
        pilot.app.post_message(Paste(text))
        await pilot.pause()
        await pilot.press("b")
        assert time.thread_time() - began < 1.5  # seconds of work; unfolded it is 2 to 10
        assert f"⟨{len(text):,} characters: " in editor.document.text
        assert editor.text == f"a{text}b"
        await pilot.press("enter")
        assert pilot.app.sent == [f"a{text}b"]


async def test_two_long_pastes_that_look_alike_are_both_there():
    one, other = "x" * 20_000 + "1", "x" * 20_000 + "2"
    async with Editing().run_test(size=(80, 24)) as pilot:
        for text in (one, other, one):
            pilot.app.post_message(Paste(text))
            await pilot.pause()
        editor = pilot.app.query_one(PromptEditor)
        assert editor.text == one + other + one
        await pilot.press("backspace")  # a sign that was changed is what is seen
        assert editor.text.startswith(one + other + "⟨20,001 characters: xxx")


async def test_a_short_paste_is_text_and_many_of_them_are_folded_when_they_are_long_together():
    async with Editing().run_test(size=(80, 24)) as pilot:
        editor = pilot.app.query_one(PromptEditor)
        half = "y" * (MOST_EDITED // 2)
        for _ in range(3):
            pilot.app.post_message(Paste(half))
            await pilot.pause()
        assert editor.text == half * 3
        assert len(editor.document.text) < MOST_EDITED + 200


async def test_a_long_prompt_is_recalled_folded():
    long = "z" * 50_000
    async with Editing([long]).run_test(size=(80, 24)) as pilot:
        editor = pilot.app.query_one(PromptEditor)
        await pilot.press("up")
        assert editor.text == long
        assert len(editor.document.text) < 100


@pytest.mark.parametrize("size", [(24, 9), (61, 12)])
async def test_no_line_of_the_editor_is_wider_than_it_is(size):
    text = "漢字 👩\u200d💻 🇩🇪 ❤\ufe0f שלום مرحبا क्षि e\u0301 👍🏽 ด้้ " * 6
    async with Editing().run_test(size=size) as pilot:
        editor = pilot.app.query_one(PromptEditor)
        pilot.app.post_message(Paste(text))
        await pilot.pause()
        assert editor.text == text
        for strip in pilot.app.screen._compositor.render_strips():
            assert strip.cell_length == size[0]
            assert sum(segment.cell_length for segment in strip) == size[0]
