"""A run learns, keeps its best and last checkpoints, stops in good order, and leaves a directory to read."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import resource
import shutil
import time
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import TINY_TEXT

from engine import catalog, evaluation, folders
from engine.checkpoints import load_model
from engine.config import TrainConfig
from engine.errors import CheckpointError, DataError, InvalidSettingError, RunError, TrainingDivergedError
from engine.evaluation import evaluate, score
from engine.model.gpt import GPT
from engine.presets import PRESETS, SUMMARIES, find_preset
from engine.text.batches import Batches, paragraph_starts
from engine.text.corpus import encode_documents, read_corpus
from engine.training import precision
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


@torch.no_grad()
def spoil(trainer):
    """Make the model worse than it began."""
    trainer.gpt.head.weight.normal_(0.0, 5.0)


def when(trainer, events, does, act):
    """Gather the events, and `act` on each for which `does` is true."""
    trainer.observer = lambda event: (events.append(event), act() if does(event) else None)


def val_loss(trainer, path, **limit):
    model = load_model(str(path))
    return evaluate(model.gpt, model.tokenizer, trainer.val_tokens, **limit).loss


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


def test_the_best_and_the_last_two_checkpoints_are_kept(start):
    trainer, run, events = start(config=TINY.replace(steps=20))
    when(trainer, events, lambda event: isinstance(event, Saved), lambda: spoil(trainer))
    ended = trainer.train()
    assert [path.name for path in catalog.run_checkpoints(run.path)] == ["step-4", "step-16", "step-20"]
    assert ended.best == run.checkpoint(4) == catalog.find_checkpoint("demo")
    assert run.read_status().best_step == 4
    assert not any(path.name.startswith(".") for path in (run.path / "checkpoints").iterdir())


def test_a_new_best_is_saved_whenever_it_is_found(start):
    trainer, run, events = start(config=TINY.replace(steps=14, eval_interval=2, save_interval=5))
    when(trainer, events, lambda event: isinstance(event, Saved) and event.step == 2, lambda: spoil(trainer))
    ended = trainer.train()
    assert {saved.step for saved in kinds(events, Saved)} == {2, 5, 10, 14}
    assert [path.name for path in catalog.run_checkpoints(run.path)] == ["step-2", "step-10", "step-14"]
    assert ended.best == run.checkpoint(2) == catalog.find_checkpoint("demo")


def test_checkpoints_come_at_their_interval(start):
    trainer, _, events = start(config=TINY.replace(steps=10, eval_interval=0, save_interval=3))
    trainer.train()
    assert [saved.step for saved in kinds(events, Saved)] == [3, 6, 9, 10]


@pytest.mark.parametrize("spoilt_after", [4, 8, 99])
def test_the_best_that_a_run_tells_is_the_one_that_goes_by_its_name(start, spoilt_after):
    trainer, run, events = start(config=TINY.replace(eval_tokens=32))
    when(trainer, events, lambda event: isinstance(event, Saved) and event.step == spoilt_after, lambda: spoil(trainer))
    ended = trainer.train()
    paths = catalog.run_checkpoints(run.path)
    assert len(paths) >= 2
    whole = {path: val_loss(trainer, path) for path in paths}
    for path, loss in whole.items():  # of the whole split, so that they can be compared
        assert catalog.read_record(path).losses["val"] == pytest.approx(loss, abs=1e-6)
    assert ended.best == min(whole, key=whole.get) == catalog.find_checkpoint("demo")
    assert ended.val_loss == pytest.approx(whole[ended.best], abs=1e-6)
    assert ended.val_loss == run.read_status().best_val_loss
    assert ended.best == run.checkpoint(min(spoilt_after, 12))


def test_a_removal_that_is_cut_short_leaves_nothing_that_looks_like_a_checkpoint(start, monkeypatch):
    trainer, run, events = start(config=TINY.replace(steps=16))
    when(trainer, events, lambda event: isinstance(event, Saved), lambda: spoil(trainer))
    original = shutil.rmtree

    def killed(path, *args, **kwargs):
        weights = [file for file in Path(path).rglob("model.safetensors") if "step-8" in file.parts]
        if weights:
            weights[0].unlink()
            raise KeyboardInterrupt
        original(path, *args, **kwargs)

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert [path.name for path in catalog.run_checkpoints(run.path)] == ["step-4", "step-12", "step-16"]
    assert run.read_status().state == "crashed"


def test_a_checkpoint_that_somebody_removed_does_not_stop_a_run(start):
    trainer, run, events = start(config=TINY.replace(steps=16))
    when(trainer, events, lambda event: isinstance(event, Saved) and event.step == 8,
         lambda: [shutil.rmtree(path) for path in catalog.run_checkpoints(run.path)])  # fmt: skip
    ended = trainer.train()
    assert [path.name for path in catalog.run_checkpoints(run.path)] == ["step-12", "step-16"]
    assert ended.best in (run.checkpoint(12), run.checkpoint(16))


def test_a_test_split_is_measured_at_the_end_and_has_no_say(start, tmp_path):
    (tmp_path / "text.txt").write_text(TINY_TEXT)
    (tmp_path / "test.txt").write_text("The river goes slower.\n" * 5)
    text = read_corpus(tmp_path / "text.txt", test=tmp_path / "test.txt")
    trainer, _, _ = start(text=text)
    ended = trainer.train()
    loaded = load_model("demo")
    tokens = encode_documents(loaded.tokenizer, text.test)
    assert ended.test_loss == pytest.approx(evaluate(loaded.gpt, loaded.tokenizer, tokens).loss, abs=1e-6)
    assert loaded.record.losses["test"] == ended.test_loss
    assert loaded.record.losses["val"] == ended.val_loss
    assert loaded.record.data["splits"]["test"] == {"sources": [str(tmp_path / "test.txt")],
                                                    "sha256": catalog.hash_file(tmp_path / "test.txt")}  # fmt: skip
    assert loaded.record.data["test_tokens"] == len(tokens)
    (tmp_path / "test.txt").write_text("T")
    with pytest.raises(DataError, match="the test split has fewer than two tokens"):
        start("short", text=read_corpus(tmp_path / "text.txt", test=tmp_path / "test.txt"))


def test_losses_while_training_are_of_a_part_and_those_at_the_end_of_the_whole(start):
    trainer, run, events = start(config=TINY.replace(steps=8, eval_tokens=48))
    kept = {}
    when(
        trainer, events, lambda event: isinstance(event, Saved), lambda: kept.update({events[-1].step: events[-1].path})
    )
    ended = trainer.train()
    told = {line.step: line.val_loss for line in run.read_metrics() if line.val_loss is not None}
    assert told[4] == pytest.approx(val_loss(trainer, kept[4], limit=48), abs=1e-6)
    assert told[4] != pytest.approx(val_loss(trainer, kept[4]), abs=1e-4)
    assert told[8] == pytest.approx(val_loss(trainer, kept[8]), abs=1e-6)
    model = load_model(str(kept[8]))
    train = evaluate(model.gpt, model.tokenizer, trainer.train_tokens, limit=len(trainer.val_tokens))
    assert ended.train_loss == pytest.approx(train.loss, abs=1e-6)
    assert model.record.losses["train"] == ended.train_loss


def test_metrics_are_on_disk_when_a_checkpoint_is(start):
    trainer, run, events = start(config=TINY.replace(steps=8))
    lines = []
    when(trainer, events, lambda event: isinstance(event, Saved), lambda: lines.append(len(run.read_metrics())))
    trainer.train()
    assert lines == [4, 8]


# The recipe


def plain_training(config, corpus, tokenizer, dtype):
    """Six steps of the recipe written out: losses, norms of the gradients, and the weights they lead to.

    Muon rounds to bf16 within, so that the last bit of a gradient is the third digit of an update: what clips and what
    fuses is the same as in the trainer.
    """
    tokens = encode_documents(tokenizer, corpus.train)
    batches = Batches(tokens, 16, 8, 7, tokenizer.eot_id, starts=paragraph_starts(tokens, tokenizer))
    gpt = GPT(config.model_config(tokenizer.vocab_size))
    gpt.initialize(torch.Generator().manual_seed(7))
    matrices = [weight for name, weight in gpt.named_parameters() if name.startswith("blocks.")]
    groups = [
        {"params": [gpt.head.weight], "weight_decay": 0.1},
        {"params": [gpt.embedding.weight], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True)
    muon = torch.optim.Muon(matrices, momentum=0.95, weight_decay=0.1, adjust_lr_fn="original")
    losses, norms = [], []
    for step, share in enumerate((1 / 3, 2 / 3, 1.0, 1.0, 0.7, 0.4)):  # warm-up, half of all steps, down to a tenth
        adamw.param_groups[0]["lr"] = adamw.param_groups[1]["lr"] = 0.02 * share
        muon.param_groups[0]["lr"] = 0.03 * share
        torch.manual_seed(int(np.random.SeedSequence([7, step]).generate_state(1, np.uint64)[0] >> 1))
        x, y = (torch.from_numpy(ids) for ids in batches.batch(step))
        loss = 0.0
        for half in (slice(0, 4), slice(4, 8)):
            with torch.autocast("cpu", dtype=dtype, enabled=dtype is not torch.float32):
                logits = gpt(x[half]).float()
                part = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y[half].flatten()) / 2
            part.backward()
            loss += part.item()
        losses.append(loss)
        norms.append(math.sqrt(sum(float(weight.grad.double().square().sum()) for weight in gpt.parameters())))
        torch.nn.utils.clip_grad_norm_(gpt.parameters(), 0.55)
        for optimizer in (adamw, muon):
            optimizer.step()
            optimizer.zero_grad()
    return losses, norms, gpt.state_dict()


RECIPE = TINY.replace(
    steps=6, accumulation=2, dropout=0.1, warmup_steps=2, constant_until=0.5, min_learning_rate=0.1, grad_clip=0.55,
    weight_decay=0.1, seed=7, learning_rate=0.02, muon_learning_rate=0.03, eval_interval=2,
)  # fmt: skip


@pytest.mark.parametrize(("named", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_run_is_the_plain_loop_of_its_recipe(start, corpus, named, dtype):
    trainer, _, _ = start(config=RECIPE.replace(precision=named))
    trainer.train()
    losses, norms, weights = plain_training(RECIPE, corpus, trainer.tokenizer, dtype)
    assert [line.train_loss for line in trainer.metrics] == pytest.approx(losses, abs=1e-6)
    assert [line.grad_norm for line in trainer.metrics] == pytest.approx(norms, rel=1e-5)
    assert [line.lr for line in trainer.metrics] == pytest.approx([0.02 / 3, 0.04 / 3, 0.02, 0.02, 0.014, 0.008])
    assert min(norms) < 0.55 < max(norms)
    for name, weight in trainer.gpt.state_dict().items():
        assert torch.allclose(weight, weights[name], rtol=0, atol=1e-6), name
    other = torch.bfloat16 if named == "fp32" else torch.float32
    _, _, weights = plain_training(RECIPE, corpus, trainer.tokenizer, other)
    assert not torch.allclose(trainer.gpt.head.weight, weights["head.weight"], rtol=0, atol=1e-5)


def test_looking_at_a_run_does_not_change_it(start):
    weights = []
    for name, interval in (("watched", 1), ("alone", 0)):
        trainer, _, _ = start(name, RECIPE.replace(eval_interval=interval))
        trainer.train()
        weights.append(trainer.gpt.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


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


@pytest.mark.parametrize("step", [8, 12])
def test_a_validation_loss_that_is_not_finite_stops_the_run_before_it_is_saved(start, step):
    trainer, run, _ = start()

    def burst(*_):
        if trainer.step == step - 1:
            trainer.gpt.head.weight.data.fill_(float("nan"))

    trainer.optimizers[-1].register_step_post_hook(burst)
    with pytest.raises(TrainingDivergedError, match=rf"became nan at step {step}; the checkpoint of step \d is kept"):
        trainer.train()
    assert run.read_status().state == "crashed"
    assert run.read_status().best_val_loss is not None
    assert max(line.step for line in run.read_metrics()) == step - 1
    kept = catalog.run_checkpoints(run.path)
    assert [path.name for path in kept] == ["step-4", "step-8"][: len(kept)]
    for path in kept:
        assert math.isfinite(load_model(str(path)).record.losses["val"])


def test_a_full_disk_ends_the_run_with_the_reason_and_keeps_what_was_saved(start):
    trainer, run, events = start()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        (run.path / "log.txt").write_text("a long log\n" * 1200)
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, limits[1]))  # less than the weights, or the log

    when(trainer, events, lambda event: isinstance(event, Sampled), fill)
    try:
        with pytest.raises(CheckpointError, match="cannot be written"):
            trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    status = run.read_status()
    assert status.state == "crashed"
    assert status.reason
    assert status.step < 12
    assert load_model("demo").record.step == 4
    assert [path.name for path in (run.path / "checkpoints").iterdir()] == ["step-4"]


def test_patience_counts_the_evaluations_since_the_best(start, monkeypatch):
    def train(name, patience):
        config = TINY.replace(steps=14, eval_interval=2, patience=patience, eval_tokens=32)
        trainer, run, _ = start(name, config)
        losses = iter([3.0, 2.0, 2.5, 2.4, 1.0, 1.1])

        def scripted(*args, limit=None, **kwargs):
            found = evaluate(*args, limit=limit, **kwargs)
            return dataclasses.replace(found, loss=next(losses)) if limit == 32 else found

        monkeypatch.setattr(trainer_module, "evaluate", scripted)
        assert trainer.train().state == "finished"
        return [line.step for line in run.read_metrics() if line.val_loss is not None]

    assert train("patient", 3) == [2, 4, 6, 8, 10, 12, 14]  # the third evaluation after 2.0 is a new best
    assert train("hasty", 2) == [2, 4, 6, 8, 9]  # two in vain, then one last step


def test_epochs_are_passes_over_the_text(start, tmp_path):
    (tmp_path / "long.txt").write_text("abcdefghijklmnopqrstuvwxyz\n" * 40)  # 1,080 characters: 972 to train on
    text = read_corpus(tmp_path / "long.txt")  # (972 - 1) // 16 - 1 = 59 windows of 16
    trainer, _, _ = start("three", TINY.replace(epochs=3.0, steps=7), text)
    assert trainer.steps == 44  # 3 x 59 / 4 = 44.25
    trainer, _, _ = start("whole", TINY.replace(epochs=4.0), text)
    assert trainer.steps == 59
    seen = Counter(offset // 16 for step in range(59) for offset in trainer.batches.offsets(step))
    assert sum(seen.values()) == 4 * 59
    assert max(seen.values()) <= 5
    assert start("few", TINY.replace(epochs=1e-9), text)[0].steps == 1
    with pytest.raises(InvalidSettingError, match=r"epochs=1e\+06 .* are 14,750,000 steps|at most"):
        start("long", TINY.replace(epochs=1e6, batch_size=1, block_size=2), text)


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
    for name in ("../demo", "", ".demo", "-demo", "a b", "a/b", "a\n", "\u093f", "\udcff"):
        with pytest.raises(RunError, match="cannot name a run"):
            start(name)


@pytest.mark.parametrize("name", ["हिन्दी", "வணக்கம்", "cafe\u0301", "漢字" * 33, "Ω-1.5+b_2"])
def test_a_run_may_have_a_name_in_any_script(start, name):
    assert free_run_name(name) == name[:60]
    _, run, _ = start(name)
    assert run.path.is_dir()
    assert free_run_name(name) == name[:60] + "-2" * (len(name) <= 60)


def test_a_name_that_is_too_long_for_a_folder_is_refused_or_cut(start):
    for name in ("x" * 101, "漢" * 90):
        with pytest.raises(RunError, match="too long"):
            start(name)
        assert len(free_run_name(name).encode()) <= 180
        start(free_run_name(name))
        start(free_run_name(name))
    assert free_run_name("-- \u093f --") == "run"


def test_a_run_that_cannot_be_made_says_so_and_leaves_nothing(start):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(RunError, match="cannot be made"):
            start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(folders.runs_folder().iterdir()) == []
    folders.runs_folder().rmdir()
    folders.runs_folder().write_text("in the way")
    with pytest.raises(RunError):
        start()


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
    decayed = {names[id(weight)] for group in adamw.param_groups if group["weight_decay"] for weight in group["params"]}
    assert decayed == {"head.weight"}  # neither biases and norms, nor the rows of tables
    everything = moved | {names[id(weight)] for group in adamw.param_groups for weight in group["params"]}
    assert everything == set(names.values())
    set_learning_rate([adamw, muon], 0.5)
    assert muon.param_groups[0]["lr"] == TINY.muon_learning_rate / 2


def test_matrices_decay_and_vectors_and_tables_do_not():
    for family, tie_head in (("gpt2", True), ("qwen3", False), ("nanochat", False)):
        config = TINY.replace(family=family, tie_head=tie_head, optimizer="adamw", weight_decay=0.1)
        gpt = GPT(config.model_config(30))
        (adamw,) = make_optimizers(gpt, config)
        decay = {id(weight): group["weight_decay"] for group in adamw.param_groups for weight in group["params"]}
        kept = {name for name, weight in gpt.named_parameters() if not decay[id(weight)]}
        assert kept == {name for name in dict(gpt.named_parameters())
                        if "norm" in name or name.startswith(("embedding", "positions"))}  # fmt: skip


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


# Precision


def test_what_was_measured_once_is_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path))
    gains = iter([1.4, 1.6, 9.0, 9.0])
    monkeypatch.setattr(precision, "measured_gain", lambda rows, n_embd: next(gains))
    narrow, wide = TINY.replace(precision="auto"), TINY.replace(precision="auto", n_embd=32)
    for _ in range(3):
        assert precision.choose_precision(narrow, "cpu") == "fp32"  # 1.4 is no clear gain
        assert precision.choose_precision(wide, "cpu") == "bf16"
    assert precision.choose_precision(wide.replace(precision="fp32"), "cpu") == "fp32"
    monkeypatch.setattr(precision.torch, "get_num_threads", lambda: 77)
    assert precision.choose_precision(narrow, "cpu") == "bf16"  # with other threads it is another question
    monkeypatch.undo()
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path))
    (file,) = folders.cache_home().iterdir()
    file.write_bytes(b"\xff{")
    monkeypatch.setattr(precision, "measured_gain", lambda rows, n_embd: 9.0)
    assert precision.choose_precision(narrow, "cpu") == "bf16"


def test_a_gain_is_a_ratio_of_times():
    assert 0 < precision.measured_gain(16, 16) < 1000


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


def test_evaluating_changes_nothing_and_drops_nothing_out(start):
    trainer, _, _ = start(config=TINY.replace(dropout=0.5, steps=1))
    tokens, gpt = trainer.train_tokens[:161], trainer.gpt
    with torch.no_grad():
        gpt.head.weight.normal_()
    state = torch.random.get_rng_state()
    found = evaluate(gpt, trainer.tokenizer, tokens)
    assert gpt.training
    assert torch.equal(torch.random.get_rng_state(), state)
    x, y = (torch.from_numpy(part.astype("int64")).view(10, 16) for part in (tokens[:-1], tokens[1:]))
    gpt.eval()
    assert found.loss == pytest.approx(gpt.loss(x, y).item(), abs=1e-5)
    assert evaluate(gpt, trainer.tokenizer, tokens) == found
    assert not gpt.training


@pytest.mark.parametrize(("limit", "read"), [(1, [0]), (64, [0]), (65, [0]), (67, [0, 3]), (100, [0, 2]), (128, [0, 2]),
                                             (199, [0, 2]), (200, [0, 1, 2, 3]), (10**9, [0, 1, 2, 3])])  # fmt: skip
def test_a_limit_takes_windows_evenly_spread(tiny_model, limit, read):
    model = load_model("tiny")
    tokens = encode_documents(model.tokenizer, [TINY_TEXT])[:201]
    done = []
    found = evaluate(model.gpt, model.tokenizer, tokens, limit=limit, progress=lambda *told: done.append(told))
    parts = [tokens[64 * window : min(64 * window + 65, 201)] for window in read]
    losses = [evaluate(model.gpt, model.tokenizer, part) for part in parts]
    predicted = sum(part.tokens for part in losses)
    assert (found.tokens, found.windows) == (predicted, len(read))
    assert found.loss == pytest.approx(sum(part.loss * part.tokens for part in losses) / predicted, abs=1e-5)
    assert found.bits_per_byte == pytest.approx(found.loss / math.log(2))
    assert done[-1] == (predicted, predicted)
    assert evaluate(model.gpt, model.tokenizer, tokens, limit=limit) == found


def test_a_large_vocabulary_is_taken_in_turns(tiny_model, monkeypatch):
    model = load_model("tiny")
    tokens = encode_documents(model.tokenizer, [TINY_TEXT])[:201]
    whole, told = evaluate(model.gpt, model.tokenizer, tokens), score(model, TINY_TEXT[:201])
    most = []
    logits = GPT.logits

    def counted(self, x):
        most.append(x.shape[:-1].numel())
        return logits(self, x)

    monkeypatch.setattr(GPT, "logits", counted)
    monkeypatch.setattr(evaluation, "LOGITS_AT_ONCE", 7 * model.config.vocab_size + 1)
    assert evaluate(model.gpt, model.tokenizer, tokens).loss == pytest.approx(whole.loss, abs=1e-6)
    again = score(model, TINY_TEXT[:201])
    assert max(most) == 7
    assert [token.logprob for token in again.tokens] == pytest.approx(
        [token.logprob for token in told.tokens], abs=1e-5
    )
    assert [token.rank for token in again.tokens] == [token.rank for token in told.tokens]


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


def test_the_last_step_is_told_with_the_best_of_the_whole_run(start):
    """Its own loss is over the whole split, and so is then that of the checkpoints before it."""
    trainer, _, events = start(config=TINY.replace(eval_tokens=48))
    ended = trainer.train()
    last = kinds(events, Stepped)[-1]
    assert last.metrics.step == TINY.steps
    assert last.best_val_loss == ended.val_loss
    assert last.best_val_loss <= last.metrics.val_loss
    assert f"step-{last.best_step}" in ended.best.name
