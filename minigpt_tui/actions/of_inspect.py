"""What can be done while the text is inspected."""

from __future__ import annotations

from minigpt_tui.actions.action import Action, Where

P_, I_, H_ = Where.PLAY, Where.INSPECT, Where.HEADS

ACTIONS: tuple[Action, ...] = (
    Action("inspect", "i", "i", "inspect", "Walk through the text, and see what could have come.", P_, "inspect"),
    Action("colour", "h", "h", "colour", "Colour the text by probability, entropy, rank, or not.", P_, "colour"),
    Action("attention", "A", "A", "attention", "What the heads look at from the cursor.", P_, "attention"),
    Action("lens", "W", "W", "logit lens", "What each layer would say at the cursor.", P_, "lens"),
    Action("score", "Q", "Q", "score a text", "How surprised the model is by any text.", P_, "score"),
    Action("token_left", "left", "←", "token back", "The token before.", I_, "walk(-1)", False),
    Action("token_right", "right", "→", "token on", "The token after.", I_, "walk(1)", False),
    Action("token_up", "up", "↑", "row up", "The row above, in the same column.", I_, "walk_rows(-1)", False),
    Action("token_down", "down", "↓", "row down", "The row below, in the same column.", I_, "walk_rows(1)", False),
    Action("token_page_up", "pageup", "pgup", "page up", "A page up.", I_, "walk_pages(-1)", False),
    Action("token_page_down", "pagedown,space", "pgdn", "page down", "A page down.", I_, "walk_pages(1)", False),
    Action("token_first", "home", "home", "start", "The first token.", I_, "walk_to_start", False),
    Action("token_last", "end", "end", "end", "Behind the last token: what comes next.", I_, "walk_to_end", False),
    Action(
        "mark_next", "right_square_bracket,plus", "]", "mark next", "Mark the next token of the list.", I_, "mark(1)",
        False,
    ),
    Action(
        "mark_before", "left_square_bracket,minus", "[", "mark before", "Mark the one before it.", I_, "mark(-1)", False
    ),
    Action(
        "fork_marked", "enter", "enter", "fork", "Go on from here with the marked token, in a branch of its own.", I_,
        "take_marked", False,
    ),
    Action("next_head", "H", "H", "next head", "The next head of the layer; then their mean.", I_, "head(1)", False),
    Action("next_layer", "E", "E", "next layer", "The next layer; then the mean of all.", I_, "layer(1)", False),
    Action("head_left", "left", "←", "head before", "The head before; then their mean.", H_, "head(-1)", False),
    Action("head_right", "right", "→", "next head", "The next head of the layer.", H_, "head(1)", False),
    Action("layer_up", "up", "↑", "layer above", "The layer before; then all.", H_, "layer(-1)", False),
    Action("layer_down", "down", "↓", "next layer", "The next layer.", H_, "layer(1)", False),
    Action("mean_head", "home,backspace", "home", "mean", "The mean of the layer; then of all.", H_, "mean", False),
)  # fmt: skip
