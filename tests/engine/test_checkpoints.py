"""A saved model is a Hugging Face directory that others open as it is; damage is named and never loaded."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import make_tiny
from test_model import CONFIGS, every_config, make, tokens

from engine import catalog, checkpoints
from engine.catalog import Record
from engine.errors import CheckpointError, MiniGPTError, ModelNotFoundError
from engine.text.tokenizers import train_tokenizer

CHARACTERS = "".join(chr(ord("A") + i) for i in range(36))


def save(path, model, **options):
    return checkpoints.save_checkpoint(path, model, train_tokenizer("char", [CHARACTERS], 0), Record(step=7), **options)


@every_config
def test_transformers_computes_the_same_logits_from_what_we_save(config, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, x = make(config, torch.float32), tokens(config)
    save(tmp_path / "model", model)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    assert type(theirs).__name__ == {"gpt2": "GPT2LMHeadModel", "nanochat": "NanoChatForCausalLM"}.get(
        config.family, "Qwen3ForCausalLM"
    )
    with torch.no_grad():
        assert (theirs(x).logits - model(x)).abs().max() < 1e-4
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.decode(tokenizer.encode("ABBA")) == "ABBA"


@every_config
def test_we_compute_the_same_logits_from_what_transformers_saves(config, tmp_path):
    from transformers import AutoModelForCausalLM

    model, x = make(config, torch.float32), tokens(config)
    save(tmp_path / "ours", model)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    theirs.save_pretrained(tmp_path / "theirs")
    shutil.copy(tmp_path / "ours" / "tokenizer.json", tmp_path / "theirs")
    loaded = checkpoints.load_model(str(tmp_path / "theirs"), "cpu", "fp32")
    with torch.no_grad():
        assert (theirs(x).logits - loaded.gpt(x)).abs().max() < 1e-4


@every_config
def test_a_model_comes_back_to_the_bit(config, tmp_path):
    model, x = make(config, torch.float32), tokens(config)
    save(tmp_path / "model", model)
    loaded = checkpoints.load_model(str(tmp_path / "model"), "cpu", "fp32")
    for name in ("family", "position_kind", "activation_kind", "kv_heads", "head_size", "inner_size", "eps", "bias"):
        assert getattr(loaded.config, name) == getattr(config, name), name
    assert torch.equal(loaded.gpt(x), model(x))
    assert loaded.record.step == 7
    assert loaded.sha256 == catalog.hash_file(tmp_path / "model" / "model.safetensors")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_an_export_in_half_precision_is_half_as_large_and_close(tiny_model, tmp_path, precision):
    checkpoints.export_model("tiny", tmp_path / "half", precision)
    sizes = [(path / "model.safetensors").stat().st_size for path in (tmp_path / "half", tiny_model)]
    assert sizes[0] < 0.6 * sizes[1]
    assert catalog.read_info(tmp_path / "half").dtype == precision
    x = torch.arange(40)[None] % 20
    first, second = (
        checkpoints.load_model(str(path), "cpu", "fp32").gpt(x) for path in (tmp_path / "half", tiny_model)
    )
    assert 0 < (first - second).abs().max() < 0.2


def break_truncated(path):
    data = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(data[: len(data) // 2])


def break_one_byte(path):
    data = bytearray((path / "model.safetensors").read_bytes())
    data[-5] ^= 0x40
    (path / "model.safetensors").write_bytes(data)


def break_missing(path):
    (path / "model.safetensors").unlink()


def break_no_tokenizer(path):
    (path / "tokenizer.json").unlink()


class Hostile:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def break_pickle(path):
    (path / "model.safetensors").write_bytes(pickle.dumps(Hostile()))


def break_config(path):
    values = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(values | {"hidden_size": 64}))


def break_record(path):
    (path / "minigpt.json").write_text("{")


@pytest.mark.parametrize(
    "damage",
    [break_truncated, break_one_byte, break_missing, break_no_tokenizer, break_pickle, break_config, break_record],
)
def test_a_damaged_model_is_named_and_not_loaded(damage, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    damage(broken)
    assert catalog.verify_checkpoint(broken)
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load_model(str(broken))
    assert caught.value.hint
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("damage", [break_truncated, break_missing, break_pickle, break_config, break_no_tokenizer])
def test_damage_is_found_without_hashes_too(damage, tiny_model, tmp_path):
    broken = tmp_path / "foreign"
    shutil.copytree(tiny_model, broken)
    (broken / "minigpt.json").unlink()  # as a model from elsewhere
    damage(broken)
    with pytest.raises(MiniGPTError):
        checkpoints.load_model(str(broken))


def test_a_config_that_does_not_fit_the_weights_names_the_weight(tiny_model, tmp_path):
    foreign = tmp_path / "foreign"
    shutil.copytree(tiny_model, foreign)
    (foreign / "minigpt.json").unlink()
    break_config(foreign)
    with pytest.raises(CheckpointError, match=r"embedding.weight of shape \(\d+, 32\)"):
        checkpoints.load_model(str(foreign))


def test_a_write_that_fails_leaves_the_old_model_and_no_litter(tmp_path, monkeypatch):
    model = make(CONFIGS["nanochat"], torch.float32)
    save(tmp_path / "model", model)
    before = (tmp_path / "model" / "model.safetensors").read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.safetensors.torch, "save_file", full)
    with pytest.raises(CheckpointError, match="No space left"):
        save(tmp_path / "model", make(CONFIGS["nanochat"], torch.float32, seed=2), replace=True)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_model_that_is_there_is_not_replaced_by_accident(tmp_path):
    model = make(CONFIGS["nanochat"], torch.float32)
    save(tmp_path / "model", model)
    with pytest.raises(CheckpointError, match="exists already"):
        save(tmp_path / "model", model)


def test_a_model_is_found_by_name_path_and_run(tiny_model, home):
    run = home / "data" / "runs" / "demo" / "checkpoints"
    for step, loss in ((5, 2.0), (10, 1.5), (20, 1.7)):
        shutil.copytree(tiny_model, run / f"step-{step}")
        record = catalog.read_record(run / f"step-{step}")
        record.losses = {"val": loss}
        checkpoints.write_record(run / f"step-{step}", record)
    try:
        assert catalog.find_checkpoint("tiny") == tiny_model
        assert catalog.find_checkpoint(str(tiny_model)) == tiny_model
        assert catalog.find_checkpoint("demo").name == "step-10"
        assert catalog.find_checkpoint("demo:best").name == "step-10"
        assert catalog.find_checkpoint("demo:last").name == "step-20"
        assert catalog.find_checkpoint("demo:step-5").name == "step-5"
        with pytest.raises(CheckpointError, match="step-5, step-10, step-20"):
            catalog.find_checkpoint("demo:step-7")
        with pytest.raises(ModelNotFoundError, match="did you mean tiny"):
            catalog.find_checkpoint("tiyn")
        break_one_byte(run / "step-20")
        with pytest.raises(CheckpointError, match="--model demo:step-10"):
            checkpoints.load_model("demo:last")
    finally:
        shutil.rmtree(run.parent)


def test_a_list_shows_the_damaged_with_what_is_wrong(tiny_model, home):
    broken = tiny_model.parent / "half-copied"
    shutil.copytree(tiny_model, broken)
    break_truncated(broken)
    try:
        infos = {info.name: info for info in catalog.list_checkpoints()}
        assert not infos["tiny"].problem
        assert infos["tiny"].parameters == checkpoints.load_model("tiny").parameters
        assert "bytes where" in infos["half-copied"].problem
    finally:
        shutil.rmtree(broken)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "llama"}, "model_type is 'llama'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "type 'yarn'"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        ({"attention_bias": True}, "biases"),
        ({"num_attention_heads": None}, "cannot be used"),
        ({"num_attention_heads": "many"}, "cannot be used"),
    ],
)
def test_what_our_model_cannot_compute_is_refused(changes, says, tiny_model, tmp_path):
    foreign = tmp_path / "foreign"
    shutil.copytree(tiny_model, foreign)
    (foreign / "minigpt.json").unlink()
    values = json.loads((foreign / "config.json").read_text())
    (foreign / "config.json").write_text(json.dumps(values | changes))
    with pytest.raises(CheckpointError, match=says):
        checkpoints.load_model(str(foreign))


def test_every_tokenizer_travels_with_its_model(home):
    for kind in ("byte", "bpe"):
        path = make_tiny(f"tiny-{kind}", tokenizer=kind)
        loaded = checkpoints.load_model(f"tiny-{kind}")
        assert loaded.tokenizer.kind == kind
        assert loaded.tokenizer.decode(loaded.tokenizer.encode("héllo ☃")) == "héllo ☃"
        shutil.rmtree(path)


def test_loading_a_model_does_not_wait_for_the_compiler(tiny_model):
    code = (
        "import sys; from engine.checkpoints import load_model; load_model('tiny'); "
        "assert 'torch' in sys.modules; assert 'torch._dynamo' not in sys.modules; assert 'sympy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
