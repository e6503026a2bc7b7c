"""`models import` brings a model from elsewhere under a name here, says what it guessed, and refuses in one line what
it cannot bring; `models export --to onnx` writes a folder that onnxruntime opens.
"""

from __future__ import annotations

import json
import pickle
import sys

import pytest
import torch
from foreign_models import CHARACTERS, STOI, TEXT, NanoGPT, TutorialGPT

from engine.formats import onnx_file


@pytest.fixture
def nanogpt(tmp_path, own_home):
    """What nanoGPT's train.py leaves, in a folder `shakespeare`."""
    return NanoGPT().save(tmp_path / "shakespeare").parent


def test_a_nanogpt_is_imported_listed_written_with_and_evaluated(cli, nanogpt, tmp_path):
    result = cli("models", "import", nanogpt)
    assert (result.status, result.out) == (0, "")
    assert "now the model shakespeare" in result.err
    notes = [line for line in result.err.splitlines() if line.startswith("note: ")]
    assert any("gelu" in note for note in notes)
    assert not any("--attention-scale" in note or "--heads" in note for note in notes)  # nanoGPT's files tell
    assert any("<|endoftext|>" in note for note in notes)
    shown = json.loads(cli("models", "show", "shakespeare", "--json").out)
    assert (shown["step"], shown["family"], shown["tokenizer"]) == (5000, "gpt2", "char")
    assert cli("models", "verify", "shakespeare").status == 0
    written = cli("generate", "First", "-n", 12, "--seed", 1, "--model", "shakespeare", "--json")
    assert len(json.loads(written.out)["text"]) == 12
    (tmp_path / "text.txt").write_text(TEXT)
    evaluated = cli("eval", "--model", "shakespeare", "--data", tmp_path / "text.txt", "--json")
    assert json.loads(evaluated.out)["loss"] > 0


def test_what_a_file_does_not_tell_is_an_option(cli, own_home, tmp_path):
    torch.save(TutorialGPT(by="embd").state_dict(), tmp_path / "gpt.pt")
    (tmp_path / "table.json").write_text(json.dumps({"char_to_integer": STOI}))
    words = ("models", "import", tmp_path / "gpt.pt", "--chars", tmp_path / "table.json", "--name", "lecture")
    result = cli(*words, "--attention-scale", "embd", "--activation", "relu")
    assert result.status == 0
    assert "lecture" in result.err
    assert "--attention-scale" not in result.err
    again = cli(*words)
    assert again.status == 1
    assert again.is_one_error_line
    assert "--force" in again.err
    replaced = cli(*words, "--force")
    assert replaced.status == 0
    assert "--attention-scale embd" in replaced.err
    heads = cli(*words, "--force", "--heads", 8)
    assert heads.status == 2
    assert heads.is_one_error_line


class Runs:
    def __reduce__(self):
        return print, ("was run",)


def test_a_file_that_means_harm_is_one_line_and_leaves_nothing(cli, nanogpt, own_home, tmp_path):
    (nanogpt / "meta.pkl").write_bytes(pickle.dumps({"stoi": STOI, "x": Runs()}))
    refused = cli("models", "import", nanogpt)
    assert refused.status == 1
    assert refused.is_one_error_line
    assert "could run code" in refused.err
    (nanogpt / "chars.json").write_text(json.dumps(CHARACTERS))
    assert cli("models", "import", nanogpt, "--chars", nanogpt / "chars.json").status == 0
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    whole = cli("models", "import", tmp_path / "whole.pt")
    assert whole.status == 1
    assert whole.is_one_error_line
    missing = cli("models", "import", tmp_path / "nowhere")
    assert missing.status == 1
    assert missing.is_one_error_line
    assert [path.name for path in (own_home / "data" / "checkpoints").iterdir()] == ["shakespeare"]


@pytest.mark.parametrize("name", ["../outside", "a b", ""])
def test_a_name_that_is_none_is_refused(cli, own_home, tmp_path, name):
    folder = NanoGPT(L=1).save(tmp_path / "odd name").parent  # which cannot be its name here either
    result = cli("models", "import", folder, "--name", name)
    assert result.status == 1
    assert result.is_one_error_line
    assert "cannot name a model" in result.err


def test_export_to_onnx_says_where_the_graph_is_and_what_it_takes(cli, tiny_model, monkeypatch, tmp_path):
    class Program:
        def save(self, path):
            path.write_bytes(b"graph")

    monkeypatch.setattr(onnx_file, "_program", lambda gpt: Program())
    result = cli("models", "export", "tiny", "--to", "onnx", tmp_path / "graph")
    assert (result.status, result.out) == (0, "")
    assert str(tmp_path / "graph" / "model.onnx") in result.err
    assert cli("models", "export", "tiny", "--to", "onnx", tmp_path / "graph").is_one_error_line
    dtype = cli("models", "export", "tiny", "--to", "onnx", tmp_path / "other", "--dtype", "fp16")
    assert dtype.status == 2
    assert "--to onnx has no fp16" in dtype.err
    monkeypatch.setitem(sys.modules, "onnx", None)
    package = cli("models", "export", "tiny", "--to", "onnx", tmp_path / "other")
    assert package.status == 2
    assert package.is_one_error_line
    assert "minigpt-tui[onnx]" in package.err
