"""Figures of all that was generated: how much, how fast by model, device and precision, how long. SQLite counts; what
comes back is small however many texts there are. What was deleted does not count.
"""

from __future__ import annotations

import msgspec

from minigpt_tui.history.dates import local
from minigpt_tui.history.store import Store

LENGTHS = (1, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
"""Where the classes of lengths begin, in tokens; what is longer than the last is in the last."""


class Speed(msgspec.Struct, frozen=True):
    """How fast a model wrote on a device in a precision.

    Attributes:
        mean: Tokens per second over all its tokens whose speed is known; 0 where none is.
        best: Of its fastest text.
        days: The mean of each day on which it wrote, as (2026-11-21, speed), in order.
    """

    model: str
    device: str
    precision: str
    generations: int
    tokens: int
    mean: float
    best: float
    days: tuple[tuple[str, float], ...]


class Statistics(msgspec.Struct, frozen=True):
    """The figures.

    Attributes:
        prompt_tokens: That were read.
        tokens: That were written.
        seconds: That writing took, where the speed is known.
        first: When the first text began, in seconds since 1970; 0 where there is none.
        days: For each day with texts: (2026-11-21, texts, tokens), in order.
        speeds: The most used first.
        lengths: Texts by length, as (tokens from which on, texts), for all of `LENGTHS`.
        reasons: Why texts ended, as (reason, texts), the most frequent first.
    """

    generations: int
    tokens: int
    prompt_tokens: int
    favourites: int
    seconds: float
    first: float
    last: float
    days: tuple[tuple[str, int, int], ...]
    speeds: tuple[Speed, ...]
    lengths: tuple[tuple[int, int], ...]
    reasons: tuple[tuple[str, int], ...]


QUARTER = 900
"""Seconds: each belongs to one local day, whatever the time zone. SQLite is slow at local days and quick at these."""

_WHERE = "FROM entries WHERE deleted IS NULL"
_KNOWN = "tokens_per_second > 0"


class _Sum:
    """What a model on a device in a precision, or all of them, wrote."""

    def __init__(self) -> None:
        self.generations = self.tokens = self.known = 0
        self.seconds = self.best = 0.0

    def add(self, generations: int, tokens: int, known: int, seconds: float, best: float) -> None:
        self.generations += generations
        self.tokens += tokens
        self.known += known
        self.seconds += seconds
        self.best = max(self.best, best)

    @property
    def speed(self) -> float:
        """Tokens per second, where it is known; else 0."""
        return self.known / self.seconds if self.seconds else 0.0


def gather(store: Store) -> Statistics:
    """Count everything.

    Raises:
        HistoryError: It cannot be read.
    """
    writers: dict[tuple[str, str, str], _Sum] = {}
    days: dict[str, _Sum] = {}
    speeds: dict[tuple[tuple[str, str, str], str], _Sum] = {}
    whole = _Sum()
    for model, device, precision, quarter, *sums in store.select(
        f"SELECT model, device, precision, CAST(time / {QUARTER} AS INTEGER), count(*), sum(new_tokens),"
        f" sum(CASE WHEN {_KNOWN} THEN new_tokens ELSE 0 END),"
        f" sum(CASE WHEN {_KNOWN} THEN new_tokens / tokens_per_second ELSE 0.0 END), max(tokens_per_second)"
        f" {_WHERE} GROUP BY 1, 2, 3, 4 ORDER BY 4"
    ):
        who, day = (model, device, precision), local(quarter * QUARTER).date().isoformat()
        for each in (
            writers.setdefault(who, _Sum()),
            days.setdefault(day, _Sum()),
            speeds.setdefault((who, day), _Sum()),
            whole,
        ):
            each.add(*sums)
    [(prompt_tokens, favourites, first, last)] = store.select(
        f"SELECT sum(prompt_tokens), sum(favourite), min(time), max(time) {_WHERE}"
    )
    return Statistics(
        generations=whole.generations,
        tokens=whole.tokens,
        prompt_tokens=prompt_tokens or 0,
        favourites=favourites or 0,
        seconds=whole.seconds,
        first=first or 0.0,
        last=last or 0.0,
        days=tuple((day, each.generations, each.tokens) for day, each in sorted(days.items())),
        speeds=tuple(
            Speed(
                *who,
                generations=each.generations,
                tokens=each.tokens,
                mean=each.speed,
                best=each.best,
                days=tuple(
                    (day, daily.speed) for (writer, day), daily in speeds.items() if writer == who and daily.seconds
                ),
            )
            for who, each in sorted(writers.items(), key=lambda item: -item[1].generations)
        ),
        lengths=_lengths(store),
        reasons=tuple(store.select(f"SELECT finish_reason, count(*) {_WHERE} GROUP BY 1 ORDER BY 2 DESC")),
    )


def _lengths(store: Store) -> tuple[tuple[int, int], ...]:
    cases = " ".join(f"WHEN new_tokens >= {length} THEN {length}" for length in reversed(LENGTHS))
    found = dict(store.select(f"SELECT CASE {cases} END, count(*) {_WHERE} AND new_tokens > 0 GROUP BY 1"))
    return tuple((length, found.get(length, 0)) for length in LENGTHS)
