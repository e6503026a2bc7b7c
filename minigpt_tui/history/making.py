"""An entry of the history from a text that was written. Plain data in, plain data out."""

from __future__ import annotations

from engine import __version__
from minigpt_tui.history.entry import Entry, Source
from minigpt_tui.writing import Writing


def entry_of(writing: Writing, source: Source) -> Entry:
    """The last run of a text: what was written from its last start or continuation on.

    Args:
        writing: The text; its run has ended, or is kept as it is now.
        source: Where it was written.
    """
    model = writing.model
    tokens = writing.tokens()
    return Entry(
        time=writing.began,
        source=source,
        prompt=writing.document.text_between(0, writing.run_start),
        text=writing.document.text_between(writing.run_start, writing.document.length),
        prompt_tokens=tokens[: writing.run_position],
        tokens=tokens[writing.run_position :],
        params=writing.first_params,
        changes=writing.changes,
        change_at=tuple(
            len(writing.document.text_between(writing.run_start, writing.offset_at(change.position)))
            for change in writing.changes
        ),
        finish_reason=writing.finish_reason or "cancelled",
        tokens_per_second=writing.tokens_per_second,
        time_to_first_token=writing.first_token_seconds,
        model=writing.asked_model or (model.name if model else ""),
        model_path=model.path if model else "",
        sha256=model.sha256 if model else "",
        family=model.family if model else "",
        parameters=model.parameters if model else 0,
        device=model.device if model else "",
        precision=model.precision if model else "",
        version=__version__,
    )
