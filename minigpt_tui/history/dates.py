"""Dates as they are typed and read, in the local time: 2026-11-21, 7d, today, or two of them with `..` between."""

from __future__ import annotations

import datetime as dt
import re

from engine.errors import InvalidSettingError

_AGO = re.compile(r"(\d{1,5})\s*(h|d|w|hours?|days?|weeks?)(?: ago)?")
_HOURS = {"h": 1, "d": 24, "w": 168}
HINT = "write 2026-11-21, today, yesterday, 7d, or two with .. between"


def parse_dates(text: str, now: dt.datetime | None = None) -> tuple[float | None, float | None]:
    """Since when and until before when; None for no bound.

    Args:
        text: One date: since then (a day: that day alone). Two with `..` between: from the first day to the last, one
            of which may be missing. Empty: no bounds.
        now: The time from which it is reckoned back.

    Raises:
        InvalidSettingError: It is none of these.
    """
    first, dots, last = text.strip().lower().partition("..")
    if not first and not last:
        return None, None
    since, day_end = _moment(first, now) if first else (None, None)
    until = day_end if not dots else (_moment(last, now)[1] if last else None)
    if since is not None and until is not None and until <= since:
        raise InvalidSettingError(f"{text.strip()!r} ends before it begins", "write the earlier date first")
    return since, until


def parse_since(text: str) -> float:
    """Since when: the beginning of a day, or so long ago.

    Raises:
        InvalidSettingError: It is no date.
    """
    return _moment(text.strip().lower(), None)[0]


def _moment(text: str, now: dt.datetime | None) -> tuple[float, float | None]:
    """When something begins, and when it ends; None for an age, which has no end."""
    now = now or dt.datetime.now()
    try:
        if match := _AGO.fullmatch(text.strip()):
            return (now - dt.timedelta(hours=int(match[1]) * _HOURS[match[2][0]])).timestamp(), None
        named = {"today": 0, "yesterday": 1}.get(text.strip())
        date = now.date() - dt.timedelta(days=named) if named is not None else dt.date.fromisoformat(text.strip())
        return _midnight(date), _midnight(date + dt.timedelta(days=1))
    except (ValueError, OverflowError, OSError):
        raise InvalidSettingError(f"{text!r} is no date", HINT) from None


def _midnight(date: dt.date) -> float:
    return dt.datetime.combine(date, dt.time()).timestamp()


def time_text(seconds: float) -> str:
    """A moment, such as 2026-11-21 17:12."""
    return local(seconds).strftime("%Y-%m-%d %H:%M")


def local(seconds: float) -> dt.datetime:
    """A moment in the local time; the beginning of time where there is no such moment."""
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC).astimezone()
    except (ValueError, OverflowError, OSError):
        return dt.datetime.fromtimestamp(0, dt.UTC).astimezone()  # without the UTC, Windows cannot tell of this day
