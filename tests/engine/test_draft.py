"""A draft guesses what a model will draw, in ids that there are, whatever the text; its table lies beside the model,
comes with it wherever it goes, and where it is damaged or missing nothing else is."""

from __future__ import annotations

import shutil
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import TINY_TEXT
from training_here import TINY, dying, kill, new_run, take_up, tiny_text

from engine import catalog, folders
from engine.checkpoints import export_model, load_model
from engine.config import SamplingParams
from engine.inference import draft, draft_table
from engine.inference.draft import Draft
from engine.inference.draft_table import TABLE, DraftTable, build_table, find_table
from engine.inference.generator import Generation
from engine.inference.noise import gumbel
from engine.training import drafting, runs

KINDS = {2**8: np.uint8, 2**16: np.uint16, 2**31: np.uint32}


def ids_of(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def random_ids(seed: int, count: int, vocab_size: int) -> np.ndarray:
    kind = next(kind for limit, kind in KINDS.items() if vocab_size <= limit)
    return np.random.default_rng(seed).integers(0, vocab_size, count).astype(kind)


def same(one: DraftTable, other: DraftTable | None) -> bool:
    return (
        other is not None
        and one.vocab_size == other.vocab_size
        and one.arrays.keys() == other.arrays.keys()
        and all(np.array_equal(one.arrays[name], other.arrays[name]) for name in one.arrays)
    )


# Guesses

vocabularies = st.sampled_from([1, 2, 3, 66, 256, 257, 1025, 50_257, 2**31])
temperatures = st.sampled_from([0.0, 1e-300, 0.01, 0.8, 1.0, 100.0])


class Rows:
    """The noise of a vocabulary of any size, of which no more than is asked for is made."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def __getitem__(self, id: int) -> float:
        assert 0 <= id < self.vocab_size
        return float(np.random.default_rng(id).gumbel())


@settings(deadline=None, max_examples=60)
@given(st.data(), vocabularies, temperatures, st.booleans())
def test_guesses_are_ids_of_the_vocabulary_and_no_more_than_wanted(data, vocab_size, temperature, has_table):
    few = st.integers(0, vocab_size - 1) | st.integers(0, min(3, vocab_size - 1))
    table = build_table(np.array(data.draw(st.lists(few, max_size=80)), np.uint32), vocab_size) if has_table else None
    text = data.draw(st.lists(few, min_size=1, max_size=60))
    guesser = Draft(table, text)
    for _ in range(3):
        count = data.draw(st.integers(0, 9))
        guesses = guesser.guess(text, [Rows(vocab_size)] * count, temperature, count)
        assert len(guesses) <= count
        assert all(0 <= id < vocab_size for id in guesses)
        if data.draw(st.booleans()):
            text.extend(guesses + data.draw(st.lists(few, max_size=5)))
        else:
            del text[data.draw(st.integers(1, len(text))) :]


@pytest.mark.parametrize("vocab_size", [66, 1025])
def test_noise_may_be_lists_or_arrays(vocab_size):
    table = build_table(random_ids(0, 4000, vocab_size) % 40, vocab_size)
    text = random_ids(1, 50, 40).tolist()
    noise = gumbel(3, 0, 6, vocab_size)
    guesses = Draft(table, text).guess(text, noise.tolist(), 0.8, 6)
    assert len(guesses) == 6
    assert Draft(table, text).guess(text, noise.numpy(), 0.8, 6) == guesses


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 199), st.sampled_from([0.0, 0.8]))
def test_a_text_cut_short_is_guessed_as_if_it_had_never_been_longer(seed, left, temperature):
    table = build_table(random_ids(7, 3000, 50), 50)
    text = random_ids(seed, 200, 50).tolist()  # too random to repeat itself
    noise = np.random.default_rng(seed).gumbel(size=(5, 50)).tolist()
    guesser = Draft(table, text)
    guesser.guess(text, noise, temperature, 5)
    fresh = Draft(table, text[:left]).guess(text[:left], noise, temperature, 5)
    del text[left:]
    assert guesser.guess(text, noise, temperature, 5) == fresh
    text += random_ids(seed + 1, 200, 50).tolist()  # and grown again, before it is asked
    assert guesser.guess(text, noise, temperature, 5) == Draft(table, text).guess(text, noise, temperature, 5)


def test_a_draw_by_the_table_is_the_guess():
    """With the shares of a context known, the guess is their draw: argmax of log share / temperature + noise."""
    table = build_table(np.array([0, 1] * 300 + [0, 2] * 100, np.uint8), 3)
    shares = np.bincount([1] * 300 + [2] * 100, minlength=3) / 400
    noise = np.random.default_rng(0).gumbel(size=(2000, 3))
    guesses = [Draft(table, [2, 0]).guess([2, 0], [row], 1.0, 1)[0] for row in noise.tolist()]
    assert set(guesses) <= {1, 2}
    unknown = [Draft(table, [0]).guess([0], [row], 1.0, 1)[0] for row in noise.tolist()]
    drawn = (np.log(np.maximum(shares, 1e-9)) + noise).argmax(axis=1)
    assert np.mean(np.array(unknown) == drawn) > 0.95


@pytest.mark.parametrize("with_table", [True, False])
def test_a_text_that_repeats_itself_is_guessed_from_itself(with_table):
    table = build_table(random_ids(0, 5000, 60), 60) if with_table else None
    verse = random_ids(1, 40, 60).tolist()
    text = verse * 2 + verse[:20]
    noise = np.random.default_rng(2).gumbel(size=(60, 60)).tolist()
    assert Draft(table, text).guess(text, noise, 0.0, 60) == (verse[20:] + verse)[:60]
    hits = np.equal(Draft(table, text).guess(text, noise, 0.3, 20), verse[20:])
    assert hits.mean() > 0.8


def test_without_a_table_what_a_text_does_often_is_guessed():
    text = ids_of(TINY_TEXT).tolist()
    guesser, hits = Draft(None, text[:200]), []
    for place in range(200, 400):
        hits += [guesser.guess(text[:place], [], 0.0, 1) == [text[place]]]
    assert np.mean(hits) > 0.9
    assert Draft(None, [5]).guess([5], [], 0.0, 4) == []


def test_a_model_draws_what_its_table_guesses_in_two_of_three_places():
    model = load_model("shakespeare", "cpu", "fp32")
    generation = Generation(model, model.tokenizer.encode("\nJULIET:\n"), SamplingParams(seed=5, max_new_tokens=250))
    for _ in generation:
        pass
    text, noise = generation.tokens, gumbel(5, 0, 300, model.config.vocab_size).tolist()
    begin = len(generation.prompt_tokens)
    guesser = Draft(find_table(model.path), text[:begin])
    hits = [guesser.guess(text[:place], noise[place:], 0.8, 1) == [text[place]] for place in range(begin, len(text))]
    assert np.mean(hits) > 2 / 3


@pytest.mark.parametrize("with_table", [True, False])
def test_a_long_text_takes_no_more_memory_than_a_short_one(with_table, monkeypatch):
    for module in (draft, draft_table):
        monkeypatch.setattr(module, "REMEMBERED", 64)
    table = build_table(random_ids(0, 2000, 60), 60) if with_table else None
    text = random_ids(1, 12_000, 60).tolist()
    guesser = Draft(table, text[:1])
    taken = []
    tracemalloc.start()
    try:
        for end in range(100, len(text), 100):
            guesser.guess(text[:end], [], 0.0, 2)
            taken.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    middle = len(taken) // 2
    assert max(taken[middle:]) < 1.2 * max(taken[:middle]) + 50_000


# The table


@settings(deadline=None, max_examples=25)
@given(st.data(), vocabularies)
def test_a_saved_table_opens_as_it_was(tmp_path_factory, data, vocab_size):
    few = st.integers(0, vocab_size - 1) | st.integers(0, min(3, vocab_size - 1))
    table = build_table(np.array(data.draw(st.lists(few, max_size=200)), np.uint32), vocab_size)
    folder = tmp_path_factory.mktemp("saved")
    table.save(folder)
    opened = DraftTable.open(folder)
    assert same(table, opened)
    context = data.draw(st.integers(0, 2**64))
    assert opened.candidates(context) == table.candidates(context)
    table.save(folder)  # over what is there
    assert same(table, DraftTable.open(folder))
    assert [path.name for path in folder.iterdir()] == [catalog.DRAFT]


def test_shares_are_those_of_the_text_to_a_few_percent():
    text = bytes(ids_of(TINY_TEXT))
    shares = dict(zip(*build_table(ids_of(TINY_TEXT), 256).candidates(int.from_bytes(b"er", "big")), strict=True))
    places = [place for place in range(len(text) - 2) if text[place : place + 2] == b"er"]
    for id in {text[place + 2] for place in places}:
        share = sum(text[place + 2] == id for place in places) / len(places)
        assert np.exp(shares[id]) == pytest.approx(share, abs=0.06)
    assert sum(map(np.exp, shares.values())) < 1.04


def test_what_follows_a_context_is_its_own_tokens_and_for_the_rest_what_follows_shorter_ones():
    table = build_table(random_ids(3, 4000, 9), 9)
    arrays, bits = table.arrays, table.bits
    packed, parents = draft_table._unfold(arrays, bits)
    ends = np.cumsum(arrays["widths"], dtype=np.int64)

    def shares_after(row: int) -> dict[int, float]:
        own = slice(ends[row] - int(arrays["widths"][row]), ends[row])
        shares = dict(zip(arrays["ids"][own].tolist(), np.exp(arrays["shares"][own] / -16.0).tolist(), strict=True))
        rest = 1 - sum(shares.values())
        for token, share in shares_after(parents[row]).items() if row and rest > 0 else ():
            shares[token] = shares.get(token, 0.0) + rest * share
        return {token: share for token, share in shares.items() if share >= 0.003}

    longest = arrays["counts"].nonzero()[0][-1]
    first = int(arrays["counts"][:longest].sum())
    assert longest >= 2
    for nth, context in enumerate(packed[longest].tolist()):
        ids, logarithms = table.candidates(context)
        found = dict(zip(ids, np.exp(logarithms).tolist(), strict=True))
        assert found == pytest.approx(shares_after(first + nth), rel=1e-5)


def test_a_table_whose_contexts_would_take_too_much_from_a_shorter_one_takes_little_memory(tmp_path):
    wide, many = 270, 50_000
    arrays = {
        "counts": np.array([1, many], np.uint32),
        "oldest": np.arange(many + 1, dtype=np.uint16),
        "children": np.array([many], np.uint16),
        "widths": np.array([wide, *[0] * many], np.uint16),
        "ids": np.arange(wide, dtype=np.uint16),
        "shares": np.full(wide, 90, np.uint8),  # 0.0036 each
    }
    (tmp_path / TABLE).parent.mkdir()
    metadata = {"format": draft_table.FORMAT, "vocab_size": "60000"}
    (tmp_path / TABLE).write_bytes(safetensors.numpy.save(arrays, metadata))
    tracemalloc.start()
    table = DraftTable.open(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert table is not None
    assert peak < 50e6
    assert len(table.candidates(many + 1)[0]) == wide  # by the empty context
    assert len(table.candidates(many)[0]) == 0


def test_a_table_keeps_to_its_budget_and_uses_it(tmp_path):
    sizes = []
    for budget in (0, 1_200, 1 << 20):
        table = build_table(ids_of(TINY_TEXT), 256, budget=budget)
        table.save(tmp_path)
        sizes.append((tmp_path / TABLE).stat().st_size)
        assert sizes[-1] <= max(budget, 1_024)
        assert same(table, DraftTable.open(tmp_path))
    assert sizes == sorted(set(sizes))


def test_a_text_longer_than_is_read_is_read_all_over(monkeypatch):
    monkeypatch.setattr(draft_table, "READ_TOKENS", 6_400)
    parts = [np.tile(np.array([3 * part, 3 * part + 1, 3 * part + 2], np.uint8), 20_000) for part in range(3)]
    table = build_table(np.concatenate(parts), 9)
    for part in range(3):
        text = [3 * part, 3 * part + 1]
        assert Draft(table, text).guess(text, [], 0.0, 4) == [3 * part + 2, 3 * part, 3 * part + 1, 3 * part + 2]


def test_the_bundled_table_is_small_and_opens_quickly():
    path = folders.bundled_checkpoints() / "shakespeare"
    assert (path / TABLE).stat().st_size < 1 << 20
    spent = []
    for _ in range(3):
        began = time.thread_time()
        assert DraftTable.open(path) is not None
        spent.append(time.thread_time() - began)
    assert min(spent) < 0.05


# Damage


@pytest.fixture
def saved(tmp_path) -> Path:
    """A directory with a table of a few hundred contexts."""
    build_table(ids_of(TINY_TEXT), 256).save(tmp_path)
    return tmp_path


def test_a_table_cut_short_is_none(saved):
    data = (saved / TABLE).read_bytes()
    for length in [*range(0, 700, 7), *range(700, len(data), 61), len(data) - 1]:
        (saved / TABLE).write_bytes(data[:length])
        assert DraftTable.open(saved) is None
    shutil.rmtree(saved / catalog.DRAFT)
    assert DraftTable.open(saved) is None


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_table_with_other_bytes_in_it_is_none_or_names_ids_that_there_are(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "scrambled"
    if not folder.exists():
        folder.mkdir()
        build_table(ids_of(TINY_TEXT) % 50, 50).save(folder)
        (folder / "whole").write_bytes((folder / TABLE).read_bytes())
    content = bytearray((folder / "whole").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / TABLE).write_bytes(content)
    if (table := DraftTable.open(folder)) is not None:
        text = random_ids(len(content), 30, 50).tolist()
        guesses = Draft(table, text).guess(text, [Rows(table.vocab_size)] * 5, 0.8, 5)
        assert all(0 <= id < table.vocab_size for id in guesses)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 4000, bytes(range(256)) * 40])
def test_another_file_in_its_place_is_none(saved, content):
    (saved / TABLE).write_bytes(content)
    assert DraftTable.open(saved) is None


def test_other_tensors_in_its_place_are_none(saved):
    table = DraftTable.open(saved)
    metadata = {"format": draft_table.FORMAT, "vocab_size": "256"}

    def opened(arrays: dict[str, torch.Tensor], metadata=metadata) -> DraftTable | None:
        safetensors.torch.save_file(arrays, saved / TABLE, metadata)
        return DraftTable.open(saved)

    whole = {name: torch.from_numpy(array.copy()) for name, array in table.arrays.items()}
    assert same(table, opened(whole))
    assert opened(whole, {}) is None
    assert opened(whole, metadata | {"format": "another"}) is None
    for vocab_size in ("", "-1", "0", "many", "1e3", str(2**40), "100"):  # of 100, ids would be out of range
        assert opened(whole, metadata | {"vocab_size": vocab_size}) is None
    for name, tensor in whole.items():
        assert opened({other: whole[other] for other in whole if other != name}) is None
        for foreign in (
            tensor.bfloat16(),
            tensor.float(),
            tensor.long(),
            tensor[:-1],
            tensor[None],
            tensor.new_empty(0),
        ):
            assert opened(whole | {name: foreign.contiguous()}) is None
    assert opened(whole | {"more": torch.zeros(1)}) is None
    more = whole["children"].clone()
    more[-1] += 1
    assert opened(whole | {"children": more}) is None


# Beside models and runs


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Make a run and its trainer, in a home of the test's own."""
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))
    text = tiny_text(tmp_path)
    return lambda config=TINY: take_up(new_run("demo", config, text))


def test_a_run_leaves_a_table_for_all_its_checkpoints(start):
    trainer = start()
    assert trainer.train().state == "finished"
    run = trainer.run.path
    table = DraftTable.open(run)
    assert same(table, build_table(trainer.text.train, trainer.tokenizer.vocab_size))
    checkpoints = catalog.run_checkpoints(run)
    assert len(checkpoints) == 3
    for path in checkpoints:
        assert same(table, find_table(path))
        assert not (path / catalog.DRAFT).exists()
    assert same(table, load_model("demo:best").draft_table)
    assert not list(run.glob(".*"))


def test_a_run_killed_while_its_table_is_made_goes_on_and_has_one(start, monkeypatch):
    trainer = start()
    with monkeypatch.context() as patch:
        patch.setattr(drafting, "build_table", lambda *_: kill())
        with dying(trainer):
            trainer.train()
    assert DraftTable.open(trainer.run.path) is None
    trainer = take_up(trainer.run)
    assert trainer.progress.step == 4
    assert trainer.train().state == "finished"
    assert same(build_table(trainer.text.train, trainer.tokenizer.vocab_size), DraftTable.open(trainer.run.path))


def test_a_table_comes_with_a_run_that_is_renamed_pruned_and_removed(start):
    trainer = start()
    trainer.train()
    size = (trainer.run.path / TABLE).stat().st_size
    run = runs.rename_run("demo", "other")
    assert (run / TABLE).stat().st_size == size
    assert runs.disk_use(run) == sum(file.stat().st_size for file in run.rglob("*") if file.is_file()) > size
    runs.prune_run(run)
    for path in catalog.run_checkpoints(run):
        assert find_table(path) is not None
        assert catalog.verify_checkpoint(path) == []
    runs.remove_run("other")
    assert not run.exists()


def test_a_run_that_cannot_have_a_table_finishes_without(start, monkeypatch):
    def fails(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(drafting, "build_table", fails)
    trainer = start()
    assert trainer.train().state == "finished"
    assert find_table(catalog.find_checkpoint("demo")) is None
    assert "cannot be made (no room)" in (trainer.run.path / "log.txt").read_text()


def test_an_exported_model_takes_the_table_of_its_run_along(start, tmp_path):
    trainer = start()
    trainer.train()
    table = DraftTable.open(trainer.run.path)
    record = export_model("demo", tmp_path / "model")
    assert TABLE in record.files
    assert same(table, find_table(tmp_path / "model"))
    assert list((tmp_path / "model").glob("*.safetensors")) == [tmp_path / "model" / catalog.WEIGHTS]
    export_model(str(tmp_path / "model"), tmp_path / "again")
    assert same(table, find_table(tmp_path / "again"))
    export_model("demo", tmp_path / "again", replace=True)
    assert catalog.verify_checkpoint(tmp_path / "again") == []


def test_a_model_with_a_damaged_table_is_used_without_it_and_told_of_by_verify(start, tmp_path):
    start().train()
    export_model("demo", tmp_path / "model")
    file = tmp_path / "model" / TABLE
    file.write_bytes(file.read_bytes()[:-1])
    assert load_model(str(tmp_path / "model")).draft_table is None
    assert catalog.verify_checkpoint(tmp_path / "model") == [f"{TABLE} is not what was written (its sha256 differs)"]
    shutil.rmtree(file.parent)
    assert load_model(str(tmp_path / "model")).draft_table is None
    assert catalog.verify_checkpoint(tmp_path / "model") == [f"{TABLE} is missing"]


def test_a_table_of_another_vocabulary_is_left_alone(start, tmp_path):
    start().train()
    export_model("demo", tmp_path / "model")
    vocab_size = catalog.read_config(tmp_path / "model")["vocab_size"]
    build_table(random_ids(0, 1000, vocab_size), vocab_size + 1).save(tmp_path / "model")
    assert find_table(tmp_path / "model") is None
    build_table(random_ids(0, 1000, vocab_size), vocab_size).save(tmp_path / "model")
    assert find_table(tmp_path / "model") is not None
    assert find_table(tmp_path / "nothing") is None
