"""What came of each prompt of a batch, and how it is kept: as an entry of the history, a line of JSON, a row of CSV.
Plain data.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any, Literal

from engine import __version__
from engine.errors import MiniGPTError
from engine.validation import to_dict
from engine.worker.protocol import Done, ModelInfo, Started, Tokens
from minigpt_tui.batch.prompt_lines import Job
from minigpt_tui.history.entry import Entry

State = Literal["waiting", "writing", "ended", "failed", "left"]
"""What becomes of a prompt; `left` is one whose turn never came."""

COLUMNS = (
    "prompt", "text", "tokens", "finish_reason", "tokens_per_second", "time_to_first_token", "seed", "model",
    "device", "precision",
)  # fmt: skip
"""The first columns of a CSV; those of the settings follow."""


class Result:
    """One prompt's text as it comes.

    Attributes:
        job: The prompt, with a seed.
        prompt: As the model read it.
        tokens: Ids of the new text.
        began: In seconds since 1970; 0 before it has.
        finish_reason: length, stop, cancelled or lost; empty while it is written.
        problem: Why it was not written, or no further.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state: State = "waiting"
        self.prompt, self.left_out = job.prompt, ""
        self.prompt_tokens: tuple[int, ...] = ()
        self.tokens: list[int] = []
        self.began = 0.0
        self.finish_reason = ""
        self.tokens_per_second = self.time_to_first_token = 0.0
        self.problem: MiniGPTError | None = None
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """The new text so far."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    @property
    def has_begun(self) -> bool:
        """Whether anything came of it, be it the end at once."""
        return bool(self.tokens) or self.state == "ended"

    def start(self, event: Started, now: float) -> None:
        """It has begun."""
        self.state, self.began = "writing", now
        self.prompt, self.prompt_tokens, self.left_out = event.prompt, event.prompt_tokens, event.left_out

    def add(self, event: Tokens) -> None:
        """It has gone on."""
        self.tokens += [token.token for token in event.tokens]
        self._pieces += [token.text for token in event.tokens]
        self.tokens_per_second = event.tokens_per_second

    def end(self, event: Done) -> None:
        """It has ended."""
        self._pieces.append(event.text)
        self.state, self.finish_reason = "ended", event.finish_reason
        self.tokens_per_second, self.time_to_first_token = event.tokens_per_second, event.time_to_first_token

    def fail(self, problem: MiniGPTError) -> None:
        """It was not written, or no further; what is there stays."""
        self.state, self.problem = "failed", problem
        self.finish_reason = "lost" if self.tokens else ""


def entry_of(result: Result, model: str, info: ModelInfo) -> Entry:
    """A result as the history has it.

    Args:
        result: One that has begun.
        model: The name by which its model was asked for.
        info: What is known of that.
    """
    return Entry(
        time=result.began,
        source="batch",
        prompt=result.prompt,
        text=result.text,
        prompt_tokens=result.prompt_tokens,
        tokens=tuple(result.tokens),
        params=result.job.params,
        finish_reason=result.finish_reason or "cancelled",
        tokens_per_second=result.tokens_per_second,
        time_to_first_token=result.time_to_first_token,
        model=model or info.name,
        model_path=info.path,
        sha256=info.sha256,
        family=info.family,
        parameters=info.parameters,
        device=info.device,
        precision=info.precision,
        version=__version__,
    )


def _record(result: Result, info: ModelInfo) -> dict[str, Any]:
    """A result with the keys that `generate --json` has."""
    return {
        "prompt": result.prompt,
        "text": result.text,
        "tokens": len(result.tokens),
        "finish_reason": result.finish_reason,
        "seed": result.job.params.seed,
        "tokens_per_second": round(result.tokens_per_second, 3),
        "time_to_first_token": round(result.time_to_first_token, 6),
        "model": info.name,
        "device": info.device,
        "precision": info.precision,
        "params": to_dict(result.job.params),
    }


def as_jsonl(results: Iterable[Result], info: ModelInfo) -> str:
    """A line for each result that has begun, in the order of the prompts."""
    return "".join(json.dumps(_record(each, info), ensure_ascii=False) + "\n" for each in results if each.has_begun)


def as_csv(results: Iterable[Result], info: ModelInfo) -> str:
    """A row for each result that has begun, below a row of names."""
    out = io.StringIO(newline="")
    rows = [_record(each, info) for each in results if each.has_begun]
    settings = [name for name in (rows[0]["params"] if rows else ()) if name != "seed"]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS, *settings])
    for row in rows:
        values = [row["params"][name] for name in settings]
        texts = [
            json.dumps(value, ensure_ascii=False) if isinstance(value, list | tuple) else value for value in values
        ]
        writer.writerow([*(row[name] for name in COLUMNS), *texts])
    return out.getvalue()
