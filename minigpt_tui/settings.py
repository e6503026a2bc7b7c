"""What the last session left: sampling parameters, pace, earlier prompts, the bell. Written so that a crash leaves the
old file or the new one; a damaged file is set aside and never stops the app.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import msgspec

from engine import folders
from engine.config import SamplingParams

READING_PACE = 60.0
"""Tokens per second at which a text of characters reads well."""

PACES = (2.0, 5.0, 10.0, 20.0, 30.0, READING_PACE, 100.0, 200.0, 500.0)
"""The paces that the keys step through, in tokens per second."""

SEEDS = 1_000_000
"""Seeds that are drawn are below this: they can be read out, and typed again."""

PROMPTS_KEPT = 200
PROMPT_LENGTH_KEPT = 20_000
"""Longer prompts are not kept for the next session."""


_SAVING = threading.Lock()


def drawn_seed() -> int:
    """A seed below `SEEDS` that nobody could have foretold."""
    import secrets  # when one is drawn: the first screen does not wait for it

    return secrets.randbelow(SEEDS)


class Session(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The state of the app that outlives it.

    Attributes:
        params: How the next text is drawn.
        pace: Tokens per second, when not at full speed.
        full_speed: Whether the pace is set aside.
        prompts: Earlier prompts, the oldest first.
        bell: Whether the end of a training run rings.
        welcomed: Whether the steps of a first start were shown.
    """

    params: SamplingParams = SamplingParams()
    pace: float = READING_PACE
    full_speed: bool = False
    prompts: list[str] = []
    bell: bool = False
    welcomed: bool = False

    @property
    def effective_pace(self) -> float:
        """Tokens per second as the engine takes it: 0 for no limit."""
        return 0.0 if self.full_speed else self.pace

    @property
    def pace_words(self) -> str:
        """The pace as it is said."""
        return "full speed" if self.full_speed else f"pace {self.pace:g} tok/s"

    def turn_pace(self, direction: int) -> None:
        """The next pace up or down; from full speed, the one that was set aside."""
        faster, slower = [p for p in PACES if p > self.pace], [p for p in PACES if p < self.pace]
        following = faster[:1] if direction > 0 else slower[-1:]
        if following and not self.full_speed:
            self.pace = following[0]
        self.full_speed = False

    def remember_prompt(self, prompt: str) -> None:
        """Put a prompt at the end of the earlier ones; one that was there moves."""
        if prompt.strip():
            self.prompts = [*(earlier for earlier in self.prompts if earlier != prompt), prompt][-PROMPTS_KEPT:]


def session_file() -> Path:
    """Where the session is kept."""
    return folders.state_home() / "session.json"


def load_session() -> tuple[Session, str]:
    """The last session and, when its file was damaged, a sentence that says so; a fresh one when there is none."""
    path = session_file()
    try:
        session = msgspec.json.decode(path.read_bytes(), type=Session)
    except FileNotFoundError:
        return Session(), ""
    except (OSError, ValueError) as error:
        aside = path.with_suffix(".damaged")
        with contextlib.suppress(OSError):
            path.replace(aside)
        return Session(), f"The last session could not be read ({error}); its file is kept as {aside}."
    if not 0 < session.pace <= 1e6:
        session.pace = READING_PACE
    return session, ""


def save_session(session: Session) -> None:
    """Write the session as it is now; when the disk does not let it, the next start is a fresh one.

    Threads may save one session at the same time: whichever writes last writes its latest state.
    """
    path = session_file()
    with _SAVING, contextlib.suppress(OSError):
        kept = [prompt for prompt in session.prompts if len(prompt) <= PROMPT_LENGTH_KEPT]
        data = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(session, prompts=kept)))
        folders.private(path.parent)
        from engine.safe_writing import write_file  # not at the start: the first screen does not wait for it

        write_file(path, data)
