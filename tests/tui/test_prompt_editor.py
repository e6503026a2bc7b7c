"""The prompt's editor: up and down move within a long prompt, and recall others from its outer rows."""

from __future__ import annotations

from textual.app import App, ComposeResult

from minigpt_tui.widgets.prompt_editor import PromptEditor


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
