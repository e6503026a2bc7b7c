"""A saved model is a Hugging Face directory that others open as it is; damage is named and never loaded."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from test_model import CONFIGS, every_config, make, tokens
from tiny_models import make_tiny

from engine import catalog, checkpoints, folders
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
    assert type(theirs).__name__ == {
        "gpt2": "GPT2LMHeadModel", "nanochat": "NanoChatForCausalLM", "qwen3": "Qwen3ForCausalLM",
        "llama": "LlamaForCausalLM",
    }[config.family]  # fmt: skip
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


def change_record(path, **changes):
    values = json.loads((path / "minigpt.json").read_text())
    (path / "minigpt.json").write_text(json.dumps(values | changes))


def break_no_hashes(path):
    change_record(path, files={})


def break_weights_without_hash(path):
    files = json.loads((path / "minigpt.json").read_text())["files"]
    del files["model.safetensors"]
    change_record(path, files=files)
    break_one_byte(path)


@pytest.mark.parametrize(
    "damage",
    [
        break_truncated,
        break_one_byte,
        break_missing,
        break_no_tokenizer,
        break_pickle,
        break_config,
        break_record,
        break_no_hashes,
        break_weights_without_hash,
    ],
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


@pytest.mark.parametrize(
    "name", ["{outside}", "../secret", "a/../../secret", "//etc/passwd", "..", "", "a\0b", "\x1b[2J", "a" * 300]
)
def test_a_record_cannot_point_outside_of_its_model(name, tiny_model, tmp_path):
    path = tmp_path / "model"
    shutil.copytree(tiny_model, path)
    (tmp_path / "secret").write_text("secret")
    name = name.format(outside=tmp_path / "secret")
    files = json.loads((path / "minigpt.json").read_text())["files"]
    change_record(path, files=files | {name: catalog.hash_file(tmp_path / "secret")})
    (problem,) = catalog.verify_checkpoint(path)
    assert "sha256" not in problem  # nothing is said of what is in the other file
    assert problem.isprintable()
    with pytest.raises(CheckpointError):
        checkpoints.load_model(str(path))


@pytest.mark.parametrize("values", [{"bias": True}, {"positions": 5}, {"dropout": "much"}, {"dropout": 2.0}])
def test_a_record_whose_architecture_does_not_fit_is_named(values, tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "model")
    change_record(tmp_path / "model", architecture=values)
    with pytest.raises(CheckpointError, match=r"minigpt\.json cannot be used"):
        checkpoints.load_model(str(tmp_path / "model"))


def foreign_copy(model, path, **changes):
    """A copy of a model as from elsewhere, without hashes, and with changes to its config.json."""
    shutil.copytree(model, path)
    (path / "minigpt.json").unlink()
    values = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(values | changes))
    return path


def test_a_config_cannot_ask_for_more_memory_than_its_weights_have(tiny_model, tmp_path, monkeypatch):
    def tables(config):
        raise AssertionError("8 GiB of rotary tables")

    monkeypatch.setattr("engine.model.gpt.rotary_tables", tables)
    path = foreign_copy(tiny_model, tmp_path / "foreign", max_position_embeddings=1_048_576, head_dim=2048)
    with pytest.raises(CheckpointError, match="of shape"):
        checkpoints.load_model(str(path))


@pytest.mark.parametrize("kind", [torch.int32, torch.bool, torch.complex64])
def test_weights_that_are_no_floating_point_numbers_are_refused(kind, tiny_model, tmp_path):
    path = foreign_copy(tiny_model, tmp_path / "foreign")
    weights = safetensors.torch.load_file(path / "model.safetensors")
    changed = {name: tensor.to(kind) for name, tensor in weights.items()}
    safetensors.torch.save_file(changed, path / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"in {str(kind).removeprefix('torch.')}"):
        checkpoints.load_model(str(path))


@pytest.mark.parametrize("shape", [(), (7,), (32, 2), (2, 32, 48), (0, 3)])
def test_gpt2_weights_of_a_wrong_shape_are_named(shape, tmp_path):
    save(tmp_path / "model", make(CONFIGS["gpt2"], torch.float32))
    path = foreign_copy(tmp_path / "model", tmp_path / "foreign")
    weights = safetensors.torch.load_file(path / "model.safetensors")
    for name in ("attn.c_attn.weight", "attn.c_attn.bias", "mlp.c_fc.weight"):
        changed = weights | {f"transformer.h.1.{name}": torch.zeros(shape)}
        safetensors.torch.save_file(changed, path / "model.safetensors")
        with pytest.raises(CheckpointError):
            checkpoints.load_model(str(path))


def test_a_config_that_does_not_fit_the_weights_names_the_weight(tiny_model, tmp_path):
    foreign = tmp_path / "foreign"
    shutil.copytree(tiny_model, foreign)
    (foreign / "minigpt.json").unlink()
    break_config(foreign)
    with pytest.raises(CheckpointError, match=r"embedding.weight of shape \(\d+, 32\)"):
        checkpoints.load_model(str(foreign))


def test_a_model_that_is_there_is_not_replaced_by_accident(tmp_path):
    model = make(CONFIGS["nanochat"], torch.float32)
    save(tmp_path / "model", model)
    with pytest.raises(CheckpointError, match="exists already"):
        save(tmp_path / "model", model)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["config.json", "model.safetensors", "thesis.txt"], "has thesis.txt"),
        (["config.json", "minigpt.json", ".git"], "has .git"),
        (["config.json"], "is no model"),
        (None, "is more than a model"),
    ],
)
def test_what_is_not_a_model_alone_is_never_replaced(names, says, tmp_path):
    path = tmp_path / "mine"
    if names is None:
        path.write_text("a file")
    else:
        path.mkdir()
        for name in names:
            (path / name).write_text("precious")
    with pytest.raises(CheckpointError, match=says) as caught:
        save(path, make(CONFIGS["nanochat"], torch.float32), replace=True)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == [path]
    assert path.is_file() or sorted(file.name for file in path.iterdir()) == sorted(names)


def test_an_empty_folder_and_a_damaged_model_can_be_replaced(tmp_path):
    model = make(CONFIGS["nanochat"], torch.float32)
    (tmp_path / "model").mkdir()
    save(tmp_path / "model", model, replace=True)
    break_record(tmp_path / "model")
    break_missing(tmp_path / "model")
    save(tmp_path / "model", model, replace=True)
    assert catalog.verify_checkpoint(tmp_path / "model") == []


@pytest.mark.posix
def test_what_a_model_is_saved_in_is_private(tmp_path):
    save(tmp_path / "new" / "folders" / "model", make(CONFIGS["nanochat"], torch.float32))
    for path in (tmp_path / "new", tmp_path / "new" / "folders", tmp_path / "new" / "folders" / "model"):
        assert path.stat().st_mode & 0o777 == 0o700


def test_a_weight_that_a_precision_cannot_hold_is_named_and_nothing_is_written(tmp_path):
    model = make(CONFIGS["nanochat"], torch.float32)
    with torch.no_grad():
        model.blocks[1].mlp.up.weight[0, 0] = -70_000.0
    with pytest.raises(
        CheckpointError, match=r"blocks\.1\.mlp\.up\.weight has a weight of 70000, and fp16 holds 65504"
    ):
        save(tmp_path / "model", model, precision="fp16")
    assert list(tmp_path.iterdir()) == []
    save(tmp_path / "model", model, precision="bf16")


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
    finally:
        shutil.rmtree(run.parent)


def test_a_damaged_checkpoint_of_a_run_names_the_nearest_whole_one(tiny_model, home):
    run = home / "data" / "runs" / "demo" / "checkpoints"
    for step in (5, 10, 20, 100):
        shutil.copytree(tiny_model, run / f"step-{step}")

    def hint(which):
        with pytest.raises(CheckpointError) as caught:
            checkpoints.load_model(which)
        return caught.value.hint

    try:
        break_one_byte(run / "step-20")
        assert hint("demo:step-20") == "the one before it is whole: --model demo:step-10"
        assert hint(str(run / "step-20")) == "the one before it is whole: --model demo:step-10"
        break_one_byte(run / "step-10")
        assert hint("demo:step-20") == "the one before it is whole: --model demo:step-5"
        break_record(run / "step-5")
        assert hint("demo:step-5") == "the one after it is whole: --model demo:step-100"
        break_missing(run / "step-100")
        assert hint("demo:step-20") == "copy it again, or train it again"
    finally:
        shutil.rmtree(run.parent)


def test_a_damaged_model_of_no_run_reads_no_other_model(tiny_model, home, monkeypatch):
    paths = [tiny_model.parent / "step-1", tiny_model.parent / "step-2"]
    for path in paths:
        shutil.copytree(tiny_model, path)
    break_one_byte(paths[1])
    read = []
    hash_file = catalog.hash_file
    monkeypatch.setattr(catalog, "hash_file", lambda path, *more: read.append(path.parent) or hash_file(path, *more))
    try:
        with pytest.raises(CheckpointError, match="copy it again"):
            checkpoints.load_model("step-2")
    finally:
        for path in paths:
            shutil.rmtree(path)
    assert set(read) == {paths[1]}


def header(data: bytes) -> bytes:
    return len(data).to_bytes(8, "little") + data


def one_tensor(shape: bytes) -> bytes:
    return header(b'{"a": {"dtype": "F32", "shape": ' + shape + b', "data_offsets": [0, 16]}}') + b"0" * 16


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b'{"model_type": "\xff"}'),
        ("config.json", b'{"a":' * 100_000),
        ("config.json", b"[1]"),
        ("config.json", b"{}"),
        ("config.json", b'{"model_type": ["gpt2"], "vocab_size": 9, "n_positions": 9}'),
        ("config.json", b'{"model_type": "mamba", "vocab_size": 9, "n_positions": 9}'),
        ("config.json", b'{"model_type": "gpt2", "vocab_size": null, "n_positions": 9}'),
        ("config.json", b'{"model_type": "gpt2", "vocab_size": "many", "n_positions": 9}'),
        ("config.json", b'{"model_type": "gpt2", "vocab_size": true, "n_positions": 9}'),
        ("config.json", b'{"model_type": "gpt2", "vocab_size": 9, "n_positions": [1]}'),
        ("config.json", b'{"model_type": "gpt2", "vocab_size": 1' + b"0" * 5000 + b', "n_positions": 9}'),
        ("minigpt.json", b'{"run": "\xff"}'),
        ("minigpt.json", b'{"data": ' + b'{"a":' * 100_000),
        ("minigpt.json", b'{"losses": {"val": null}}'),
        ("minigpt.json", b'{"step": 1' + b"0" * 400 + b"}"),
        ("minigpt.json", b'{"format": 2}'),
        ("model.safetensors", b""),
        ("model.safetensors", header(b"[]")),
        ("model.safetensors", header(b'{"a":' * 100_000)),
        ("model.safetensors", one_tensor(b'[-4, -1]')),
        ("model.safetensors", one_tensor(b'"ab"')),
        ("model.safetensors", one_tensor(b'[99, 99]')),
        ("model.safetensors", header(b'{"\xff": {}}')),
    ],
)  # fmt: skip
def test_one_bad_folder_spoils_no_list_and_no_default(file, content, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path))
    for name in ("a-bad", "good"):
        shutil.copytree(tiny_model, tmp_path / "data" / "checkpoints" / name)
    shutil.copytree(tiny_model, tmp_path / "data" / "runs" / "run" / "checkpoints" / "step-1")
    for path in (
        (tmp_path / "data" / "checkpoints" / "a-bad"),
        tmp_path / "data" / "runs" / "run" / "checkpoints" / "step-1",
    ):
        (path / file).write_bytes(content)
    infos = {info.name: info for info in catalog.list_checkpoints()}
    assert infos["a-bad"].problem
    assert infos["run"].problem
    assert not infos["good"].problem
    assert catalog.default_model() not in ("a-bad", "run")
    with pytest.raises(MiniGPTError):
        checkpoints.load_model("a-bad")


@pytest.mark.parametrize(
    "name",
    ["~nosuchuser", "~nosuchuser/model", "a" * 300, "a/" * 3000, "a\0b", "run:" + "a" * 300, "a" * 300 + ":best"],
)
def test_a_name_that_no_file_can_have_is_a_model_that_is_not_there(name):
    with pytest.raises(ModelNotFoundError):
        catalog.find_checkpoint(name)


def test_a_step_is_a_number_in_plain_digits(tiny_model, home):
    run = home / "data" / "runs" / "demo" / "checkpoints"
    for step in ("step-²", "step-7", "step-"):
        shutil.copytree(tiny_model, run / step)
    try:
        assert catalog.find_checkpoint("demo:last") == run / "step-7"
        assert "demo" in [info.name for info in catalog.list_checkpoints()]
    finally:
        shutil.rmtree(run.parent)


def test_the_bundled_model_is_whole():
    path = folders.bundled_checkpoints() / catalog.DEFAULT_MODEL
    assert catalog.verify_checkpoint(path) == []
    assert not catalog.read_info(path).problem


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
        ({"model_type": "mamba"}, "model_type is 'mamba'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "type 'yarn'"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        ({"attention_bias": True}, "biases"),
        ({"num_attention_heads": None}, "cannot be used"),
        ({"num_attention_heads": "many"}, "cannot be used"),
        ({"num_attention_heads": 0, "head_dim": 0}, "n_head is 0"),
        ({"num_attention_heads": 10**400}, "cannot be used"),
        ({"rope_parameters": {"rope_theta": 10**400}}, "cannot be used"),
        ({"rope_parameters": ["default"]}, "cannot be used"),
        ({"model_type": ["gpt2"]}, "model_type is"),
        ({"vocab_size": 10**400}, "cannot be used"),
    ],
)
def test_what_our_model_cannot_compute_is_refused(changes, says, tiny_model, tmp_path):
    foreign = foreign_copy(tiny_model, tmp_path / "foreign", **changes)
    with pytest.raises(CheckpointError, match=says):
        checkpoints.load_model(str(foreign))


def test_every_tokenizer_travels_with_its_model(home):
    for kind in ("byte", "bpe"):
        path = make_tiny(f"tiny-{kind}", tokenizer=kind, steps=3)
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
