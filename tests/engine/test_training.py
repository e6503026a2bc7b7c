"""A run learns, keeps its best and last checkpoints, stops in good order, and leaves a directory to read."""

from __future__ import annotations

import itertools
import json
import math
import time

import msgspec
import pytest
import torch
from conftest import TINY_TEXT
from hypothesis import given
from hypothesis import strategies as st

from engine import catalog
from engine.checkpoints import load_model
from engine.config import TrainConfig
from engine.errors import DataError, RunError, TrainingDivergedError
from engine.evaluation import evaluate, score
from engine.model.gpt import GPT
from engine.presets import PRESETS, SUMMARIES, find_preset
from engine.text.corpus import encode_documents, read_corpus
from engine.training import trainer as trainer_module
from engine.training.events import Began, Ended, Sampled, Saved, Stepped
from engine.training.optimizers import clip_gradients, make_optimizers, set_learning_rate
from engine.training.run import Metrics, RunConfig, RunDirectory, Sample, free_run_name
from engine.training.schedules import learning_rate_share
from engine.training.trainer import Trainer

TINY = TrainConfig(
    n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, steps=12, eval_interval=4, sample_tokens=20,
    precision="fp32", warmup_steps=2, learning_rate=0.02,
)  # fmt: skip


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "text.txt").write_text(TINY_TEXT)
    return read_corpus(tmp_path / "text.txt")


@pytest.fixture
def start(corpus, tmp_path, monkeypatch):
    """Start a trainer in a home of its own, and gather what it tells."""
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))

    def make(name="demo", config=TINY, text=corpus):
        run = RunDirectory.create(RunConfig(name=name, created=time.time(), training=config))
        events = []
        return Trainer(config, text, run, events.append, device="cpu"), run, events

    return make


def kinds(events, kind):
    return [event for event in events if isinstance(event, kind)]


def test_a_run_learns_and_leaves_a_model_that_loads(start):
    trainer, _, events = start()
    ended = trainer.train()
    assert ended.state == "finished"
    assert ended.val_loss < math.log(trainer.tokenizer.vocab_size) - 0.5
    loaded = load_model("demo")
    assert loaded.record.step == 12
    assert loaded.record.losses["val"] == ended.val_loss
    assert loaded.record.data["sha256"] == trainer.corpus.sha256
    assert loaded.record.training["n_embd"] == 16
    again = evaluate(loaded.gpt, loaded.tokenizer, encode_documents(loaded.tokenizer, trainer.corpus.val))
    assert again.loss == pytest.approx(ended.val_loss, abs=1e-6)
    assert isinstance(events[0], Began)
    assert events[0].parameters == loaded.parameters
    assert events[-1] == ended
    assert len(kinds(events, Saved)) == len(kinds(events, Sampled)) == 3


def test_its_directory_tells_the_whole_run(start):
    trainer, run, _ = start()
    ended = trainer.train()
    metrics = run.read_metrics()
    assert [line.step for line in metrics] == list(range(1, 13))
    assert [line.step for line in metrics if line.val_loss is not None] == [4, 8, 12]
    assert metrics[-1].tokens == 12 * 4 * 16
    keys = set(json.loads((run.path / "metrics.jsonl").read_text().splitlines()[-1]))
    assert keys == {
        "step", "time", "tokens", "train_loss", "lr", "grad_norm", "tokens_per_second", "val_loss",
    }  # fmt: skip
    status = run.read_status()
    assert (status.state, status.step, status.steps) == ("finished", 12, 12)
    assert status.best_val_loss == ended.val_loss
    assert [sample.step for sample in run.read_samples()] == [4, 8, 12]
    assert run.read_config().training == TINY
    assert "finished at step 12" in (run.path / "log.txt").read_text()


def test_the_best_and_the_last_checkpoints_are_kept(start):
    trainer, run, _ = start(config=TINY.replace(steps=30, eval_interval=3))
    trainer.train()
    kept = {path.name for path in catalog.run_checkpoints(run.path)}
    assert {"step-27", "step-30"} <= kept
    assert f"step-{trainer.best[1]}" in kept
    assert len(kept) <= 3
    assert not any(path.name.startswith(".") for path in (run.path / "checkpoints").iterdir())


def test_the_same_seed_trains_the_same_weights_with_dropout_and_accumulation(start):
    config = TINY.replace(dropout=0.2, accumulation=2, steps=4)
    weights = []
    for name in ("one", "two"):
        torch.manual_seed(len(weights))  # what else draws numbers in the process must not matter
        trainer, _, _ = start(name, config)
        trainer.train()
        weights.append(trainer.gpt.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_accumulation_changes_the_memory_and_not_the_step(start):
    whole, _, _ = start("whole", TINY.replace(batch_size=8, accumulation=1, steps=3))
    parts, _, _ = start("parts", TINY.replace(batch_size=2, accumulation=4, steps=3))
    whole.train(), parts.train()
    for one, other in zip(whole.metrics, parts.metrics, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, abs=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "nanochat", "qwen3"])
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_every_family_learns_with_every_optimizer(start, family, optimizer):
    trainer, _, _ = start(config=TINY.replace(family=family, optimizer=optimizer, steps=25, eval_interval=0))
    trainer.train()
    assert trainer.metrics[-1].train_loss < trainer.metrics[0].train_loss - 0.3


def test_a_stopped_run_saves_where_it_is(start):
    trainer, run, events = start(config=TINY.replace(steps=1000, eval_interval=0))
    trainer.observer = lambda event: (
        events.append(event),
        trainer.stop() if isinstance(event, Stepped) and event.metrics.step == 5 else None,
    )
    ended = trainer.train()
    assert ended.state == "stopped"
    assert ended.step == 6
    assert load_model("demo").record.step == 6
    assert run.read_status().state == "stopped"
    assert [line.step for line in run.read_metrics()] == [1, 2, 3, 4, 5, 6]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(start, monkeypatch):
    trainer, run, _ = start()
    original = GPT.loss

    def poisoned(self, *args, **kwargs):
        loss = original(self, *args, **kwargs)
        return loss * float("nan") if self.training and trainer.step == 6 else loss

    monkeypatch.setattr(GPT, "loss", poisoned)
    with pytest.raises(TrainingDivergedError, match=r"nan at step 7; the checkpoint of step 4 is kept.*lower"):
        trainer.train()
    assert run.read_status().state == "crashed"
    assert "nan" in run.read_status().reason
    loaded = load_model("demo")
    assert loaded.record.step == 4
    assert all(torch.isfinite(weight).all() for weight in loaded.gpt.parameters())


def test_a_full_disk_ends_the_run_with_the_reason_and_keeps_what_was_saved(start, monkeypatch):
    trainer, run, _ = start()
    original = trainer_module.save_checkpoint

    def full(path, *args, **kwargs):
        if path.name == "step-8":
            raise OSError(28, "No space left on device")
        return original(path, *args, **kwargs)

    monkeypatch.setattr(trainer_module, "save_checkpoint", full)
    with pytest.raises(OSError, match="No space left"):
        trainer.train()
    assert "No space left" in run.read_status().reason
    assert load_model("demo").record.step == 4


def test_patience_ends_a_run_that_no_longer_gains(start):
    trainer, _, _ = start(config=TINY.replace(steps=60, eval_interval=2, patience=2, learning_rate=1e-9,
                                              muon_learning_rate=1e-9))  # fmt: skip
    trainer.train()
    assert trainer.step < 60


def test_epochs_are_passes_over_the_text(start):
    trainer, _, _ = start(config=TINY.replace(epochs=2.0, steps=7))
    assert trainer.steps == round(2 * trainer.batches.windows_per_epoch / 4)


def test_a_text_shorter_than_a_block_is_refused(start, tmp_path):
    (tmp_path / "short.txt").write_text("too short")
    with pytest.raises(DataError, match="one window needs 17"):
        start(text=read_corpus(tmp_path / "short.txt"))


def test_a_run_has_one_name(start):
    start("demo")
    with pytest.raises(RunError, match="there is a run demo already"):
        start("demo")
    assert free_run_name("demo") == "demo-2"
    assert free_run_name("../a b") == "a-b"
    with pytest.raises(RunError, match="cannot name a run"):
        start("../demo")


def test_a_torn_last_line_is_left_out(start):
    _, run, _ = start()
    metrics = Metrics(step=1, time=0.1, tokens=4, train_loss=1.0, lr=0.1, grad_norm=1.0, tokens_per_second=10.0)
    run.append_metrics(metrics)
    run.append_sample(Sample(step=1, prompt="", text="a\nb", seed=0))
    run.close()
    line = msgspec.json.encode(msgspec.structs.replace(metrics, step=2))
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(line[: len(line) // 2])
    assert run.read_metrics() == [metrics]
    assert run.read_samples()[0].text == "a\nb"


# Optimizers and schedules


def test_muon_moves_the_blocks_matrices_and_adamw_the_rest():
    gpt = GPT(TINY.replace(family="gpt2", bias=True, weight_decay=0.1).model_config(30))
    adamw, muon = make_optimizers(gpt, TINY.replace(weight_decay=0.1))
    names = {id(weight): name for name, weight in gpt.named_parameters()}
    moved = {names[id(weight)] for group in muon.param_groups for weight in group["params"]}
    assert moved == {name for name in names.values() if name.startswith("blocks.") and name.endswith("weight")
                     and "norm" not in name}  # fmt: skip
    for group in adamw.param_groups:
        for weight in group["params"]:
            assert (group["weight_decay"] > 0) == (weight.ndim >= 2)
    everything = moved | {names[id(weight)] for group in adamw.param_groups for weight in group["params"]}
    assert everything == set(names.values())
    set_learning_rate([adamw, muon], 0.5)
    assert muon.param_groups[0]["lr"] == TINY.muon_learning_rate / 2


def test_gradients_are_clipped_to_the_limit():
    gpt = GPT(TINY.model_config(30))
    gpt.initialize(torch.Generator().manual_seed(0))
    x = torch.zeros(2, 8, dtype=torch.long)
    (gpt.loss(x, x) * 100).backward()
    norm = clip_gradients(gpt, 0.0)
    assert clip_gradients(gpt, 1.0) == pytest.approx(norm)
    assert clip_gradients(gpt, 0.0) == pytest.approx(1.0, rel=1e-4)


@given(
    steps=st.integers(1, 500), warmup=st.integers(0, 600), schedule=st.sampled_from(["linear", "cosine"]),
    low=st.floats(0, 1), until=st.floats(0, 1),
)  # fmt: skip
def test_the_learning_rate_rises_then_falls_and_stays_in_range(steps, warmup, schedule, low, until):
    config = TINY.replace(warmup_steps=warmup, schedule=schedule, min_learning_rate=low, constant_until=until)
    shares = [learning_rate_share(config, step, steps) for step in range(steps)]
    assert all(0 <= share <= 1 for share in shares)
    assert all(a < b for a, b in itertools.pairwise(shares[:warmup]))
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(shares[warmup:]))


def test_the_schedules_have_their_shapes():
    linear = TINY.replace(warmup_steps=0, constant_until=0.4, min_learning_rate=0.0)
    assert learning_rate_share(linear, 39, 100) == 1.0
    assert learning_rate_share(linear, 70, 100) == pytest.approx(0.5)
    cosine = TINY.replace(warmup_steps=0, schedule="cosine", min_learning_rate=0.1)
    assert learning_rate_share(cosine, 50, 100) == pytest.approx(0.55)


def test_presets_are_named_and_a_near_miss_is_helped():
    assert set(PRESETS) == set(SUMMARIES)
    for name, config in PRESETS.items():
        GPT(config.model_config(65))
        assert find_preset(name) == config
    with pytest.raises(ValueError, match="did you mean small"):
        find_preset("smal")


# Evaluation


def test_the_loss_is_the_mean_over_every_token_but_the_first(tiny_model):
    model = load_model("tiny")
    tokens = encode_documents(model.tokenizer, [TINY_TEXT])[:201]
    found = evaluate(model.gpt, model.tokenizer, tokens)
    total = 0.0
    for start in range(0, 200, 64):
        window = torch.from_numpy(tokens[start : min(start + 65, 201)].astype("int64"))
        logprobs = model.gpt(window[None, :-1])[0].log_softmax(-1)
        total -= sum(float(logprobs[i, window[i + 1]]) for i in range(len(window) - 1))
    assert found.loss == pytest.approx(total / 200, abs=1e-5)
    assert found.perplexity == pytest.approx(math.exp(found.loss))
    assert found.bits_per_byte == pytest.approx(found.loss / math.log(2))  # one byte to a character here
    assert (found.tokens, found.windows) == (200, 4)


def test_evaluating_changes_nothing(tiny_model):
    model = load_model("tiny")
    model.gpt.train()
    tokens = encode_documents(model.tokenizer, [TINY_TEXT])
    state = torch.random.get_rng_state()
    assert evaluate(model.gpt, model.tokenizer, tokens) == evaluate(model.gpt, model.tokenizer, tokens)
    assert model.gpt.training
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_score_tells_each_tokens_share(tiny_model):
    model = load_model("tiny")
    text = "The fox went to the river, ☃ and " * 6
    found = score(model, text)
    assert found.left_out == "☃"
    known = text.replace("☃", "")
    assert "".join(token.text for token in found.tokens) == known[1:]
    assert found.loss == pytest.approx(-sum(t.logprob for t in found.tokens) / len(found.tokens))
    ids = model.tokenizer.encode(known)
    logits = model.gpt(torch.tensor([ids[:64]]))[0]
    for place in (0, 5, 62):
        token, logprobs = ids[place + 1], logits[place].log_softmax(-1)
        assert found.tokens[place].logprob == pytest.approx(float(logprobs[token]), abs=1e-5)
        assert found.tokens[place].rank == int((logprobs > logprobs[token]).sum()) + 1
    with pytest.raises(DataError, match="too short"):
        score(model, "T")


def test_ended_events_are_plain_data():
    assert msgspec.json.decode(msgspec.json.encode(Metrics(step=1, time=0.0, tokens=1, train_loss=1.0, lr=1.0,
        grad_norm=0.0, tokens_per_second=1.0)), type=Metrics).val_loss is None  # fmt: skip
    assert Ended(state="finished", step=1, seconds=1.0, val_loss=None, train_loss=None, best=None).best is None
