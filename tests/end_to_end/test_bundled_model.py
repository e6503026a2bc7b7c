"""What a newcomer gets: a bundled model that is whole, small and good, and that writes the same text each time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine import catalog, folders
from engine.checkpoints import load_model
from engine.text.tokenizers import Tokenizer

PROMPT = "First Citizen:\nBefore we proceed"
SHAKESPEARE = folders.bundled_checkpoints() / "shakespeare"


def minigpt(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "minigpt_tui", *words],
        capture_output=True,
        text=True,
        timeout=90,
        cwd=cwd,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.DEVNULL,
    )


def test_it_is_whole_small_and_good():
    assert catalog.verify_checkpoint(SHAKESPEARE) == []
    info = catalog.read_info(SHAKESPEARE, "shakespeare")
    assert catalog.default_model() == "shakespeare"
    assert info.family == "nanochat"
    assert info.parameters <= 3_500_000
    assert (SHAKESPEARE / "model.safetensors").stat().st_size <= 8_000_000
    assert info.dtype in ("fp16", "bf16")
    assert info.val_loss is not None
    assert info.val_loss <= 1.45


def test_its_record_tells_the_whole_recipe():
    record = catalog.read_record(SHAKESPEARE)
    assert record.data["sha256"] == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    assert record.training["optimizer"] == "muon"
    assert 0 < record.step <= record.training["steps"]
    assert len(record.history) > 50


def test_generating_twice_with_a_seed_gives_the_same_text(cli):
    words = ("generate", "ROMEO:", "-n", "300", "--seed", "1", "--device", "cpu")
    first, second = minigpt(*words), cli(*words)  # in two processes
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.out
    assert len(first.stdout) > 250
    words = {"the", "and", "to", "of", "you", "my", "thou", "thy", "that", "is", "not", "with", "me", "your", "be"}
    assert len(words & set(first.stdout.lower().split())) >= 5


def test_transformers_opens_it_as_it_is_and_writes_the_same(cli):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    theirs = AutoModelForCausalLM.from_pretrained(SHAKESPEARE, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(SHAKESPEARE)
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    seen = torch.ones_like(ids)  # said, or every newline, which has the padding's id 0, would be masked
    greedy = theirs.generate(ids, attention_mask=seen, do_sample=False, max_new_tokens=60, pad_token_id=0)[0].tolist()
    precise = ("--json", "--device", "cpu", "--precision", "fp32")
    answer = cli("generate", PROMPT, "-n", "60", "-t", "0", *precise)
    assert json.loads(answer.out)["text"] == tokenizer.decode(greedy[ids.shape[1] :])
    ours = load_model("shakespeare", "cpu", "fp32")
    with torch.no_grad():
        assert (theirs(ids).logits - ours.gpt(ids)).abs().max() < 1e-4


def test_it_writes_from_nothing(cli):
    answer = cli("generate", "", "-n", "200", "--seed", "3", "--json", "--device", "cpu")
    assert answer.status == 0, answer.err
    text = json.loads(answer.out)["text"]
    assert len(text) == 200
    assert " " in text
    assert "\n" in text


def test_its_alphabet_is_that_of_the_text():
    tokenizer = Tokenizer.open(SHAKESPEARE)
    assert tokenizer.kind == "char"
    assert tokenizer.vocab_size == 66


def test_a_text_of_ones_own_becomes_a_model_that_writes(tmp_path, monkeypatch, cli):
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path))
    small = ["n_layer=1", "n_embd=32", "n_head=2", "block_size=32", "steps=20", "eval_interval=10", "sample_tokens=20"]
    sets = [word for value in small for word in ("--set", value)]
    trained = minigpt("train", "fables", "--name", "demo", *sets)
    assert trained.returncode == 0, trained.stderr
    assert Path(trained.stdout.strip()).is_dir()
    written = minigpt("generate", "THE FOX:", "-n", "40", "--model", "demo", "--seed", "1")
    assert written.returncode == 0, written.stderr
    assert len(written.stdout) == 41

    listed = [json.loads(line) for line in cli("models", "list", "--json").out.splitlines()]
    assert [row["name"] for row in listed] == ["shakespeare", "demo"]
    evaluated = json.loads(cli("eval", "--model", "demo", "--data", "fables", "--json").out)
    assert evaluated["split"] == "val"
    assert evaluated["loss"] == pytest.approx(listed[1]["val_loss"], abs=1e-4)
    exported = cli("models", "export", "demo", "--to", "hf", tmp_path / "ship", "--dtype", "fp16")
    assert exported.status == 0, exported.err
    assert cli("generate", "A", "-n", "5", "--model", tmp_path / "ship").status == 0
