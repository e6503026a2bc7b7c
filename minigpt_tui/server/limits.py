"""How much one request, and all of them, may ask for. Knows nothing of HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import InvalidSettingError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the server does not go beyond.

    Attributes:
        prompt_tokens: Of one prompt, or of a text to score.
        new_tokens: Of one text.
        batch: Texts of one request: its prompts times `n`.
        running: Texts that are written at the same time.
        waiting: Texts that wait for their turn.
        body_bytes: Of a request.
    """

    prompt_tokens: int = 8192
    new_tokens: int = 4096
    batch: int = 64
    running: int = 64
    waiting: int = 256
    body_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        if self.batch > self.running + self.waiting:
            raise InvalidSettingError(
                f"a request may have {self.batch} texts, and there is room for {self.running + self.waiting}",
                "allow fewer texts in a request, or more that run or wait",
            )
