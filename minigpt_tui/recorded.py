"""A recorded text as one that can be shown, and as a request that writes it again. Plain data: it knows nothing of
screens, nor of the engine.
"""

from __future__ import annotations

from itertools import pairwise

from engine.config import SamplingParams
from engine.worker.protocol import ModelInfo, ParamsAt
from minigpt_tui.history.entry import Entry
from minigpt_tui.parameters import changes
from minigpt_tui.text_document import Kind
from minigpt_tui.text_part import Part
from minigpt_tui.writing import Facts, Writing


def load_entry(entry: Entry, writing: Writing) -> None:
    """Let a text be a recorded one, with marks where its settings changed.

    Of each token nothing but its id was recorded, so all of them stand before the trace.
    """
    texts = ((entry.prompt, int(Kind.PROMPT)), *_marked(entry))
    settings = (ParamsAt(len(entry.prompt_tokens), entry.params), *entry.changes)
    tokens = (*entry.prompt_tokens, *entry.tokens)
    part = Part(texts=tuple(piece for piece in texts if piece[0]), settings=settings)
    facts = Facts(
        prompt=entry.prompt,
        text_start=part.length,
        seed=entry.params.seed,
        model=_model(entry),
        asked_model=entry.model,
        began=entry.time,
        run_position=len(entry.prompt_tokens),
        run_start=len(entry.prompt),
        new_tokens=len(entry.tokens),
        tokens_per_second=entry.tokens_per_second,
        first_token_seconds=entry.time_to_first_token,
        finish_reason=entry.finish_reason,
    )
    writing.load(tokens, [(part, None, None)], facts)


def _marked(entry: Entry) -> list[tuple[str, int]]:
    """The new text with its marks. Where a token is not one character, nobody knows where in the text a change fell:
    such marks stand at its end and say from which token on they held.
    """
    marks: list[tuple[int, str]] = []
    before = entry.params
    for change in entry.changes:
        if said := changes(before, change.params):
            marks.append((change.position - len(entry.prompt_tokens), said))
        before = change.params
    text, places = entry.text, [0]
    if len(text) == len(entry.tokens):
        places += [min(max(0, place), len(text)) for place, _ in marks] + [len(text)]
        shown = [f"⟨{said}⟩" for _, said in marks]
    else:
        places += [len(text)] * (len(marks) + 1)
        shown = [f"⟨{said} from token {place + 1:,} on⟩" for place, said in marks]
    found: list[tuple[str, int]] = []
    for (start, end), mark in zip(pairwise(places), [*shown, ""], strict=True):
        found += [(text[start:end], int(Kind.GENERATED)), (mark, int(Kind.MARK))]
    return found


def _model(entry: Entry) -> ModelInfo | None:
    """What was recorded of the model; its shape was not."""
    if not entry.sha256:
        return None
    return ModelInfo(
        name=entry.model,
        path=entry.model_path,
        family=entry.family,
        parameters=entry.parameters,
        vocab_size=0,
        block_size=0,
        n_layer=0,
        n_head=0,
        n_embd=0,
        tokenizer="",
        device=entry.device,
        precision=entry.precision,
        sha256=entry.sha256,
    )


def to_write_again(entry: Entry) -> tuple[SamplingParams, tuple[ParamsAt, ...]]:
    """Settings and their changes that write a recorded text again to its last token, and no further."""
    if entry.finish_reason in ("length", "stop"):
        return entry.params, entry.changes
    # It was stopped, or lost: nothing in its settings says where.
    count = max(1, len(entry.tokens))
    cut = [ParamsAt(change.position, _cut(change.params, count)) for change in entry.changes]
    return _cut(entry.params, count), tuple(cut)


def _cut(params: SamplingParams, count: int) -> SamplingParams:
    cut: SamplingParams = params.replace(max_new_tokens=count)
    return cut
