"""How quick a full history is on this machine: searching as one types, opening, counting, keeping one more. And how
large its file is: with an index that knows where each trigram is, with one that knows only which texts have it, and
with none. Prints JSON.

    python benchmarks/history.py [--entries 100000] [--characters 500] [--compare]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from textual.app import App

from engine.config import SamplingParams
from engine.folders import bundled_texts
from minigpt_tui.history import database, migrations
from minigpt_tui.history.database import transaction
from minigpt_tui.history.entry import Entry
from minigpt_tui.history.rows import INSERT_ENTRY, INSERT_TEXT, facts_of, text_of
from minigpt_tui.history.searching import Query
from minigpt_tui.history.statistics import gather
from minigpt_tui.history.store import Store
from minigpt_tui.paths import history_file
from minigpt_tui.screens.history import HistoryScreen
from minigpt_tui.settings import Session
from minigpt_tui.themes import variable_defaults

REPEATS = 5
TYPED = "the fox and the river"
SEARCHES = ("the", "there", "fox river", '"the river said"', "qz", "e", "zebra", "é")
"""Frequent, frequent and long, two pieces, a phrase that is not there, rare, frequent and short, not there."""

WITH_PLACES = [statement.replace("detail='none', columnsize=0", "detail='full'") for statement in migrations.INDEX]


def make_entry(source: str, rng: random.Random, characters: int, number: int) -> Entry:
    """A stretch of a text, as if a model had written it; a token for each character."""
    length = rng.randrange(characters // 2, characters * 3 // 2)
    start = rng.randrange(len(source) - length)
    text = source[start : start + length]
    params = SamplingParams(seed=rng.randrange(2**31), temperature=round(rng.random(), 2))
    return Entry(
        time=1_700_000_000.0 + 60 * number,
        source="play",
        prompt=text[:20],
        text=text[20:],
        prompt_tokens=tuple(rng.randrange(100) for _ in range(20)),
        tokens=tuple(rng.randrange(100) for _ in range(length - 20)),
        params=params,
        finish_reason="length",
        tokens_per_second=rng.uniform(50, 5000),
        time_to_first_token=0.01,
        model=rng.choice(("shakespeare", "fables-nano", "fables-nano:step-500")),
        sha256="0" * 64,
        family="qwen3",
        parameters=3_200_000,
        device="cpu",
        precision=rng.choice(("fp32", "int8")),
        version="0.1.0",
        favourite=rng.random() < 0.02,
    )


def fill(path: Path, entries: int, characters: int) -> None:
    """A history of so many entries, written at once; the index is made when it is next opened."""
    source = (bundled_texts() / "fables.txt").read_text(encoding="utf-8")
    rng = random.Random(1)
    with Store(path, index=False) as store, transaction(store._connection):
        for number in range(entries):
            entry = make_entry(source, rng, characters, number)
            store._connection.execute(INSERT_ENTRY, facts_of(entry))
            store._connection.execute(INSERT_TEXT, (number + 1, *text_of(entry)))
        store._connection.execute("INSERT OR REPLACE INTO facts VALUES ('stale', '1')")


def milliseconds(work: Callable[[], object]) -> float:
    """The median time of a call."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return round(1000 * statistics.median(times), 2)


def search(store: Store, words: str, whole: bool = False) -> int:
    """What the screen does: the first numbers and the first page of rows; or all numbers."""
    found = store.find(Query(words=words))
    first = next(found, [])
    store.rows(first[:40])
    return len(first) + (sum(map(len, found)) if whole else 0)


def open_screen(path: Path) -> None:
    """What opening the screen waits for: the file, the first page and the entry that is shown."""
    with Store(path) as store:
        first = next(store.find(Query()))
        store.rows(first[:40])
        store.entry(first[0])


def size(path: Path) -> float:
    """Megabytes of the file, after its log went into it."""
    with Store(path) as store:
        store.select("PRAGMA wal_checkpoint(TRUNCATE)")
    return round(path.stat().st_size / 1e6, 1)


def measure(path: Path) -> dict[str, object]:
    """All figures of a full history."""
    source = (bundled_texts() / "fables.txt").read_text(encoding="utf-8")
    typed = [TYPED[: length + 1] for length in range(len(TYPED))]
    with Store(path) as store:
        count = len(store.ids())
        searches = {
            words: {
                "found": search(store, words, whole=True),
                "shown_ms": milliseconds(lambda words=words: search(store, words)),
                "complete_ms": milliseconds(lambda words=words: search(store, words, whole=True)),
            }
            for words in SEARCHES
        }
        typing = {words: milliseconds(lambda words=words: search(store, words)) for words in typed}
        rng = random.Random(2)
        return {
            "entries": count,
            "search": searches,
            "typing_slowest_ms": max(typing.values()),
            "open_ms": milliseconds(lambda: open_screen(path)),
            "all_numbers_ms": milliseconds(store.ids),
            "filter_by_model_ms": milliseconds(lambda: next(store.find(Query(model="fables-nano", favourites=True)))),
            "page_ms": milliseconds(lambda: store.rows(range(count // 2, count // 2 + 40))),
            "statistics_ms": milliseconds(lambda: gather(store)),
            "keep_one_ms": milliseconds(lambda: store.add(make_entry(source, rng, 500, count))),
            "file_mb": size(path),
        }


class ScreenApp(App[None]):
    """The History screen alone."""

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our own names for colours."""
        return variable_defaults(self.current_theme)


async def measure_screen() -> dict[str, float]:
    """On the screen, in a terminal without a picture: from the key that opens it until rows and a text are there, and
    from each key that is typed until other rows are.
    """
    app, screen = ScreenApp(), HistoryScreen(Session())
    async with app.run_test(size=(120, 36)) as pilot:
        began = time.perf_counter()
        app.push_screen(screen)
        await _until(lambda: bool(screen._list._rows) and screen._entry.entry is not None)
        found = {"screen_opens_ms": round(1000 * (time.perf_counter() - began), 1)}
        await _until(lambda: screen._is_whole)
        await pilot.press("slash")
        times = []
        for key in "fox rive":
            shown = screen._list.ids
            began = time.perf_counter()
            screen._search.insert_text_at_cursor(key)
            await _until(lambda: screen._list.ids is not shown)  # noqa: B023
            times.append(1000 * (time.perf_counter() - began))
            await asyncio.sleep(0.15)
        return found | {"screen_types_ms": round(statistics.median(times), 1), "slowest_ms": round(max(times), 1)}


async def _until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 (what is looked at tells nobody)
        await asyncio.sleep(0.001)


def compare(folder: Path, entries: int, characters: int) -> dict[str, float]:
    """The size of the file with each kind of index."""
    found = {}
    for name, statements in (("none", ()), ("which", migrations.INDEX), ("where", WITH_PLACES)):
        path = folder / f"{name}.db"
        fill(path, entries, characters)
        connection = database.open_database(path, index=False).connection
        for statement in statements:
            connection.execute(statement)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        found[f"{name}_mb"] = round(path.stat().st_size / 1e6, 1)
    return found


def main() -> None:
    """Fill a history and measure it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--characters", type=int, default=500)
    parser.add_argument("--compare", action="store_true", help="Measure the size of each kind of index, too.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINIGPT_HOME"] = folder
        path = history_file()
        fill(path, args.entries, args.characters)
        began = time.perf_counter()
        Store(path).close()
        figures = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
        figures |= {"index_made_s": round(time.perf_counter() - began, 2), **measure(path)}
        figures["screen"] = asyncio.run(measure_screen())
        if args.compare:
            figures["index"] = compare(Path(folder), args.entries, args.characters)
    print(json.dumps(figures, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
