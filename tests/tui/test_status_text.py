"""The words of the status line and the keys of the text panel: what they claim holds."""

from __future__ import annotations

from engine.config import SamplingParams
from minigpt_tui.settings import Session
from minigpt_tui.status_text import finished_words, text_keys
from minigpt_tui.writing import Writing


def test_a_text_that_a_stop_string_may_have_ended_is_not_said_to_have_ended_by_itself():
    writing = Writing()
    writing.finish_reason = "stop"
    assert finished_words(writing).startswith("ended by itself")
    writing.params = SamplingParams(stop=("\n\n",))
    assert finished_words(writing).startswith("came to an end")


def test_an_empty_panel_names_no_key_that_needs_a_text():
    def keys(**state: bool) -> str:
        return " ".join(text_keys(False, Session(), **state))

    for needs_text in ("continue", "again", "copy", "save"):
        assert needs_text in keys()
        assert needs_text not in keys(is_empty=True)
    assert "from nothing" in keys(is_empty=True)
