"""`generate`: the new text alone on stdout, the same for the same seed, and ctrl+c keeps what was written."""

from __future__ import annotations

import json
import signal

import pytest


@pytest.fixture
def generate(cli, tiny_model):
    return lambda *words, **piped: cli("generate", *words, "--model", tiny_model, **piped)


def test_the_same_seed_gives_the_same_text_and_only_text_is_on_stdout(generate):
    first, second = (generate("The fox", "-n", 40, "-t", 2, "--seed", 7) for _ in range(2))
    assert first.status == 0
    assert first.out == second.out
    assert first.out.endswith("\n")
    assert not first.out.startswith("The fox")
    assert first.err == ""
    assert generate("The fox", "-n", 40, "-t", 2, "--seed", 8).out != first.out


def test_a_seed_that_was_drawn_is_said_and_repeats_the_text(generate):
    drawn = generate("The fox", "-n", 30)
    word, seed = drawn.err.split()
    assert word == "seed"
    assert generate("The fox", "-n", 30, "--seed", seed).out == drawn.out


def test_json_says_all_that_is_needed_to_repeat_it(generate):
    words = ("The fox", "-n", 12, "--seed", 7, "-t", 1.5, "--top-k", 9)
    plain, result = generate(*words), generate(*words, "--json", "--logprobs", 2)
    record = json.loads(result.out)
    assert record["text"] + "\n" == plain.out
    assert record["prompt"] == "The fox"
    assert record["tokens"] == 12
    assert record["finish_reason"] == "length"
    assert record["seed"] == record["params"]["seed"] == 7
    assert record["params"]["temperature"] == 1.5
    assert record["params"]["top_k"] == 9
    assert (record["device"], record["precision"]) == ("cpu", "fp32")
    assert record["model"].endswith("tiny")
    assert record["tokens_per_second"] > 0
    assert record["time_to_first_token"] > 0
    assert "".join(token["text"] for token in record["logprobs"]) == record["text"]
    for token in record["logprobs"]:
        assert len(token["top"]) == 2
        assert token["logprob"] <= token["top"][0]["logprob"] <= 0
    assert "logprobs" not in json.loads(generate(*words, "--json").out)


def test_samples_use_the_seeds_that_follow(generate):
    records = [
        json.loads(line)
        for line in generate("The", "-n", 15, "--seed", 3, "--num-samples", 3, "--json").out.splitlines()
    ]
    assert [record["seed"] for record in records] == [3, 4, 5]
    assert generate("The", "-n", 15, "--seed", 5).out == records[2]["text"] + "\n"
    together = generate("The", "-n", 15, "--seed", 3, "--num-samples", 3).out
    assert together == "\n\n".join(record["text"] for record in records) + "\n"


TIMING = ("tokens_per_second", "time_to_first_token")


def records_of(result):
    """Its records, and without what the clock says."""
    assert result.status == 0, result.err
    records = [json.loads(line) for line in result.out.splitlines()]
    assert all(record.pop(name) > 0 for record in records for name in TIMING)
    return records


@pytest.mark.parametrize(
    "settings",
    [
        ("-n", 90, "-t", 1.5),  # beyond the window of 64
        ("-n", 60, "-t", 2, "--stop", "e", "--stop", "goes w"),
        ("-n", 30, "-t", 1.3, "--top-p", 0.9, "--repetition-penalty", 1.2, "--logprobs", 3),
        ("-n", 30, "-t", 0, "--logprobs", 0),
    ],
)
def test_samples_that_are_written_together_are_what_each_alone_would_be(generate, settings):
    words = ("The fox", "--json", *settings)
    together = records_of(generate(*words, "--seed", 30, "--num-samples", 5))
    alone = [record for k in range(5) for record in records_of(generate(*words, "--seed", 30 + k))]
    assert together == alone
    if "--stop" in settings:
        assert len({record["tokens"] for record in together}) > 1
        assert {record["finish_reason"] for record in together} == {"stop"}


def test_samples_are_the_same_bytes_together_in_turns_and_one_after_the_other(generate, monkeypatch):
    words = ("The", "-n", 40, "-t", 1.7, "--seed", 3, "--stop", "go", "--num-samples", 5)
    alone = generate(*words, "--pace", 1e6)
    assert alone.out.count("\n\n") >= 4
    assert generate(*words) == alone
    monkeypatch.setattr("engine.inference.together.MOST_TOGETHER", 2)
    assert generate(*words) == alone
    monkeypatch.setattr("minigpt_tui.cli.writing.MOST_HELD", 25)  # five tokens of each
    assert generate(*words) == alone


def test_the_first_sample_streams_while_the_others_are_written_along_and_held_back(generate, monkeypatch):
    from engine.inference import together

    shown, passes, read = [], [], together.read_together

    def watched(generations):
        passes.append([generation.seed for generation in generations])
        shown.append(len(pieces))
        return read(generations)

    pieces = []
    monkeypatch.setattr(together, "read_together", watched)
    monkeypatch.setattr("minigpt_tui.cli.generate.write_text", pieces.append)
    assert generate("The", "-n", 20, "-t", 1.5, "--seed", 3, "--num-samples", 3).status == 0
    assert passes[0] == [3, 4, 5]
    assert shown == sorted(shown)
    assert shown[-1] >= 15  # token by token
    first = pieces.index("\n")
    assert first >= 15
    assert len(pieces[first + 2]) > 15  # what the second had, at once


def test_no_more_texts_are_written_together_than_their_caches_have_room(generate, tiny_model, monkeypatch):
    from engine.checkpoints import load_model
    from engine.inference import together

    at_once, read = set(), together.read_together

    def watched(generations):
        at_once.add(len(generations))
        return read(generations)

    config = load_model(str(tiny_model), "cpu", "fp32").config
    cache = 8 * config.n_layer * config.kv_heads * config.head_size * config.block_size
    monkeypatch.setattr(together, "read_together", watched)
    monkeypatch.setattr("minigpt_tui.cli.writing.CACHE_BYTES", 3 * cache)
    assert generate("The", "-n", 5, "--seed", 3, "--num-samples", 7).status == 0
    assert max(at_once) == 3


def test_what_goes_wrong_with_a_sample_is_told_behind_those_before_it(generate, monkeypatch):
    from engine.inference.generator import Generation

    draw = Generation.__next__

    def without_numbers(generation):
        if generation.seed == 4 and generation.new_tokens == 6:
            raise generation.model.no_number()
        return draw(generation)

    words = ("The", "-n", 20, "-t", 1.5, "--seed", 3)
    first, second = generate(*words).out, generate("The", "-n", 6, "-t", 1.5, "--seed", 4).out
    monkeypatch.setattr(Generation, "__next__", without_numbers)
    failed = generate(*words, "--num-samples", 3)
    assert failed.status == 1
    assert failed.is_one_error_line
    assert "no number" in failed.err
    assert failed.out == first + "\n" + second[:-1]


def test_a_stop_string_ends_the_text_and_is_not_in_it(generate):
    whole = generate("The fox", "-n", 60, "--seed", 7).out[:-1]
    stop = whole[20:22]
    record = json.loads(generate("The fox", "-n", 60, "--seed", 7, "--stop", stop, "--stop", "@@@", "--json").out)
    assert record["text"] == whole[: whole.index(stop)]
    assert record["finish_reason"] == "stop"


def test_characters_that_the_model_has_never_seen_are_left_out_and_said(generate):
    result = generate("The €fox€ ∞", "-n", 10, "--seed", 7)
    assert result.status == 0
    assert "'€' '∞'" in result.err
    assert result.out == generate("The fox ", "-n", 10, "--seed", 7).out


def test_options_before_the_command_hold_too(cli, tiny_model):
    before = cli("--model", tiny_model, "generate", "The", "-n", 9, "--seed", 1)
    assert before.out == cli("generate", "The", "-n", 9, "--seed", 1, "--model", tiny_model).out


def test_stdin_is_the_prompt_where_none_is_given(shell, generate, tiny_model):
    words = ("-n", 12, "--seed", 2, "--model", tiny_model)
    piped = shell("generate", *words, "--json", stdin="The river\n")
    assert json.loads(piped.out)["prompt"] == "The river\n"
    assert json.loads(piped.out)["text"] + "\n" == generate("The river\n", "-n", 12, "--seed", 2).out
    broken = shell("generate", *words, stdin=b"The \xff river")
    assert broken.status == 1
    assert broken.is_one_error_line
    assert "byte 4" in broken.err


@pytest.mark.posix
def test_ctrl_c_keeps_the_text_and_leaves_with_130(shell, generate, tiny_model):
    words = ("generate", "The", "-n", -1, "-t", 0, "--model", tiny_model)
    stopped = shell(*words, "--pace", 20, interrupt_after="f")
    assert stopped.status == 130
    assert stopped.out.endswith("\n")
    assert "Traceback" not in stopped.err
    whole = generate("The", "-n", 400, "-t", 0)
    assert whole.out.startswith(stopped.out[:-1])


@pytest.mark.posix
def test_ctrl_c_ends_all_samples_and_prints_the_one_that_was_streaming(shell, generate, tiny_model):
    words = ("The", "-n", 200_000, "-t", 1.5, "--seed", 3)
    stopped = shell("generate", *words, "--num-samples", 3, "--model", tiny_model, interrupt_after=" ")
    assert stopped.status == 130
    assert stopped.err == ""
    text = stopped.out.removesuffix("\n")
    assert text in generate("The", "-n", len(text) + 99, "-t", 1.5, "--seed", 3).out


@pytest.mark.parametrize(("samples", "tokens"), [(1, 5), (3, 2)])
def test_ctrl_c_in_json_keeps_the_text_with_its_reason(generate, monkeypatch, samples, tokens):
    from engine.inference.generator import Generation

    whole, count, draw = generate("The", "-n", 40, "-t", 0).out, 0, Generation.__next__

    def interrupted(generation):
        nonlocal count
        count += 1
        if count == 5:
            signal.raise_signal(signal.SIGINT)
        return draw(generation)

    monkeypatch.setattr(Generation, "__next__", interrupted)
    result = generate("The", "-n", 40, "-t", 0, "--json", "--num-samples", samples)
    assert result.status == 130
    (record,) = map(json.loads, result.out.splitlines())
    assert record["finish_reason"] == "cancelled"
    assert record["tokens"] == tokens
    assert whole.startswith(record["text"])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_that_comes_too_late_for_a_sample_begins_no_other(generate, monkeypatch):
    from minigpt_tui.cli import writing

    def interrupting(text, on_text):
        show(text, on_text)
        if len(text.tokens) == 6:
            signal.raise_signal(signal.SIGINT)

    show = writing.OneText.show
    monkeypatch.setattr(writing.OneText, "show", interrupting)
    result = generate("The", "-n", 6, "-t", 0, "--num-samples", 3)
    assert result.status == 130
    monkeypatch.undo()
    assert result.out.rstrip("\n") + "\n" == generate("The", "-n", 6, "-t", 0).out


def test_pace_bounds_the_speed(generate):
    record = json.loads(generate("The", "-n", 9, "--seed", 1, "--pace", 40, "--json").out)
    assert record["tokens_per_second"] <= 41


def test_without_a_terminal_the_program_itself_writes_a_sample(shell, tiny_model):
    result = shell("--model", tiny_model)
    assert result.status == 0
    assert result.out.endswith("\n")
    assert 1 < len(result.out) <= 301
    assert "minigpt-tui generate --help" in result.err


def test_a_text_on_a_terminal_shows_controls_and_a_pipe_gets_the_text_itself(capsys, monkeypatch):
    from minigpt_tui.cli import streams

    streams.write_text("\x1b[2J")
    assert capsys.readouterr().out == "\x1b[2J"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    streams.write_text("\x1b[2J")
    assert capsys.readouterr().out == "␛[2J"


def test_json_cannot_steer_a_terminal_and_still_holds_the_exact_text(capsys):
    from minigpt_tui.cli import streams

    exact = "é \x1b[2J \x9b \x7f \u202e \u2028"
    streams.write_json({"text": exact, "loss": float("inf")})
    line = capsys.readouterr().out
    assert line.isprintable() or line.rstrip("\n").isprintable()
    assert "é" in line
    assert json.loads(line) == {"text": exact, "loss": None}


def test_interactive_takes_prompts_and_settings(generate):
    lines = "The fox\n/temperature 0.5\n/top-k 3\nThe fox\n/seed\n/nonsense 3\n/top_p 7\n/settings\n\n//help\n"
    talk = generate("--interactive", "-n", 10, "--seed", 5, stdin=lines)
    assert talk.status == 0
    texts = [
        generate("The fox", "-n", 10, "--seed", 5),
        generate("The fox", "-n", 10, "--seed", 5, "-t", 0.5, "--top-k", 3),
        generate("", "-n", 10, "--seed", 5, "-t", 0.5, "--top-k", 3),
        generate("/help", "-n", 10, "--seed", 5, "-t", 0.5, "--top-k", 3),
    ]
    assert talk.out == "".join(text.out for text in texts)
    assert "seed 5" in talk.err
    assert "there is no /nonsense" in talk.err
    assert "top_p is 7" in talk.err
    assert "/temperature 0.5" in talk.err


@pytest.mark.posix
def test_ctrl_c_in_a_conversation_ends_the_text_and_not_the_program(shell, tiny_model):
    words = ("generate", "--interactive", "The", "-n", -1, "-t", 0, "--pace", 20, "--model", tiny_model)
    talk = shell(*words, stdin="/max_new_tokens 5\n/pace 0\nThe\n", interrupt_after="f")
    assert talk.status == 0
    assert "max_new_tokens 5" in talk.err
    first, second = talk.out.splitlines()[:2]
    assert len(second) == 5
    assert first.startswith(second) or second.startswith(first)


@pytest.mark.parametrize("pace", ["nan", "inf", "-1"])
def test_a_pace_is_a_number_that_one_can_count_to(generate, pace):
    result = generate("The", "--pace", pace)
    assert result.status == 2
    assert result.is_one_error_line
    assert "--pace" in result.err


def test_several_texts_are_not_for_a_conversation(generate):
    result = generate("--interactive", "--num-samples", 3)
    assert result.status == 2
    assert "--num-samples" in result.err


def test_ctrl_c_ends_a_long_wait_and_takes_no_lock(generate, monkeypatch):
    def no_lock(*_):
        raise AssertionError("a signal may come while this very thread holds it")

    monkeypatch.setattr("threading.Event.set", no_lock)
    monkeypatch.setattr("minigpt_tui.cli.writing.time.sleep", lambda _: signal.raise_signal(signal.SIGINT))
    result = generate("The", "-n", 5, "--seed", 1, "--pace", 0.001, "--json")
    assert result.status == 130
    assert json.loads(result.out)["finish_reason"] == "cancelled"
