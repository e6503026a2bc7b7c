"""Looking inside the bundled model with the real engine: what the screen shows is what the engine says."""

from __future__ import annotations

import math

import pytest
from test_play_with_engine import until

from engine.checkpoints import load_model
from engine.evaluation import score
from minigpt_tui.app import MiniGPTApp
from minigpt_tui.widgets.attention_grid import Choice


def shown(app: MiniGPTApp, selector: str) -> str:
    region = app.screen.query_one(selector).region
    lines = app.screen._compositor.render_strips()[region.y : region.bottom]
    return "\n".join(strip.crop(region.x, region.right).text for strip in lines)


async def test_a_text_is_written_inspected_scored_and_forked(home):
    app = MiniGPTApp(device="cpu", precision="fp32")
    app.session.welcomed, app.session.full_speed = True, True
    app.session.params = app.session.params.replace(max_new_tokens=80, seed=3, top_k=12)
    async with app.run_test(size=(140, 40)) as pilot:
        play, writing = app.play, app.play.writing
        await until(pilot, lambda: play.model is not None, "the model")
        await pilot.press(*"ROMEO:", "enter")
        await until(pilot, lambda: writing.finish_reason, "a text")
        tokens, text = writing.tokens(), writing.document.text()
        trace = writing.trace
        assert all(trace.figures(index)[1] >= 1 and trace.figures(index)[2] >= 0 for index in range(80))

        # The prompt is scored in the background; what was drawn has the figures that it was drawn with.
        await pilot.press("i")
        await until(pilot, lambda: play._places.scored is not None, "the prompt's figures")
        model = load_model("shakespeare", device="cpu", precision="fp32")
        expected = score(model, tokens)
        for position in range(1, len(tokens)):
            figures, told = play._places.figures(position), expected.tokens[position - 1]
            assert figures.logprob == pytest.approx(told.logprob, abs=1e-3)
            assert figures.entropy == pytest.approx(told.entropy, abs=1e-3)

        # A place in the middle: the panel's figures are the engine's.
        await pilot.press("home", "down", *["right"] * 5, "A")
        await until(pilot, lambda: play._looking.wanted is None and play._heads is not None, "what the heads look at")
        position = play._cursor
        answer = await app.engine.inspect(
            tokens[: position + 1], position, model=writing.asked_model, device="cpu", precision="fp32",
            params=writing.params_at(position), attention=True, lens=True,
        )  # fmt: skip
        place = play._at.place
        assert (place.token, place.drawn, place.entropy) == (answer.token, answer.drawn, answer.entropy)
        assert place.figures == (answer.logprob, answer.rank, answer.entropy)
        assert place.alternatives == answer.distribution
        assert len(place.alternatives) == play.model.vocab_size
        assert sum(alternative.drawn > 0 for alternative in place.alternatives) == 12
        assert f"rank {answer.rank}" in shown(app, "#at")
        assert f"{-answer.logprob / math.log(2):.2f} bits" in shown(app, "#at")
        heads = play._heads
        assert (heads.n_layer, heads.n_head, heads.length) == (play.model.n_layer, play.model.n_head, position)
        for layer in range(heads.n_layer):
            for head in range(heads.n_head):
                assert sum(heads.of(layer, head)) == pytest.approx(1.0, abs=0.02)
        await pilot.press("E", "H")
        assert play._grid.choice == Choice(0, 0)
        assert play._grid.looked_at[0].share == max(heads.of(0, 0))
        await pilot.press("W")
        for ours, theirs in zip(play._lens.guesses, answer.lens, strict=True):
            assert [guess.token for guess in ours] == [guess.token for guess in theirs]
            assert [guess.logprob for guess in ours] == pytest.approx([guess.logprob for guess in theirs], abs=1e-4)
        assert len(answer.lens) == play.model.n_layer + 1
        likeliest = answer.distribution[0]
        assert answer.lens[-1][0].token == likeliest.token
        assert answer.lens[-1][0].logprob == pytest.approx(likeliest.logprob, abs=1e-2)
        await pilot.press("W")

        # Enter on another token goes on from there, in a branch of its own.
        alternative = next(one for one in answer.distribution if one.drawn and one.token != answer.token)
        play._mark(answer.distribution.index(alternative))
        await pilot.press("enter")
        await until(pilot, lambda: not play._live.running and writing.tokens() != tokens, "the fork")
        assert writing.tokens()[: position + 1] == (*tokens[:position], alternative.token)
        assert writing.document.text().startswith(text[:position] + alternative.text)
        assert len(play.branches) == 2
        assert play.inspecting

        # A pasted text is scored: the same figures as the engine's, and what the model does not know is named.
        await pilot.press("Q")
        app.screen.query_one("#prompt").text = "What light through yonder ☃ window breaks?"
        await pilot.press("enter")
        await until(pilot, lambda: writing.finish_reason == "scored", "the score")
        expected = score(model, "What light through yonder ☃ window breaks?")
        assert writing.document.text() == expected.text
        await until(pilot, lambda: f"loss {expected.loss:.3f}" in shown(app, "#status"), "the loss")
        assert f"perplexity {expected.perplexity:,.2f}" in shown(app, "#status")
        assert f"{expected.bits_per_byte:.3f} bits per byte" in shown(app, "#status")
        assert "☃" in str(app.screen.query_one("#prompt").border_title)
        await until(pilot, lambda: play._looking.wanted is None, "the answer at the most surprising place")
        surprising = min(range(len(expected.tokens)), key=lambda n: expected.tokens[n].logprob) + 1
        assert play._cursor == surprising
        assert play._at.place.figures.rank == expected.tokens[surprising - 1].rank
        await pilot.press("ctrl+q")
