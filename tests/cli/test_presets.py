"""`generate --preset NAME`: settings that have a name, from the shell."""

from __future__ import annotations

import json

import pytest
from click.shell_completion import ShellComplete

from engine.config import SamplingParams
from minigpt_tui.cli.options import sampling_params
from minigpt_tui.cli.root import PROG_NAME, root
from minigpt_tui.library import presets


@pytest.fixture
def own_presets(monkeypatch, tmp_path):
    """A file of presets for one test alone."""
    path = tmp_path / "presets.toml"
    monkeypatch.setattr(presets, "presets_file", lambda: path)
    return path


def params_of(result) -> dict:
    assert result.status == 0, result.err
    return json.loads(result.out)["params"]


def test_a_preset_decides_what_no_option_does(cli, tiny_model, own_presets):
    words = ("generate", "The", "--model", "tiny", "-n", "3", "--seed", "1", "--json", "--preset", "creative")
    told = params_of(cli(*words))
    assert (told["temperature"], told["min_p"], told["max_new_tokens"]) == (1.2, 0.05, 3)
    told = params_of(cli(*words, "--min-p", "0", "--top-k", "4"))
    assert (told["temperature"], told["min_p"], told["top_k"], told["seed"]) == (1.2, 0.0, 4, 1)


def test_the_users_own_preset_may_name_the_seed_the_length_and_where_a_text_ends(cli, tiny_model, own_presets):
    own_presets.write_text('[mine]\nseed = 5\nmax_new_tokens = 4\ntemperature = 0\nstop = ["qq"]\n')
    told = params_of(cli("generate", "The", "--model", "tiny", "--json", "--preset", "mine"))
    assert (told["seed"], told["max_new_tokens"], told["temperature"], told["stop"]) == (5, 4, 0.0, ["qq"])


def test_no_option_at_all_is_as_without_presets(own_presets):
    assert sampling_params({"preset": None, "stop": (), "top_k": None}) == SamplingParams()


def test_an_unknown_preset_is_answered_with_those_that_there_are(cli, own_presets):
    own_presets.write_text("[mine]\ntop_k = 3\n")
    result = cli("generate", "x", "--preset", "wildest")
    assert result.status != 0
    assert result.is_one_error_line
    assert all(name in result.err for name in ("wildest", "creative", "balanced", "conservative", "greedy", "mine"))


@pytest.mark.parametrize(("text", "said"), [("[a\n", "line 1"), ("[mine]\ntopk = 1\n", "did you mean top_k?")])
def test_what_is_wrong_with_the_file_is_one_line(cli, own_presets, text, said):
    own_presets.write_text(text)
    result = cli("generate", "x", "--preset", "mine")
    assert result.status != 0
    assert result.is_one_error_line
    assert said in result.err
    assert own_presets.read_text() == text


def test_an_option_that_is_out_of_range_is_refused_beside_a_preset(cli, own_presets):
    result = cli("generate", "x", "--preset", "greedy", "--top-p", "7")
    assert result.status == 2
    assert result.is_one_error_line


def test_a_shell_completes_the_names(own_presets):
    own_presets.write_text("[crazy]\ntop_k = 3\n")
    shell = ShellComplete(root, {}, PROG_NAME, "_MINIGPT_TUI_COMPLETE")
    found = {item.value: item.help for item in shell.get_completions(["generate", "--preset"], "cr")}
    assert list(found) == ["creative", "crazy"]
    assert "hang together" in found["creative"]


def test_presets_are_listed_and_one_is_shown_as_the_file_has_it(cli, own_presets):
    own_presets.write_text('[mine]\ntop_k = 3\nstop = ["a\\n"]\n[odd]\ntopk = 1\n')
    listed = cli("presets", "list")
    assert listed.status == 0
    assert "temperature 1.20 · min-p 0.05" in listed.out
    assert "did you mean top_k?" in next(line for line in listed.out.splitlines() if line.startswith("odd"))
    told = [json.loads(line) for line in cli("presets", "list", "--json").out.splitlines()]
    assert {"name": "mine", "about": "", "own": True, "settings": {"top_k": 3, "stop": ["a\n"]}} in told
    shown = cli("presets", "show", "creative")
    own_presets.write_text(shown.out)
    assert presets.find_preset("creative").is_own
    assert presets.find_preset("creative").values == {"temperature": 1.2, "min_p": 0.05}
    assert cli("presets", "show", "odd").is_one_error_line
