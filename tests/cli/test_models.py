"""`models`: the list tells what there is and what is damaged, nothing is written over, nothing bundled is removed."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
from tiny_models import make_tiny

from engine import folders


@pytest.fixture
def model(tiny_model, own_home):
    """A copy of the tiny model that one test alone may damage; it goes by the name `mine`."""
    return shutil.copytree(tiny_model, own_home / "data" / "checkpoints" / "mine")


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_the_list_has_what_scripts_and_people_need(cli, model):
    record = next(r for r in map(json.loads, cli("models", "list", "--json").out.splitlines()) if r["name"] == "mine")
    assert list(record) == ["name", "path", "family", "parameters", "tokenizer", "val_loss", "step"]
    assert record["path"] == str(model)
    recorded = json.loads((model / "minigpt.json").read_text())
    assert (record["family"], record["tokenizer"]) == ("nanochat", "char")
    assert (record["val_loss"], record["step"]) == (recorded["losses"]["val"], recorded["step"])
    assert record["parameters"] > 20_000
    row = next(line for line in cli("models", "list").out.splitlines() if line.startswith("mine")).split()
    assert row[1] == "nanochat"
    assert row[-2:] == [f"{record['val_loss']:.4f}", str(record["step"])]


def test_a_damaged_model_is_listed_with_what_is_wrong(cli, model):
    (model / "model.safetensors").write_bytes(b"\x80\x04pickle" * 9)
    record = next(r for r in map(json.loads, cli("models", "list", "--json").out.splitlines()) if r["name"] == "mine")
    assert "safetensors" in record["problem"]
    assert "mine  damaged: " in cli("models", "list").out


def test_show_tells_everything_that_is_recorded(cli, model):
    out = cli("models", "show", "mine").out
    for part in ("nanochat", "char", "tiny text", "block_size", "losses", "files", "model.safetensors"):
        assert part in out
    shown = json.loads(cli("models", "show", "mine", "--json").out)
    assert shown["record"]["files"]
    assert shown["config"]["model_type"] == "nanochat"


def test_verify_names_the_file_that_is_not_as_it_was_written(cli, model):
    whole = cli("models", "verify", "mine")
    assert whole.status == 0
    assert "mine  ok" in whole.out
    flip(model / "model.safetensors", -1)
    damaged = cli("models", "verify", "mine")
    assert damaged.status == 1
    assert "model.safetensors" in damaged.out
    assert damaged.is_one_error_line
    assert cli("models", "verify").status == 1


def test_export_refuses_a_path_that_exists_and_leaves_it_as_it_was(cli, model, tmp_path):
    target = tmp_path / "there"
    target.mkdir()
    (target / "mine.txt").write_text("precious")
    result = cli("models", "export", "mine", "--to", "hf", target)
    assert result.status == 1
    assert result.is_one_error_line
    assert [path.name for path in tmp_path.iterdir() if path.name != "own home"] == ["there"]
    assert (target / "mine.txt").read_text() == "precious"


def test_export_replaces_a_model_when_asked_to_and_never_anything_else(cli, model, tmp_path):
    target = tmp_path / "exported"
    assert cli("models", "export", "mine", "--to", "hf", target).status == 0
    refused = cli("models", "export", "mine", "--to", "hf", target, "--dtype", "bf16")
    assert refused.status == 1
    assert "--force" in refused.err
    assert cli("models", "export", "mine", "--to", "hf", target, "--dtype", "bf16", "--force").status == 0
    assert json.loads(cli("models", "show", target, "--json").out)["dtype"] == "bf16"
    (target / "notes.txt").write_text("precious")
    result = cli("models", "export", "mine", "--to", "hf", target, "--force")
    assert result.status == 1
    assert result.is_one_error_line
    assert "notes.txt" in result.err
    assert (target / "notes.txt").read_text() == "precious"


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_export_writes_a_model_in_the_precision_asked_for(cli, model, tmp_path, dtype):
    target = tmp_path / dtype
    assert cli("models", "export", "mine", "--to", "hf", target, "--dtype", dtype).status == 0
    assert json.loads(cli("models", "show", target, "--json").out)["dtype"] == dtype
    assert cli("generate", "The", "-n", 3, "--seed", 1, "--model", target).status == 0


def test_export_of_a_damaged_model_writes_nothing(cli, model, tmp_path):
    flip(model / "model.safetensors", -1)
    result = cli("models", "export", "mine", "--to", "hf", tmp_path / "new")
    assert result.status == 1
    assert result.is_one_error_line
    assert not (tmp_path / "new").exists()


@pytest.fixture
def qwen(own_home):
    """A model that llama.cpp can run, by the name `qwen`."""
    return make_tiny("qwen", "qwen3", steps=1)


@pytest.mark.parametrize("dtype", ["", "fp16", "q8_0"])
def test_export_writes_a_gguf_file_and_says_so(cli, qwen, tmp_path, dtype):
    target = tmp_path / "new folder" / "model.gguf"
    result = cli("models", "export", "qwen", "--to", "gguf", target, *(("--dtype", dtype) if dtype else ()))
    assert (result.status, result.out) == (0, "")
    assert f"{target} too" in result.err
    assert (dtype or "fp32") in result.err
    assert "<|endoftext|>" in result.err  # what an empty prompt is, for llama.cpp
    assert target.read_bytes().startswith(b"GGUF")
    assert list(target.parent.iterdir()) == [target]


def test_export_to_gguf_replaces_a_gguf_file_when_asked_to_and_never_anything_else(cli, qwen, tmp_path):
    target = tmp_path / "model.gguf"
    assert cli("models", "export", "qwen", "--to", "gguf", target).status == 0
    size = target.stat().st_size
    refused = cli("models", "export", "qwen", "--to", "gguf", target, "--dtype", "fp16")
    assert refused.status == 1
    assert refused.is_one_error_line
    assert "--force" in refused.err
    assert target.stat().st_size == size
    assert cli("models", "export", "qwen", "--to", "gguf", target, "--dtype", "fp16", "--force").status == 0
    assert target.stat().st_size < size
    target.write_text("precious")
    assert cli("models", "export", "qwen", "--to", "gguf", target, "--force").status == 1
    assert target.read_text() == "precious"


def test_export_to_gguf_says_why_a_model_cannot_be(cli, model, qwen, monkeypatch, tmp_path):
    family = cli("models", "export", "mine", "--to", "gguf", tmp_path / "model.gguf")
    assert family.status == 1
    assert family.is_one_error_line
    assert "nanochat" in family.err
    dtype = cli("models", "export", "mine", "--to", "hf", tmp_path / "folder", "--dtype", "q8_0")
    assert dtype.status == 2
    assert dtype.is_one_error_line
    assert "q8_0" in dtype.err
    monkeypatch.setitem(sys.modules, "gguf", None)
    package = cli("models", "export", "qwen", "--to", "gguf", tmp_path / "model.gguf")
    assert package.status == 2
    assert package.is_one_error_line
    assert "minigpt-tui[gguf]" in package.err
    assert [path.name for path in tmp_path.iterdir()] == ["own home"]


def test_remove_asks_and_takes_one_s_own_models_alone(cli, model, monkeypatch, tmp_path):
    unasked = cli("models", "remove", "mine")  # there is nobody to ask
    assert unasked.status == 2
    assert "--yes" in unasked.err
    assert model.exists()

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda *_, **__: False)
    assert cli("models", "remove", "mine").status == 0
    assert model.exists()

    elsewhere = shutil.copytree(model, tmp_path / "elsewhere")
    assert cli("models", "remove", elsewhere, "--yes").status == 1
    assert elsewhere.exists()

    assert cli("models", "remove", "mine", "--yes").status == 0
    assert list(model.parent.iterdir()) == []


def test_bundled_models_stay(cli, model, monkeypatch):
    monkeypatch.setattr(folders, "bundled_checkpoints", lambda: model.parent)
    monkeypatch.setattr(folders, "user_checkpoints", lambda: model.parent.parent / "others")
    result = cli("models", "remove", "mine", "--yes")
    assert result.status == 1
    assert result.is_one_error_line
    assert "ships with" in result.err
    assert model.exists()


def test_a_damaged_model_can_be_removed(cli, model):
    (model / "config.json").unlink()
    assert cli("models", "remove", "mine", "--yes").status == 0
    assert not model.exists()
