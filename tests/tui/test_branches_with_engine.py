"""Branches with the real engine process: forks, steps and replays write what one text in one go would have."""

from __future__ import annotations

from pathlib import Path

from endless import make_endless
from test_play_with_engine import shown_text, until

from minigpt_tui.app import MiniGPTApp
from minigpt_tui.kept_branches import load_kept


async def test_forks_steps_continuations_and_replays_write_the_same_text_to_the_letter(
    tiny_model: Path, home: Path, monkeypatch
):
    if not (tiny_model.parent / "endless").exists():
        make_endless()
    entries = []
    monkeypatch.setattr(MiniGPTApp, "on_written", lambda self, event: entries.append(event.entry))
    app = MiniGPTApp(model="endless", device="cpu", precision="fp32")
    app.session.params = app.session.params.replace(max_new_tokens=20, seed=3, temperature=1.5)
    app.session.full_speed = True
    async with app.run_test(size=(140, 40)) as pilot:
        play, writing, live, branches = app.play, app.play.writing, app.play._live, app.play.branches

        async def done(what: str, tokens: int) -> None:
            await until(pilot, lambda: not live.running and writing.length == tokens, what)

        prompt = len("The fox")
        await pilot.press(*"The", "space", *"fox", "enter")
        await done("the first text", prompt + 20)
        whole, ids = writing.document.text(), writing.tokens()

        # A fork at any place with nothing changed is the text itself, and shares its beginning.
        play.fork_at(prompt + 7)
        await until(pilot, lambda: len(branches) == 2, "the fork")
        app.session.params = app.session.params.replace(max_new_tokens=20)
        await done("the fork's text", prompt + 7 + 20)
        assert writing.tokens()[: prompt + 20] == ids
        # A chosen token stands where it was put, with what the model thought of it.
        chosen = writing.trace.token(3).top[2]
        play.fork_at(prompt + 3, chosen.token)
        await until(pilot, lambda: len(branches) == 3, "the second fork")
        await done("its text", prompt + 4 + 20)
        assert writing.tokens()[: prompt + 4] == (*ids[: prompt + 3], chosen.token)
        assert writing.document.text().startswith(whole[: prompt + 3] + chosen.text)
        other = ids[prompt]
        play.fork_at(prompt + 5, other)
        await until(pilot, lambda: len(branches) == 4, "a fork with any token")
        await done("its text", prompt + 6 + 20)
        assert writing.trace.token(5).token == other
        assert writing.trace.token(5).logprob < 0

        # Twenty steps, with a setting turned on the way, are twenty tokens at once with the same turn.
        play._go(branches[1])
        app.session.params = app.session.params.replace(seed=3)
        await pilot.press("x", "a", "end", *["backspace"] * 7, *"The", "space", *"fox", "escape")
        for count in range(20):
            if count == 12:
                await pilot.press("t", "t", "t")
            await pilot.press("j")
            await done("a step", prompt + count + 1)
        stepped, marked = writing.tokens(), shown_text(app)
        assert stepped[: prompt + 12] == ids[: prompt + 12]
        assert "⟨temperature 1.35⟩" in marked
        before = len(entries)
        await pilot.press("c")
        await done("the text to go on", prompt + 40)
        [steps, _] = entries[before:]
        assert (steps.tokens, [change.position for change in steps.changes]) == (stepped[prompt:], [prompt + 12])
        # The recorded steps are written again in one go.
        play.open_entry(steps, replay=True)
        await done("the replay", prompt + 20)
        assert writing.tokens() == stepped
        assert shown_text(app) == marked
        # Shown, not written: the same text, with its mark in its place.
        play.open_entry(steps, replay=False)
        await pilot.pause()
        assert shown_text(app) == marked

        # A text that is left in mid-stream goes on as if it had not been.
        app.session.params = app.session.params.replace(temperature=1.5, max_new_tokens=-1)
        app.session.full_speed, app.session.pace = False, 50.0
        play._go(branches[1])
        await pilot.press("G")
        await until(pilot, lambda: live.streaming and writing.length > prompt + 4, "a text to leave")
        left = branches.current
        await pilot.press("b", "home")
        await until(pilot, lambda: branches.current is branches[1], "the first branch")
        assert not live.running
        app.session.params = app.session.params.replace(max_new_tokens=20)
        play._go(left)
        have = writing.length
        await pilot.press("escape", "c")
        await done("the rest", have + 20)
        assert writing.tokens()[: prompt + 20] == ids

        # What is on the screen is on the disk.
        play.close_texts()
        kept, problem = load_kept()
        assert not problem
        assert {branch.id for branch in kept.branches} == {branch.id for branch in branches}
