"""A run can start from any model: its shape and its tokenizer stay, and what changes is said."""

from __future__ import annotations

import shutil

import pytest
import torch
from test_model import CONFIGS
from training_here import TINY, new_run, take_up, tiny_text

from engine import catalog
from engine.checkpoints import export_model, load_model
from engine.errors import CheckpointError, ModelNotFoundError, TokenizerError
from engine.evaluation import evaluate
from engine.presets import find_preset
from engine.training.orders import Stopped

LINES = "The fox said nothing, and the river said nothing to the fox.\n\n" * 20


@pytest.fixture
def text(tmp_path, monkeypatch, tiny_model):
    """A tiny text, a home of the test's own, and in it the model `tiny`."""
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))
    shutil.copytree(tiny_model, tmp_path / "home" / "data" / "checkpoints" / "tiny")
    return tiny_text(tmp_path, LINES)


FINE = find_preset("finetune").replace(
    steps=6, eval_interval=3, sample_tokens=10, batch_size=4, precision="fp32", learning_rate=3e-3
)


def test_a_run_goes_on_from_a_model_and_keeps_its_shape_and_tokenizer(text):
    base = load_model("tiny", "cpu", "fp32")
    trainer = take_up(new_run("fine", FINE, text, base=str(base.path)))
    assert trainer.tokenizer.sha256() == base.tokenizer.sha256()
    for name, weight in base.gpt.state_dict().items():
        assert torch.equal(trainer.stepper.gpt.state_dict()[name], weight), name
    assert trainer.stepper.gpt.config.dropout == FINE.dropout
    trainer.train()
    lines = trainer.run.read_metrics()
    assert lines[-1].val_loss < evaluate(base.gpt, base.tokenizer, trainer.text.val).loss - 0.1
    loaded = load_model("fine")
    assert (loaded.config.n_layer, loaded.config.block_size) == (base.config.n_layer, base.config.block_size)
    config = trainer.run.read_config().training
    shape = base.config
    assert (config.family, config.n_layer, config.n_embd) == (shape.family, shape.n_layer, shape.n_embd)
    assert (config.tokenizer, config.block_size, config.dropout) == ("char", 64, FINE.dropout)


def test_what_changes_is_said_once(text):
    run = new_run("fine", FINE.replace(tokenizer="byte", n_layer=5), text, base="tiny")
    trainer = take_up(run)
    trainer.watcher.at[4] = trainer.orders.stop
    trainer.train()
    take_up(run)
    log = (run.path / "log.txt").read_text()
    said = [line.split(" ", 2)[2] for line in log.splitlines()]
    assert said.count("n_layer 5 -> 2 (the base's)") == 1
    assert said.count("n_embd 256 -> 32 (the base's)") == 1
    assert said.count("block_size 256 -> 64 (the base's)") == 1
    assert said.count(f"tokenizer byte -> the base's char, {trainer.tokenizer.vocab_size} ids") == 1
    assert not any(line.startswith(("n_head", "dropout", "positions", "n_kv_head")) for line in said)


def test_windows_may_be_shorter_than_the_models_context(text):
    trainer = take_up(new_run("fine", FINE.replace(block_size=16), text, base="tiny"))
    assert trainer.batches.block_size == 16
    assert trainer.stepper.gpt.config.block_size == 64
    assert "windows of 16 tokens; the base's context of 64 stays" in (trainer.run.path / "log.txt").read_text()
    trainer.train()
    assert load_model("fine").config.block_size == 64


def test_a_fine_tuned_run_goes_on_after_a_kill_without_its_base(text, tmp_path):
    config = FINE.replace(steps=8, dropout=0.2)
    whole = take_up(new_run("whole", config, text, base="tiny"))
    whole.train()
    run = new_run("parts", config, text, base="tiny")
    trainer = take_up(run)
    trainer.watcher.at[5] = trainer.orders.stop
    trainer.train()
    shutil.rmtree(tmp_path / "home" / "data" / "checkpoints" / "tiny")
    resumed = take_up(run)
    resumed.train()
    for name, weight in whole.stepper.gpt.state_dict().items():
        assert torch.equal(resumed.stepper.gpt.state_dict()[name], weight), name


def test_characters_that_the_base_does_not_know_are_named(text, tmp_path):
    run = new_run("fine", FINE, tiny_text(tmp_path, LINES + "Ω and ☃\n", "odd.txt"), base="tiny")
    with pytest.raises(TokenizerError, match=r"'Ω' \(U\+03A9\), '☃' \(U\+2603\)"):
        take_up(run)


def test_a_base_in_half_precision_is_trained_in_full(text, tmp_path):
    export_model("tiny", tmp_path / "half", "bf16")
    trainer = take_up(new_run("fine", FINE, text, base=str(tmp_path / "half")))
    assert {weight.dtype for weight in trainer.stepper.gpt.parameters()} == {torch.float32}
    assert trainer.train().state == "finished"


@pytest.mark.parametrize("family", ["gpt2", "qwen3", "llama"])
def test_a_model_from_elsewhere_can_be_trained_on(family, text, tmp_path):
    transformers = pytest.importorskip("transformers")
    from engine.text.tokenizers import train_tokenizer

    tokenizer = train_tokenizer("bpe", [LINES], 300)
    sizes = {"vocab_size": 320, "tie_word_embeddings": True}  # more rows than the tokenizer has ids
    if family == "gpt2":
        config = transformers.GPT2Config(n_layer=2, n_head=2, n_embd=16, n_positions=32, **sizes)
    else:
        make_config = transformers.Qwen3Config if family == "qwen3" else transformers.LlamaConfig
        config = make_config(
            num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, hidden_size=16, head_dim=12,
            intermediate_size=40, max_position_embeddings=32, rope_theta=5000.0, **sizes,
        )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    tokenizer.save(tmp_path / "theirs")
    run = new_run("fine", FINE.replace(dropout=0.0), text, base=str(tmp_path / "theirs"))
    trainer = take_up(run)
    x = torch.arange(20)[None]
    with torch.no_grad():
        assert (trainer.stepper.gpt(x) - theirs(x).logits).abs().max() < 1e-4
    ended = trainer.train()
    assert ended.vocab_size == tokenizer.vocab_size
    assert run.read_config().training.vocab_size == tokenizer.vocab_size
    log = (run.path / "log.txt").read_text()
    assert f"tokenizer char -> the base's bpe, {tokenizer.vocab_size} ids" in log
    if family != "gpt2":
        assert "the width of a head is 12 (the base's)" in log
        assert "the base of the rotary frequencies is 5,000 (the base's)" in log
    learned = transformers.AutoModelForCausalLM.from_pretrained(catalog.find_checkpoint("fine"), dtype=torch.float32)
    with torch.no_grad():
        assert (learned(x).logits - load_model("fine", "cpu", "fp32").gpt(x)).abs().max() < 1e-4


def test_a_base_that_is_not_there_or_damaged_is_named(text, tmp_path):
    with pytest.raises(ModelNotFoundError, match="tinny"):
        take_up(new_run("fine", FINE, text, base="tinny"))
    (tmp_path / "home" / "data" / "checkpoints" / "tiny" / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="tiny is damaged"):
        take_up(new_run("fine-2", FINE, text, base="tiny"))


def test_every_family_of_ours_is_a_base(text, tmp_path):
    from test_checkpoints import save
    from test_model import make

    for name, shape in CONFIGS.items():
        save(tmp_path / name, make(shape, torch.float32))
        run = new_run(
            name,
            TINY.replace(steps=1, eval_interval=0),
            tiny_text(tmp_path, "ABBA CABBAGE" * 20),
            base=str(tmp_path / name),
        )
        with pytest.raises(TokenizerError, match="' '"):
            take_up(run)
        tiny_text(tmp_path, "ABBACABBAGE" * 20)
        trainer = take_up(run)
        for place, weight in load_model(str(tmp_path / name), "cpu", "fp32").gpt.state_dict().items():
            assert torch.equal(trainer.stepper.gpt.state_dict()[place], weight), place


def test_a_stop_is_obeyed_while_the_text_is_read(text, tmp_path, monkeypatch):
    from engine.text import encoded
    from engine.training.setup import prepare

    monkeypatch.setattr(encoded, "IN_MEMORY_BYTES", {"char": 0})
    told = []

    def report(activity, share):
        told.append(activity)
        if activity == "encoding":
            raise Stopped

    with pytest.raises(Stopped):
        prepare(new_run("demo", TINY, text), report)
    assert "reading" in told
