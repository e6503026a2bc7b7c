"""`generate --prompt-file`: many prompts at once, their texts in order and the same as each alone."""

from __future__ import annotations

import io
import json
import signal

import pytest
from endless import make_endless

TIMING = ("tokens_per_second", "time_to_first_token")


@pytest.fixture
def generate(cli, tiny_model):
    return lambda *words: cli("generate", *words, "--model", tiny_model)


def records(result) -> list[dict]:
    """Its records, without what the clock says."""
    assert result.status == 0, result.err
    found = [json.loads(line) for line in result.out.splitlines()]
    assert all(record.pop(name) >= 0 for record in found for name in TIMING)
    return found


def jsonl(path, *lines: dict):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_texts_come_in_order_and_are_what_each_alone_would_be(generate, tmp_path, monkeypatch):
    monkeypatch.setattr("engine.inference.together.MOST_TOGETHER", 3)  # the others wait
    prompts = ["The fox", "", "  and the river", "I go", "THE FOX:", "w"]
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(prompts) + "\r\n")
    words = ("-n", 25, "-t", 1.5, "--seed", 7, "--json", "--logprobs", 1)
    together = records(generate("--prompt-file", file, *words))
    alone = [record for prompt in prompts if prompt for record in records(generate(prompt, *words))]
    assert together == alone
    assert [record["prompt"] for record in together] == [prompt for prompt in prompts if prompt]


def test_a_line_of_json_has_settings_of_its_own(generate, tmp_path):
    file = jsonl(
        tmp_path / "prompts.jsonl",
        {"prompt": "The fox", "max_new_tokens": 5, "seed": 3},
        {"prompt": "two\nlines"},
        {"prompt": "I go", "temperature": 0, "stop": "r"},
        {"prompt": "", "top_k": 2, "stop": ["w", "x"]},
    )
    found = records(generate("--prompt-file", file, "-n", 12, "--seed", 9, "--json"))
    assert [(record["prompt"], record["seed"]) for record in found] == [
        ("The fox", 3), ("two\nlines", 9), ("I go", 9), ("", 9),
    ]  # fmt: skip
    assert found[0]["tokens"] == 5
    assert found[1]["params"]["max_new_tokens"] == 12
    assert found[2]["params"]["temperature"] == 0
    assert found[3]["params"]["stop"] == ["w", "x"]
    alone = generate("The fox", "-n", 5, "--seed", 3)
    assert found[0]["text"] + "\n" == alone.out


def test_what_the_model_has_never_seen_is_left_out_and_said_once(cli, tiny_model, tmp_path):
    (tmp_path / "p.txt").write_text("The é1\nI go\n12é\n")
    words = ("--prompt-file", tmp_path / "p.txt", "-n", 3, "--seed", 1, "--json", "--model", tiny_model.name)
    result = cli("generate", *words)
    assert result.err == "left out of 2 of 3 prompts, tiny has never seen it: 'é' '1' '2'\n"
    assert [json.loads(line)["prompt"] for line in result.out.splitlines()] == ["The ", "I go", ""]


def test_samples_of_a_prompt_use_the_seeds_that_follow(generate, tmp_path):
    file = jsonl(tmp_path / "p.jsonl", {"prompt": "The"}, {"prompt": "I", "seed": 40})
    words = ("--prompt-file", file, "-n", 8, "--seed", 3, "--num-samples", 2)
    found = records(generate(*words, "--json"))
    assert [(record["prompt"], record["seed"]) for record in found] == [("The", 3), ("The", 4), ("I", 40), ("I", 41)]
    assert generate(*words).out == "\n\n".join(record["text"] for record in found) + "\n"


def test_stdin_is_either_and_a_seed_that_was_drawn_repeats_the_texts(generate, monkeypatch):
    def from_stdin(text: str, *words: object):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return generate("--prompt-file", "-", "-n", 6, "--json", *words)

    plain = from_stdin("The\nI go\n")
    word, seed = plain.err.split()
    assert word == "seed"
    as_json = from_stdin('{"prompt": "The"}\n{"prompt": "I go"}\n', "--seed", seed)
    assert records(as_json) == records(plain)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{"prompt": "a"}\n\n{"prompt": "b", "temperatur": 1}',
            ("line 3 of p.jsonl", "temperatur", "mean temperature"),
        ),
        ('{"prompt": "a"}\nnot json', ("line 2 of p.jsonl", "no JSON object")),
        ('["a"]', ("line 1 of p.jsonl", "no JSON object")),
        ('{"text": "a"}', ("line 1 of p.jsonl", "has no prompt")),
        ('{"prompt": 7}', ("line 1 of p.jsonl", "no text")),
        ('{"prompt": "a", "top_p": 7}', ("line 1 of p.jsonl", "top_p is 7")),
        ('{"prompt": "a", "seed": "x"}', ("line 1 of p.jsonl", "seed")),
        ('{"prompt": "a", "max_new_tokens": -1}', ("line 1 of p.jsonl", "endless")),
        ('{"prompt": "a", "stop": [7]}', ("line 1 of p.jsonl", "stop")),
        ("\n \n", ("no prompt in p.jsonl",)),
    ],
)
def test_a_wrong_line_is_named_by_its_number(generate, tmp_path, text, said):
    (tmp_path / "p.jsonl").write_text(text)
    result = generate("--prompt-file", tmp_path / "p.jsonl", "-n", 3)
    assert result.status == 1
    assert result.is_one_error_line
    assert result.out == ""
    for words in said:
        assert words in result.err


def test_what_cannot_be_read_is_one_line(generate, tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    for path, said in ((tmp_path / "gone.txt", "cannot be read"), (tmp_path, "cannot be read"),
                       (tmp_path / "latin.txt", "not UTF-8 at byte 3")):  # fmt: skip
        result = generate("--prompt-file", path)
        assert (result.status, result.is_one_error_line) == (1, True)
        assert said in result.err


def test_what_does_not_go_with_it_is_wrong_usage(generate, tmp_path):
    (tmp_path / "p.txt").write_text("a\n")
    for words in (("x",), ("--pace", 3), ("--interactive",)):
        assert generate("--prompt-file", tmp_path / "p.txt", *words).status == 2


def test_more_is_held_back_for_a_slow_text_only_as_far_as_there_is_room(generate, tmp_path, monkeypatch):
    file = jsonl(tmp_path / "p.jsonl", {"prompt": "a", "max_new_tokens": 60}, *[{"prompt": "b"}] * 12)
    whole = generate("--prompt-file", file, "-n", 4, "--seed", 1)
    monkeypatch.setattr("minigpt_tui.cli.batch_writing.MOST_HELD", 10)
    monkeypatch.setattr("engine.inference.together.MOST_TOGETHER", 2)
    assert generate("--prompt-file", file, "-n", 4, "--seed", 1) == whole
    assert whole.status == 0


@pytest.mark.posix
def test_ctrl_c_keeps_what_is_finished(shell, home, tmp_path):
    model = make_endless("endless-batch")
    file = jsonl(
        tmp_path / "p.jsonl",
        {"prompt": "The", "max_new_tokens": 5},
        {"prompt": "fox", "max_new_tokens": 1_000_000},
        {"prompt": "river", "max_new_tokens": 5},
    )
    words = ("generate", "--prompt-file", file, "--json", "--seed", 1, "--model", model)
    result = shell(*words, interrupt_after="\n", signal_number=signal.SIGINT)
    assert result.status == 130
    found = [json.loads(line) for line in result.out.splitlines()]
    assert [(record["prompt"], record["finish_reason"]) for record in found] == [
        ("The", "length"),
        ("river", "length"),
    ]
    assert "2 of 3 texts are finished" in result.err
