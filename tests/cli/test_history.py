"""The history from the shell: what `generate --record` keeps, found, shown, exported, deleted, and written again."""

from __future__ import annotations

import csv
import io
import json
import shlex
import subprocess
import sys

import pytest

from engine.checkpoints import load_model
from engine.config import SamplingParams
from engine.inference.generator import Generation
from engine.worker.protocol import ParamsAt
from minigpt_tui.cli.keeping import entry_of
from minigpt_tui.cli.writing import Prompt, write
from minigpt_tui.history.entry import Entry
from minigpt_tui.history.shell_line import shell_line
from minigpt_tui.history.store import Store
from minigpt_tui.paths import history_file
from minigpt_tui.setting_changes import change_words, parse_changes
from minigpt_tui.visible import UNSAFE


@pytest.fixture
def kept(own_home):
    """Keeps entries in the test's own home."""

    def keep(*entries: Entry) -> list[int]:
        with Store() as store:
            return [store.add(entry) for entry in entries]

    return keep


def entry(text: str = " was here.", prompt: str = "The fox", **fields) -> Entry:
    given = {
        "time": 1_800_000_000.0,
        "source": "play",
        "prompt": prompt,
        "text": text,
        "prompt_tokens": (1,),
        "tokens": (1,) * len(text),
        "params": SamplingParams(seed=7),
        "finish_reason": "length",
        "model": "shakespeare",
        "device": "cpu",
        "precision": "fp32",
        "tokens_per_second": 50.0,
    }
    return Entry(**(given | fields))


# What is kept


@pytest.fixture
def tiny(tiny_model, own_home, monkeypatch):
    """A model's path, with a history of one's own."""
    return str(tiny_model)


def test_a_text_is_kept_only_where_that_is_asked_for(cli, tiny):
    assert cli("generate", "ab", "--model", tiny, "-n", 8, "--seed", 1).status == 0
    assert not history_file().exists()
    result = cli("generate", "ab", "--model", tiny, "-n", 8, "--seed", 1, "--num-samples", 2, "--record")
    assert result.status == 0
    listed = cli("history", "list", "--json").out.splitlines()
    texts = [json.loads(line) for line in listed]
    assert [text["seed"] for text in texts] == [2, 1]
    assert result.out == "\n\n".join(text["text"] for text in reversed(texts)) + "\n"
    assert texts[0]["sha256"]
    assert texts[0]["source"] == "generate"
    assert len(texts[0]["token_ids"]) == 8
    assert len(texts[0]["prompt_ids"]) == 2


def test_config_decides_where_no_option_does(cli, tiny):
    assert cli("config", "set", "history.record_shell", "on").status == 0
    assert cli("generate", "ab", "--model", tiny, "-n", 4, "--seed", 1).status == 0
    assert cli("generate", "ab", "--model", tiny, "-n", 4, "--seed", 2, "--no-record").status == 0
    assert [json.loads(line)["seed"] for line in cli("history", "list", "--json").out.splitlines()] == [1]


def test_a_history_that_cannot_be_written_costs_no_text(cli, tiny):
    history_file().mkdir(parents=True)
    result = cli("generate", "ab", "--model", tiny, "-n", 8, "--seed", 1, "--num-samples", 3, "--record")
    assert result.status == 0
    assert len(result.out) >= 24
    assert result.err.count("could not be kept") == 1


def test_conversations_are_kept_too(cli, tiny):
    result = cli("generate", "--interactive", "--record", "--model", tiny, "-n", 5, "--seed", 1, stdin="ab\nba\n")
    assert result.status == 0
    with Store() as store:
        assert [text.prompt for text in store.every()] == ["ba", "ab"]


# Changes in mid-stream


@pytest.mark.parametrize("pace", [0.0, 1000.0])
def test_settings_change_at_the_token_that_was_named(tiny, pace):
    model = load_model(tiny, "cpu", "fp32")
    tokens = model.tokenizer.encode("ab")
    first, then, last = (
        SamplingParams(seed=5, max_new_tokens=40, temperature=0.9),
        SamplingParams(seed=5, max_new_tokens=40, temperature=0.0),
        SamplingParams(seed=5, max_new_tokens=30, temperature=2.0, top_k=3),
    )
    changes = (ParamsAt(12, then), ParamsAt(20, last))
    by_hand = Generation(model, tokens, first)
    for _ in by_hand:
        if by_hand.position == 12:
            by_hand.set_params(then)
        if by_hand.position == 20:
            by_hand.set_params(last)
    written = write(model, Prompt("ab", tokens), first, lambda _: None, pace=pace, changes=changes)
    assert [token.token for token in written.tokens] == by_hand.tokens[2:]
    assert len(written.tokens) == 30
    assert written.changes == changes
    plain = write(model, Prompt("ab", tokens), first, lambda _: None)
    assert [token.token for token in plain.tokens][:10] == by_hand.tokens[2:12]
    assert [token.token for token in plain.tokens] != by_hand.tokens[2:]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("temperature=1", "POSITION:KEY=VALUE"),
        ("5:", "changes nothing"),
        ("-5:top_k=2", "POSITION:KEY=VALUE"),
        ("5:temprature=1", "did you mean temperature?"),
        ("5:temperature=99", "from 0 to 10"),
        ("5:temperature=warm", "a number"),
        ("5:temperature", "KEY=VALUE"),
        ("5:seed=3", "seed of a text cannot change"),
    ],
)
def test_a_change_that_makes_no_sense_is_one_line(cli, word, says):
    result = cli("generate", "ab", "--change", word)
    assert result.status == 2
    assert result.is_one_error_line
    assert says in result.err


def test_changes_are_read_as_they_are_written():
    params = SamplingParams(temperature=0.8, stop=("x",))
    changes = (
        ParamsAt(3, params.replace(temperature=1.2345678901234567, top_k=9)),
        ParamsAt(9, params.replace(temperature=0.1, stop=(" a,b=c ", "|", "\n\n", "\\s"))),
        ParamsAt(12, params.replace(max_new_tokens=-1, min_p=0.05, stop=())),
    )
    words = change_words(changes, params)
    assert words[0] == "3:temperature=1.2345678901234567,top_k=9"
    assert parse_changes(words, params) == changes
    assert parse_changes(reversed(words), params) == changes


# The line that writes it again


def written_with_changes(path: str, prompt: str, stop: tuple[str, ...]) -> Entry:
    """A text whose settings changed twice on the way."""
    model = load_model(path, "cpu", "fp32")
    tokens, read, _ = model.tokenizer.encode_prompt(prompt)
    params = SamplingParams(seed=11, max_new_tokens=60, temperature=0.9, stop=stop)
    changes = (
        ParamsAt(25, params.replace(temperature=1.4, top_k=7, repetition_penalty=1.3, max_new_tokens=40)),
        ParamsAt(30, params.replace(temperature=0.4, stop=("zz", "a, b"))),
    )
    written = write(model, Prompt(read, list(tokens)), params, lambda _: None, changes=changes)
    return entry_of(model, Prompt(read, list(tokens)), written)


@pytest.mark.parametrize(("prompt", "stop"), [("ab", ()), ("-n a", ("b b", "-x", "\n")), ("", ()), ("--", ("'",))])
def test_the_line_writes_the_same_text(cli, tiny, prompt, stop):
    original = written_with_changes(tiny, prompt, stop)
    again = cli("generate", "--json", *shlex.split(shell_line(original))[2:])
    assert again.status == 0, again.err
    record = json.loads(again.out)
    assert (record["prompt"], record["text"]) == (original.prompt, original.text)
    assert record["tokens"] == len(original.tokens)


@pytest.mark.posix
def test_a_real_shell_takes_the_line(tiny):
    original = written_with_changes(tiny, "a b\n\n'a\"$a`\\n", ("'", "a\nb"))
    line = shell_line(original).replace("minigpt-tui generate", f"'{sys.executable}' -m minigpt_tui generate --json", 1)
    again = subprocess.run(["sh", "-c", line], capture_output=True, check=False, stdin=subprocess.DEVNULL)
    assert again.returncode == 0, again.stderr.decode()
    assert json.loads(again.stdout)["text"] == original.text


@pytest.mark.posix
def test_a_prompt_that_could_steer_a_terminal_is_written_with_escapes():
    prompt = "a\x1b[31mb\x00\x9b \\0101 \\n'é\u202e\n"
    line = shell_line(entry(prompt=prompt))
    assert not UNSAFE.search(line)
    printed, pipe, command = line.partition(" | ")
    assert pipe
    assert command.startswith("minigpt-tui generate --model shakespeare")
    assert subprocess.run(["sh", "-c", printed], capture_output=True, check=True).stdout.decode() == prompt


def test_a_text_that_was_cut_off_is_asked_for_in_its_length():
    cut = entry(text="0123456789", finish_reason="cancelled", params=SamplingParams(seed=1, max_new_tokens=-1))
    assert "--max-new-tokens 10 " in shell_line(cut)
    stopped = entry(finish_reason="stop", changes=(ParamsAt(5, SamplingParams(max_new_tokens=900)),))
    assert "--max-new-tokens 900 " in shell_line(stopped)


# What the commands print


def test_lists_show_the_latest_first_and_say_when_there_are_more(cli, kept):
    kept(*(entry(text=f" number {place}") for place in range(5)))
    result = cli("history", "list", "--limit", 2)
    head, *lines = result.out.splitlines()
    assert head.split() == ["id", "when", "model", "tokens", "text"]
    assert [line.split()[-1] for line in lines] == ["4", "3"]
    assert "latest 2" in result.err


def test_searching_and_filters_narrow_a_list_down(cli, kept):
    kept(entry(model="a"), entry(text=" a bird", tags=("sky",)), entry(text=" a bird", favourite=True, model="a"))
    found = lambda *words: [json.loads(line)["id"] for line in cli("history", *words, "--json").out.splitlines()]  # noqa: E731
    assert found("search", "BIR") == [3, 2]
    assert found("search", "bird", "--model", "a") == [3]
    assert found("list", "--tag", "#sky") == [2]
    assert found("list", "--favourites") == [3]
    assert found("list", "--since", "2100-01-01") == []
    assert found("list", "--since", "2026-01-01") == [3, 2, 1]
    assert "nothing was found" in cli("history", "search", "zebra").err
    assert cli("history", "list", "--since", "soon").is_one_error_line


def test_an_empty_history_says_so(cli, own_home):
    for words in (("list",), ("stats",)):
        result = cli("history", *words)
        assert (result.status, result.out) == (0, "")
        assert "nothing is kept yet" in result.err


def test_show_has_all_that_is_known_and_the_line(cli, kept):
    [number] = kept(entry(note="a fine one", changes=(ParamsAt(9, SamplingParams(seed=7, temperature=1.1)),)))
    result = cli("history", "show", number)
    for words in (
        "a fine one",
        "from token 9",
        "temperature 1.10",
        "generate --model shakespeare",
        "The fox was here.",
    ):
        assert words in result.out
    assert json.loads(cli("history", "show", number, "--json").out)["changes"][0]["position"] == 9
    missing = cli("history", "show", 99)
    assert missing.is_one_error_line
    assert missing.status == 1


def test_what_a_model_wrote_cannot_steer_a_terminal(cli, kept):
    [number] = kept(entry(text="\x1b[31mred\x9b", model="m\x1b", note="n\x1b"))
    for words in (("list",), ("show", number), ("search", "red", "--json"), ("stats",), ("stats", "--json")):
        assert "\x1b" not in cli("history", *words).out.replace(entry(text="\x1b[31mred\x9b").text, "")


def test_exports_hold_every_text_to_the_letter(cli, kept, tmp_path):
    texts = ['a "quoted", text\r\nwith ```` fences', " and another"]
    kept(*(entry(text=text, tags=("one", "two")) for text in texts))
    lines = [json.loads(line) for line in cli("history", "export").out.splitlines()]
    assert [line["text"] for line in lines] == texts[::-1]
    rows = list(csv.DictReader(io.StringIO(cli("history", "export", "--format", "csv").out, newline="")))
    assert [row["text"] for row in rows] == texts[::-1]
    assert rows[0]["tags"] == "one two"
    assert rows[0]["temperature"] == "0.8"
    markdown = cli("history", "export", "--format", "md").out
    assert f"`````text\nThe fox{texts[0]}\n`````" in markdown
    plain = tmp_path / "kept.txt"
    assert cli("history", "export", plain, "--id", 1).status == 0
    assert f"The fox{texts[0]}\n" in plain.read_bytes().decode()
    assert texts[1] not in plain.read_text()


def test_an_export_overwrites_nothing_unasked(cli, kept, tmp_path):
    kept(entry())
    there = tmp_path / "mine.md"
    there.write_text("mine")
    result = cli("history", "export", there)
    assert result.is_one_error_line
    assert "--force" in result.err
    assert there.read_text() == "mine"
    assert cli("history", "export", there, "--force").status == 0
    assert "The fox" in there.read_text()
    assert cli("history", "export", tmp_path / "no" / "file.md").is_one_error_line


def test_what_was_removed_comes_back(cli, kept):
    first, second = kept(entry(), entry())
    assert cli("history", "remove", first, 99).is_one_error_line
    result = cli("history", "remove", first, second)
    assert f"--undo {first} {second}" in result.err
    assert cli("history", "list").out == ""
    assert cli("history", "remove", "--undo", second).status == 0
    assert [json.loads(line)["id"] for line in cli("history", "list", "--json").out.splitlines()] == [second]


def test_statistics_count_what_is_kept(cli, kept):
    numbers = kept(entry(text="x" * 20, tokens_per_second=10.0), entry(text="x" * 40, tokens_per_second=40.0), entry())
    with Store() as store:
        store.delete(numbers[2:])
    figures = json.loads(cli("history", "stats", "--json").out)
    assert (figures["generations"], figures["tokens"], figures["seconds"]) == (2, 60, 3.0)
    [speed] = figures["speeds"]
    assert (speed["model"], speed["mean"], speed["best"]) == ("shakespeare", 20.0, 40.0)
    assert dict(map(tuple, figures["lengths"]))[16] == 1
    assert dict(map(tuple, figures["lengths"]))[32] == 1
    assert "shakespeare" in cli("history", "stats").out


def test_a_damaged_history_is_said_and_kept(cli, kept):
    kept(entry())
    history_file().write_bytes(b"damage" * 500)
    result = cli("history", "list")
    assert result.status == 0
    assert "damaged" in result.err
    [aside] = history_file().parent.glob("history.damaged-*.db")
    assert aside.read_bytes() == b"damage" * 500


def test_paths_name_the_history(cli, own_home):
    assert str(history_file()) in cli("paths").out


def test_help_and_other_commands_start_without_sqlite():
    program = "import sys, minigpt_tui.cli.generate, minigpt_tui.history.recorder; sys.exit('sqlite3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
