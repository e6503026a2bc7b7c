"""Batches are a pure function of (seed, step); evaluation windows predict every token exactly once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import DataError
from engine.text.batches import START_ROWS, Batches, paragraph_starts, windows
from engine.text.tokenizers import train_tokenizer

EOT = 60_000
quick = settings(max_examples=60, deadline=None)
lengths = st.integers(3, 400)
blocks = st.integers(1, 40)
seeds = st.integers(0, 2**63 - 1)


def numbered(length: int) -> np.ndarray:
    """A text whose every token tells its own place."""
    return np.arange(length, dtype=np.uint16)


@quick
@given(lengths, blocks, st.integers(1, 9), seeds, st.lists(st.integers(0, 500), max_size=12))
def test_a_batch_depends_on_the_seed_and_the_step_alone(length, block, size, seed, order):
    length = max(length, block + 1)
    starts = np.arange(0, length, 7)
    one = Batches(numbered(length), block, size, seed, EOT, starts)
    expected = {step: one.batch(step) for step in sorted(set(order))}
    for step in order:  # any order, any number of times, from a fresh object too
        for batches in (one, Batches(numbered(length), block, size, seed, EOT, starts)):
            x, y = batches.batch(step)
            np.testing.assert_array_equal(x, expected[step][0])
            np.testing.assert_array_equal(y, expected[step][1])


@quick
@given(lengths, blocks, st.integers(1, 9), seeds)
def test_an_epoch_holds_every_window_once_and_y_is_x_shifted(length, block, size, seed):
    length = max(length, block + 1)
    batches = Batches(numbered(length), block, size, seed, EOT)
    count = batches.windows_per_epoch
    assert batches.batches_per_epoch == count / size
    assert (count + 2) * block >= length - 1  # what an epoch leaves out is less than two windows
    rows_wanted = 3 * count
    xs, ys = zip(*(batches.batch(step) for step in range(-(-rows_wanted // size))), strict=True)
    x, y = np.concatenate(xs)[:rows_wanted], np.concatenate(ys)[:rows_wanted]
    assert x.dtype == y.dtype == np.int64
    np.testing.assert_array_equal(y, x + 1)
    np.testing.assert_array_equal(x, x[:, :1] + np.arange(block))
    for epoch in range(3):
        begins = np.sort(x[epoch * count : (epoch + 1) * count, 0])
        np.testing.assert_array_equal(begins, begins[0] + block * np.arange(count))


def test_epochs_begin_at_phases_of_their_own_and_reach_both_ends():
    batches = Batches(numbered(1000), 10, 4, 3, EOT)
    begins = [np.sort(batches.epoch(epoch)) for epoch in range(300)]
    assert {int(begin[0]) % 10 for begin in begins} == set(range(10))
    assert min(int(begin[0]) for begin in begins) == 0
    assert max(int(begin[-1]) for begin in begins) == 1000 - 10 - 1
    orders = {tuple(batches.epoch(epoch) - batches.epoch(epoch).min()) for epoch in range(20)}
    assert len(orders) == 20


def test_seeds_give_different_orders():
    one, two = (Batches(numbered(5000), 16, 8, seed, EOT).batch(0)[0] for seed in (1, 2))
    assert not np.array_equal(one, two)


def test_the_order_never_changes_between_versions():
    batches = Batches(numbered(100), 8, 4, 1337, EOT, starts=[0])
    assert batches.offsets(0).tolist() == [13, 29, 37, 45]
    assert batches.offsets(2).tolist() == [21, 61, 5, 58]  # it runs over into the second epoch


def test_one_row_in_32_begins_with_the_end_of_text_and_a_start():
    tokens, starts = numbered(3000), np.array([0, 500, 1234, 2992, 2993])
    batches = Batches(tokens, 8, 32, 5, EOT, starts)
    seen: set[int] = set()
    rows = 0
    for step in range(200):
        x, y = batches.batch(step)
        plain = Batches(tokens, 8, 32, 5, EOT).batch(step)[0]
        chosen = x[:, 0] == EOT
        rows += int(chosen.sum())
        np.testing.assert_array_equal(x[~chosen], plain[~chosen])
        np.testing.assert_array_equal(x[chosen, 1:], y[chosen, :-1])
        np.testing.assert_array_equal(y[chosen], y[chosen, :1] + np.arange(8))
        seen |= set(y[chosen, 0].tolist())
    assert 200 * 32 / START_ROWS * 0.6 < rows < 200 * 32 / START_ROWS * 1.4
    assert seen == {0, 500, 1234, 2992}  # the last has no room for a window


def test_a_memmap_gives_the_same_batches(tmp_path):
    tokens = numbered(500)
    tokens.tofile(tmp_path / "tokens.bin")
    mapped = np.memmap(tmp_path / "tokens.bin", np.uint16, "r")
    for step in (0, 7):
        one, two = (Batches(array, 16, 4, 1, EOT, [0, 9]).batch(step) for array in (tokens, mapped))
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])
    assert windows(mapped, 16).targets == 499


def test_a_text_shorter_than_a_window_says_how_long_it_is_and_what_is_needed():
    with pytest.raises(DataError, match=r"has 16 tokens and one window needs 17: .*at most 15") as caught:
        Batches(numbered(16), 16, 4, 1, EOT)
    assert "block_size" in caught.value.hint
    x, _ = Batches(numbered(17), 16, 4, 1, EOT).batch(9)
    assert (x == np.arange(16)).all()


@pytest.mark.parametrize("length", [0, 1, 2])
def test_a_text_that_fits_no_window_at_all_is_not_told_to_make_it_smaller(length):
    with pytest.raises(DataError) as caught:
        Batches(numbered(length), 16, 4, 1, EOT)
    assert caught.value.hint == "use a longer text"
    with pytest.raises(DataError, match=r"at most 2\)"):
        Batches(numbered(3), 16, 4, 1, EOT)
    Batches(numbered(3), 2, 4, 1, EOT)


@quick
@given(st.integers(2, 500), blocks)
def test_evaluation_predicts_every_token_but_the_first_exactly_once(length, block):
    tokens = numbered(length)
    cut = windows(tokens, block)
    assert cut.x.shape == cut.y.shape == ((length - 1) // block, block)
    assert cut.last_x.shape == cut.last_y.shape == ((length - 1) % block,)
    targets = np.concatenate([cut.y.ravel(), cut.last_y])
    np.testing.assert_array_equal(targets, np.arange(1, length))
    np.testing.assert_array_equal(np.concatenate([cut.x.ravel(), cut.last_x]), targets - 1)
    assert cut.targets == length - 1


def test_one_token_cannot_be_evaluated():
    with pytest.raises(DataError, match="1 tokens"):
        windows(numbered(1), 8)


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_paragraphs_begin_after_a_blank_line_and_after_the_end_of_text(kind):
    documents = ["One fox.\n\nTwo foxes.\nStill two.\n\n\nThree foxes.", "A new text.\n\nIts end.\n\n"]
    tokenizer = train_tokenizer(kind, documents * 20, 280)
    tokens = np.concatenate([tokenizer.encode_array(documents[0]), [tokenizer.eot_id],
                             tokenizer.encode_array(documents[1])])  # fmt: skip
    starts = paragraph_starts(tokens, tokenizer)
    texts = [tokenizer.decode(tokens[start:]).partition("\n")[0] for start in starts]
    assert [text.partition(".")[0] for text in texts] == [
        "One fox",
        "Two foxes",
        "Three foxes",
        "A new text",
        "Its end",
    ]


@quick
@given(st.text(st.sampled_from("ab\n"), max_size=60))
def test_paragraph_starts_are_what_a_plain_search_finds(text):
    tokenizer = train_tokenizer("char", ["ab\n"])
    tokens = tokenizer.encode_array(text)
    expected = [i for i in range(len(text)) if text[i] != "\n" and (i == 0 or text[:i].endswith("\n\n"))]
    assert paragraph_starts(tokens, tokenizer).tolist() == expected


def test_paragraph_starts_are_found_across_the_pieces_of_a_long_text(monkeypatch):
    text = "ab\n\n" * 50 + "b\na\n\n\nb"
    tokenizer = train_tokenizer("char", [text])
    tokens = tokenizer.encode_array(text)
    whole = paragraph_starts(tokens, tokenizer)
    for piece in (1, 2, 3, 7):
        monkeypatch.setattr("engine.text.batches._PIECE", piece)
        np.testing.assert_array_equal(paragraph_starts(tokens, tokenizer), whole)
