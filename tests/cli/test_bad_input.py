"""Whatever is wrong with what a user gives: one line with what to do, status 1 or 2, and nothing half-written."""

from __future__ import annotations

import json
import shutil

import pytest

QUICK = ("--set", "n_layer=1", "--set", "n_embd=16", "--set", "n_head=2", "--set", "block_size=16", "--set", "steps=2")


def contents(folder):
    return {path.relative_to(folder): path.is_file() and path.read_bytes() for path in sorted(folder.rglob("*"))}


def check(result, status):
    assert result.status == status
    assert result.is_one_error_line
    assert result.out == ""
    assert ": " in result.err.splitlines()[-1].removeprefix("error: ")  # what happened: what to do


@pytest.mark.parametrize(
    ("name", "data", "part"),
    [
        ("empty.txt", b"", "empty"),
        ("blank.txt", b" \n\n ", "empty"),
        ("short.txt", b"hello\n", "longer text"),
        ("binary.txt", bytes(range(256)) * 4, "binary"),
        ("latin1.txt", b"caf\xe9 " * 90, "byte 3"),
        ("missing", None, "missing"),
    ],
)
def test_a_text_that_cannot_be_trained_on(name, data, part, cli, own_home, tmp_path):
    file = tmp_path / name
    if data is not None:
        file.write_bytes(data)
    result = cli("train", file, *QUICK)
    check(result, 1)
    assert part in result.err
    runs = own_home / "data" / "runs"
    assert not runs.exists() or list(runs.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["generate", "-t", "-1"], "temperature is -1: it must be from 0"),
        (["generate", "--top-p", "2"], "top_p is 2"),
        (["generate", "--top-p", "nan"], "top_p is nan"),
        (["generate", "--min-p", "-0.1"], "min_p"),
        (["generate", "-n", "0"], "max_new_tokens is 0"),
        (["generate", "--seed", "-3"], "seed is -3"),
        (["generate", "--stop", ""], "stop"),
        (["generate", "x", "--seed", str(2**63 - 1), "--num-samples", "2"], "seed"),
        (["train", "fables", "--set", "stepz=3"], "did you mean steps?"),
        (["train", "fables", "--set", "steps"], "KEY=VALUE"),
        (["train", "fables", "--set", "steps=soon"], "whole number"),
        (["train", "fables", "--set", "epochs=1e308"], "at most 1,000,000"),
        (["train", "fables", "--set", "precision=fp8"], "choose one of auto, fp32, bf16, fp16"),
        (["train", "fables", "--set", f"seed={10**400}"], "it must be from 0 to 9,223,372,036,854,775,807"),
        (["train", "fables", "--set", "n_head=7"], "n_embd must be a multiple of n_head"),
        (["train", "fables", "--preset", "nanoo"], "did you mean nano?"),
        (["train", "fables", "--config", "nowhere.toml"], "nowhere.toml cannot be read"),
    ],
)
def test_a_setting_that_is_wrong(words, part, cli, own_home):
    result = cli(*words)
    check(result, 2)
    assert part in result.err
    assert not own_home.exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["generate", "x", "--model", "nowhere"], "there is no model 'nowhere'"),
        (["generate", "x", "--model", "/"], "not a model"),
        (["generate", "x", "--device", "mps"], "there is no mps"),
        (["eval", "--model", "TINY", "--data", "nowhere"], "there is no text 'nowhere'"),
        (["train", "fable", *QUICK], "did you mean fables?"),
        (["train", "fables", "--name", "../x", *QUICK], "cannot name a run"),
        (["train", "fables", "--name", "漢" * 90, *QUICK], "too long for a run"),
    ],
)
def test_a_thing_that_is_not_there(words, part, cli, tiny_model):
    result = cli(*(tiny_model if word == "TINY" else word for word in words))
    check(result, 1)
    assert part in result.err


def test_a_prompt_with_nothing_the_model_knows_starts_from_nothing(cli, tiny_model):
    result = cli("generate", "€∞", "-n", 5, "--seed", 1, "--model", tiny_model)
    assert result.status == 0
    assert result.out == cli("generate", "", "-n", 5, "--seed", 1, "--model", tiny_model).out


def test_a_prompt_that_is_no_text(cli, tiny_model):
    check(cli("generate", "a\udcff", "--model", tiny_model), 2)


def _truncate(model):
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def _flip(model):
    data = bytearray((model / "model.safetensors").read_bytes())
    data[len(data) // 2] ^= 64
    (model / "model.safetensors").write_bytes(data)


def _pickle(model):
    (model / "model.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.")


def _widen(model):
    """A config that does not fit the weights, and says so itself: hashes cannot tell."""
    for name, change in (("config.json", {"hidden_size": 48}), ("minigpt.json", {"files": {}})):
        settings = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps(settings | change))


def _remove(name):
    return lambda model: (model / name).unlink()


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _flip,
        _pickle,
        _widen,
        _remove("model.safetensors"),
        _remove("config.json"),
        _remove("tokenizer.json"),
    ],
    ids=["truncated", "one bit", "pickle", "config", "no weights", "no config", "no tokenizer"],
)
def test_a_damaged_model_is_named_and_left_as_it_is(damage, cli, own_home, tiny_model):
    model = shutil.copytree(tiny_model, own_home / "data" / "checkpoints" / "mine")
    damage(model)
    before = contents(own_home)
    result = cli("generate", "The", "-n", 3, "--model", "mine")
    check(result, 1)
    assert "mine" in result.err
    check(cli("eval", "--model", "mine", "--data", "fables"), 1)
    assert contents(own_home) == before
