"""A run learns, stops in good order, and leaves a directory to read."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
from collections import Counter

import msgspec
import numpy as np
import pytest
import torch
from training_here import TINY, after_saving, new_run, take_up, tiny_text

from engine import catalog, folders
from engine.checkpoints import load_model
from engine.errors import DataError, DeviceError, InvalidSettingError, RunError, TrainingDivergedError
from engine.evaluation import evaluate
from engine.model.gpt import GPT
from engine.text.batches import Batches, paragraph_starts
from engine.text.provenance import read_text_record
from engine.training import control, epochs, examining, runs
from engine.training import run as run_module
from engine.training.driving import drive
from engine.training.muon import Muon
from engine.training.orders import Orders
from engine.training.run import Metrics, RunDirectory, Sample
from engine.training.run_names import free_run_name
from engine.training.state import EpochSums
from engine.training.status_writer import StatusWriter


@pytest.fixture
def text(tmp_path, monkeypatch):
    """A tiny text, and a home of the test's own."""
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))
    return tiny_text(tmp_path)


@pytest.fixture
def start(text):
    """Make a run and its trainer."""

    def make(name="demo", config=TINY, **more):
        return take_up(new_run(name, config, more.pop("train", text), **more))

    return make


def driven(run):
    """Drive a run as its process does, and return the status that it leaves."""
    with StatusWriter(run, run.read_status()) as status:
        drive(run, Orders(run.path), status)
    return run.read_status()


def val_loss(trainer, path, **limit):
    model = load_model(str(path))
    return evaluate(model.gpt, model.tokenizer, trainer.text.val, **limit).loss


def test_a_run_learns_and_leaves_a_model_that_loads(start):
    trainer = start()
    ended = trainer.train()
    assert ended.state == "finished"
    assert ended.best_val_loss < math.log(trainer.tokenizer.vocab_size) - 0.5
    loaded = load_model("demo")
    assert ended.best == loaded.path.name
    assert loaded.record.step == 12
    assert loaded.record.losses["val"] == ended.best_val_loss
    assert read_text_record(loaded.record.data) == read_text_record(trainer.text.data)
    assert loaded.record.training["n_embd"] == 16
    assert [step for step, _, _ in loaded.record.history] == list(range(1, 13))
    again = evaluate(loaded.gpt, loaded.tokenizer, trainer.text.val)
    assert again.loss == pytest.approx(ended.best_val_loss, abs=1e-6)
    assert ended.parameters == loaded.parameters
    assert trainer.watcher.told == ["begin 0", "end finished 12"]
    assert trainer.watcher.lines == trainer.run.read_metrics()
    assert trainer.watcher.samples == trainer.run.read_samples()


def test_its_directory_tells_the_whole_run(start):
    trainer = start()
    trainer.train()
    run = trainer.run
    metrics = run.read_metrics()
    assert [line.step for line in metrics] == list(range(1, 13))
    assert [line.step for line in metrics if line.val_loss is not None] == [4, 8, 12]
    assert [line.step for line in metrics if line.train_split_loss is not None] == [4, 8, 12]
    assert metrics[-1].tokens == 12 * 4 * 16
    assert [line.time for line in metrics] == sorted(line.time for line in metrics)
    keys = set(json.loads((run.path / "metrics.jsonl").read_text().splitlines()[-1]))
    assert keys == {
        "step", "time", "tokens", "train_loss", "lr", "grad_norm", "tokens_per_second", "val_loss", "train_split_loss",
    }  # fmt: skip
    status = run.read_status()
    assert (status.state, status.step, status.steps, status.tokens) == ("finished", 12, 12, 768)
    assert (status.train_tokens, status.val_tokens) == (len(trainer.text.train), len(trainer.text.val))
    assert (status.device, status.precision, status.threads) == ("cpu", "fp32", torch.get_num_threads())
    assert (status.tokens_per_step, status.activity, status.kind) == (64, "", "")
    assert [sample.step for sample in run.read_samples()] == [4, 8, 12]
    config = run.read_config()
    assert config.training == TINY
    assert (config.threads, config.precision) == (torch.get_num_threads(), "fp32")
    assert read_text_record(config.data) == read_text_record(trainer.text.data)
    assert "finished at step 12" in (run.path / "log.txt").read_text()


def test_losses_while_training_are_of_a_part_and_those_at_the_end_of_the_whole(start):
    trainer = start(config=TINY.replace(steps=8, eval_tokens=48))
    then = {}
    after_saving(trainer, lambda step, path: then.update({step: val_loss(trainer, path, limit=48)}))
    ended = trainer.train()
    told = {line.step: line.val_loss for line in trainer.run.read_metrics() if line.val_loss is not None}
    assert told == pytest.approx(then, abs=1e-6)
    assert set(told) == {4, 8}
    whole = {path.name: val_loss(trainer, path) for path in catalog.run_checkpoints(trainer.run.path)}
    assert told[8] != pytest.approx(whole["step-8"], abs=1e-4)
    assert ended.best_val_loss == pytest.approx(min(whole.values()), abs=1e-6)
    model = load_model("demo:step-8")
    train = evaluate(model.gpt, model.tokenizer, trainer.text.train, limit=48)
    line = trainer.run.read_metrics()[-1]
    assert line.train_split_loss == model.record.losses["train"] == pytest.approx(train.loss, abs=1e-6)
    assert model.record.losses["val"] == pytest.approx(whole["step-8"], abs=1e-6)
    assert model.record.running_val_loss == told[8]


def test_a_test_split_is_measured_at_the_end_and_has_no_say(start, tmp_path):
    test = tiny_text(tmp_path, "The river goes slower.\n" * 5, "test.txt")
    trainer = start(test=test)
    ended = trainer.train()
    loaded = load_model("demo")
    assert ended.test_loss == pytest.approx(evaluate(loaded.gpt, loaded.tokenizer, trainer.text.test).loss, abs=1e-6)
    assert loaded.record.losses["test"] == ended.test_loss
    assert loaded.record.losses["val"] == ended.best_val_loss
    given = {"sources": [test], "sha256": catalog.hash_file(tmp_path / "test.txt")}
    assert loaded.record.data["splits"]["test"] == given
    assert loaded.record.data["test_tokens"] == len(trainer.text.test)
    tiny_text(tmp_path, "T", "test.txt")
    with pytest.raises(DataError, match="the test split has fewer than two tokens"):
        start("short", test=test)


def test_metrics_and_samples_are_on_disk_when_a_checkpoint_is(start):
    trainer = start(config=TINY.replace(steps=8))
    found = []

    def look(step, path):
        run = RunDirectory(trainer.run.path)
        found.append((step, len(run.read_metrics()), len(run.read_samples())))

    after_saving(trainer, look)
    trainer.train()
    assert found == [(4, 4, 1), (8, 8, 2)]


# The recipe


def plain_training(config, text, tokenizer, dtype):
    """Six steps of the recipe written out: losses, norms of the gradients, and the weights they lead to.

    Muon rounds to bf16 within, so that the last bit of a gradient is the third digit of an update: what clips and what
    fuses is the same as in the trainer.
    """
    batches = Batches(text.train, 16, 8, 7, tokenizer.eot_id, starts=paragraph_starts(text.train, tokenizer))
    gpt = GPT(config.model_config(tokenizer.vocab_size))
    gpt.initialize(torch.Generator().manual_seed(7))
    matrices = [weight for name, weight in gpt.named_parameters() if name.startswith("blocks.")]
    groups = [
        {"params": [gpt.head.weight], "weight_decay": 0.1},
        {"params": [gpt.embedding.weight], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True)
    muon = Muon(matrices, lr=0.03, momentum=0.95, weight_decay=0.1)
    losses, norms = [], []
    for step, share in enumerate((1 / 3, 2 / 3, 1.0, 1.0, 0.7, 0.4)):  # warm-up, half of all steps, down to a tenth
        adamw.param_groups[0]["lr"] = adamw.param_groups[1]["lr"] = 0.02 * share
        muon.param_groups[0]["lr"] = 0.03 * share
        torch.manual_seed(int(np.random.SeedSequence([7, step, 0]).generate_state(1, np.uint64)[0] >> 1))
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
def test_a_run_is_the_plain_loop_of_its_recipe(start, named, dtype):
    trainer = start(config=RECIPE.replace(precision=named))
    trainer.train()
    losses, norms, weights = plain_training(RECIPE, trainer.text, trainer.tokenizer, dtype)
    lines = trainer.run.read_metrics()
    assert [line.train_loss for line in lines] == pytest.approx(losses, abs=1e-6)
    assert [line.grad_norm for line in lines] == pytest.approx(norms, rel=1e-5)
    assert [line.lr for line in lines] == pytest.approx([0.02 / 3, 0.04 / 3, 0.02, 0.02, 0.014, 0.008])
    assert min(norms) < 0.55 < max(norms)
    trained = trainer.stepper.gpt.state_dict()
    for name, weight in trained.items():
        assert torch.allclose(weight, weights[name], rtol=0, atol=1e-6), name
    other = torch.bfloat16 if named == "fp32" else torch.float32
    _, _, weights = plain_training(RECIPE, trainer.text, trainer.tokenizer, other)
    assert not torch.allclose(trained["head.weight"], weights["head.weight"], rtol=0, atol=1e-5)


def test_looking_at_a_run_does_not_change_it(start):
    weights = []
    for name, interval in (("watched", 1), ("alone", 0)):
        torch.manual_seed(len(weights))  # what else draws numbers in the process must not matter
        trainer = start(name, RECIPE.replace(eval_interval=interval))
        trainer.train()
        weights.append(trainer.stepper.gpt.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("family", ["gpt2", "nanochat", "qwen3", "llama"])
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_every_family_learns_with_every_optimizer(start, family, optimizer):
    trainer = start(config=TINY.replace(family=family, optimizer=optimizer, steps=25, eval_interval=0))
    trainer.train()
    lines = trainer.run.read_metrics()
    assert lines[-1].train_loss < lines[0].train_loss - 0.3


# Ends


def test_a_stopped_run_saves_where_it_is_and_does_not_evaluate(start, monkeypatch):
    trainer = start(config=TINY.replace(steps=1000, eval_interval=0))
    trainer.watcher.at[5] = trainer.orders.stop
    monkeypatch.setattr(examining, "evaluate", lambda *_, **__: pytest.fail("a stop does not wait for an evaluation"))
    ended = trainer.train()
    assert (ended.state, ended.step) == ("stopped", 5)
    assert load_model("demo").record.step == 5
    assert trainer.run.read_status().state == "stopped"
    assert trainer.run.read_status().best == "step-5"
    assert [line.step for line in trainer.run.read_metrics()] == [1, 2, 3, 4, 5]
    assert trainer.watcher.told == ["begin 0", "end stopped 5"]


def test_a_run_that_is_stopped_before_its_first_step_leaves_no_checkpoint(text):
    run = new_run("demo", TINY, text)
    control.request(run.path, "stop")
    assert driven(run).state == "stopped"
    assert catalog.run_checkpoints(run.path) == []


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(text, monkeypatch):
    original, calls = GPT.loss, []

    def poisoned(self, *args, **kwargs):
        loss = original(self, *args, **kwargs)
        calls.append(self.training)
        return loss * float("nan") if sum(calls) == 7 else loss

    monkeypatch.setattr(GPT, "loss", poisoned)
    run = new_run("demo", TINY, text)
    status = driven(run)
    assert (status.state, status.step, status.kind) == ("crashed", 6, TrainingDivergedError.__name__)
    assert status.reason == "the loss became nan at step 7; the checkpoint of step 4 is kept"
    assert "lower" in status.hint
    log = (run.path / "log.txt").read_text()
    assert "nan at step 7" in log
    assert "Traceback" not in log
    loaded = load_model("demo")
    assert loaded.record.step == 4
    assert all(torch.isfinite(weight).all() for weight in loaded.gpt.parameters())


@pytest.mark.parametrize("step", [8, 12])
def test_a_validation_loss_that_is_not_finite_stops_the_run_before_it_is_saved(start, step):
    trainer = start()

    def burst(*_):
        if trainer.progress.step == step - 1:
            trainer.stepper.gpt.head.weight.data.fill_(float("nan"))

    trainer.stepper.optimizers[-1].register_step_post_hook(burst)
    with pytest.raises(TrainingDivergedError, match=rf"became nan at step {step}; the checkpoint of step \d is kept"):
        trainer.train()
    trainer.run.close()
    assert max(line.step for line in trainer.run.read_metrics()) == step - 1
    kept = catalog.run_checkpoints(trainer.run.path)
    assert [path.name for path in kept] == ["step-4", "step-8"][: len(kept)]
    for path in kept:
        assert math.isfinite(load_model(str(path)).record.losses["val"])


def test_a_full_disk_ends_the_run_with_the_reason_and_keeps_what_was_saved(text, monkeypatch):
    resource = pytest.importorskip("resource")
    run = new_run("demo", TINY, text)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    append = RunDirectory.append_sample

    def fill(self, sample):
        append(self, sample)
        if sample.step == 8:
            resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, limits[1]))  # less than the weights

    monkeypatch.setattr(RunDirectory, "append_sample", fill)
    try:
        status = driven(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status.state == "crashed"
    assert "cannot be written" in status.reason
    assert load_model("demo").record.step == 4
    assert [path.name for path in (run.path / "checkpoints").iterdir()] == ["step-4"]


def test_a_fault_of_ours_leaves_its_traceback_in_the_log_and_a_line_in_the_status(text, monkeypatch):
    monkeypatch.setattr(GPT, "loss", lambda *_: [0].index(1))
    run = new_run("demo", TINY, text)
    status = driven(run)
    assert (status.state, status.kind) == ("crashed", RunError.__name__)
    assert status.reason == "ValueError: 1 is not in list"
    assert "log.txt" in status.hint
    assert "Traceback" in (run.path / "log.txt").read_text()


def test_a_full_disk_is_the_reason_though_no_new_file_finds_room_for_it(text, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill_the_disk(*_):
        monkeypatch.setattr(run_module, "_replace", full)
        full()

    monkeypatch.setattr("engine.training.driving._train", fill_the_disk)
    run = new_run("demo", TINY, text)
    driven(run)
    info = runs.read_run(run.path)
    assert info.state == "crashed"
    assert info.reason == f"{run.path} cannot be written (No space left on device)"
    assert info.hint == "free some space, then minigpt-tui runs resume demo"


def test_no_status_is_left_half_written(text, monkeypatch):
    run = new_run("demo", TINY, text)
    before = run.read_status()
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "it broke")))
    with pytest.raises(OSError, match="it broke"):
        run.write_status(before)
    assert run.read_status() == before
    assert not list(run.path.glob(".status*"))


def test_a_lack_of_memory_is_said_with_what_helps(text, monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(GPT, "loss", full)
    status = driven(new_run("demo", TINY, text))
    assert (status.state, status.kind, status.reason) == ("crashed", DeviceError.__name__, "out of memory")
    assert "batch_size" in status.hint


def test_patience_counts_the_evaluations_since_the_best(start, monkeypatch):
    def train(name, patience):
        config = TINY.replace(steps=14, eval_interval=2, patience=patience, eval_tokens=32)
        trainer = start(name, config)
        losses = iter([3.0, 2.0, 2.5, 2.4, 1.0, 1.1, 1.2])

        def scripted(gpt, tokenizer, tokens, *, limit=None, **kwargs):
            found = evaluate(gpt, tokenizer, tokens, limit=limit, **kwargs)
            is_validation = limit == 32 and tokens is trainer.text.val
            return dataclasses.replace(found, loss=next(losses)) if is_validation else found

        monkeypatch.setattr(examining, "evaluate", scripted)
        assert trainer.train().state == "finished"
        lines = trainer.run.read_metrics()
        assert [line.step for line in lines] == list(range(1, lines[-1].step + 1))
        return [line.step for line in lines if line.val_loss is not None]

    assert train("patient", 3) == [2, 4, 6, 8, 10, 12, 14]  # the third evaluation after 2.0 is a new best
    assert train("hasty", 2) == [2, 4, 6, 8]  # two in vain, and no step more


# Epochs


def test_epochs_are_passes_over_the_text(start, tmp_path):
    # 1,080 characters: 972 to train on, and (972 - 1) // 16 - 1 = 59 windows of 16
    train = tiny_text(tmp_path, "abcdefghijklmnopqrstuvwxyz\n" * 40, "long.txt")
    trainer = start("three", TINY.replace(epochs=3.0, steps=7), train=train)
    assert trainer.steps == 44  # 3 x 59 / 4 = 44.25
    trainer = start("whole", TINY.replace(epochs=4.0), train=train)
    assert trainer.steps == 59
    seen = Counter(offset // 16 for step in range(59) for offset in trainer.batches.offsets(step))
    assert sum(seen.values()) == 4 * 59
    assert max(seen.values()) <= 5
    assert start("few", TINY.replace(epochs=1e-9), train=train).steps == 1
    with pytest.raises(InvalidSettingError, match=r"epochs=1e\+06 .* are 14,750,000 steps|at most"):
        start("long", TINY.replace(epochs=1e6, batch_size=1, block_size=2), train=train)


def test_each_epoch_is_summed_up_in_the_log(start, tmp_path):
    train = tiny_text(tmp_path, "abcdefghijklmnopqrstuvwxyz\n" * 40, "long.txt")  # 14.75 steps an epoch
    trainer = start(config=TINY.replace(epochs=2.5, eval_interval=10), train=train)
    trainer.train()
    lines, log = trainer.run.read_metrics(), (trainer.run.path / "log.txt").read_text()
    told = [line.split(" ", 2)[2] for line in log.splitlines() if " epoch " in line]
    assert [line.split(":")[0] for line in told] == ["epoch 1 of 2.5", "epoch 2 of 2.5", "epoch 3 of 2.5"]
    for said, first, last in zip(told, (0, 15, 29), (15, 29, 37), strict=True):
        losses = [line.train_loss for line in lines[first:last]]
        assert f"loss {sum(losses) / len(losses):.4f}, best {min(losses):.4f}, 0:0" in said
        assert f"validation loss {[line.val_loss for line in lines[first:last] if line.val_loss][-1]:.4f}" in said
    sums = EpochSums(since=100.0, count=4, total=6.9248, lowest=1.652)
    assert epochs.summary(3, 10.0, sums, 142.0, 2.1e-3) == "epoch 3 of 10: loss 1.7312, best 1.6520, 0:42, lr 2.1e-3"


def test_epochs_of_less_than_a_step_end_with_each_step():
    assert [epochs.ends(step, 0.4, is_last=False) for step in (1, 2, 3)] == [3, 6, 8]
    assert [epochs.ends(step, 3.0, is_last=False) for step in range(1, 7)] == [0, 0, 1, 0, 0, 2]
    assert epochs.ends(7, 3.0, is_last=True) == 3


# Refusals and names


def test_a_text_shorter_than_a_block_is_refused(start, tmp_path):
    with pytest.raises(DataError, match="one window needs 17"):
        start(train=tiny_text(tmp_path, "a text a bit short", "short.txt"))


def test_a_run_has_one_name(text):
    new_run("demo", TINY, text)
    with pytest.raises(RunError, match="there is a run demo already"):
        new_run("demo", TINY, text)
    assert free_run_name("demo") == "demo-2"
    assert free_run_name("../a b") == "a-b"
    for name in ("../demo", "", ".demo", "-demo", "a b", "a/b", "a\n", "\u093f", "\udcff"):
        with pytest.raises(RunError, match="cannot name a run"):
            new_run(name, TINY, text)


@pytest.mark.parametrize("name", ["हिन्दी", "வணக்கம்", "cafe\u0301", "漢字" * 33, "Ω-1.5+b_2"])
def test_a_run_may_have_a_name_in_any_script(text, name):
    assert free_run_name(name) == name[:60]
    assert new_run(name, TINY, text).path.is_dir()
    assert free_run_name(name) == name[:60] + "-2" * (len(name) <= 60)


def test_a_name_that_is_too_long_for_a_folder_is_refused_or_cut(text):
    for name in ("x" * 101, "漢" * 90):
        with pytest.raises(RunError, match="too long"):
            new_run(name, TINY, text)
        assert len(free_run_name(name).encode()) <= 180
        new_run(free_run_name(name), TINY, text)
        new_run(free_run_name(name), TINY, text)
    assert free_run_name("-- \u093f --") == "run"


def test_a_run_that_cannot_be_made_says_so_and_leaves_nothing(text):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(RunError, match="cannot be made"):
            new_run("demo", TINY, text)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(folders.runs_folder().iterdir()) == []
    folders.runs_folder().rmdir()
    folders.runs_folder().write_text("in the way")
    with pytest.raises(RunError):
        new_run("demo", TINY, text)


def test_a_torn_last_line_is_left_out(text):
    run = new_run("demo", TINY, text)
    metrics = Metrics(step=1, time=0.1, tokens=4, train_loss=1.0, lr=0.1, grad_norm=1.0, tokens_per_second=10.0)
    run.append_metrics(metrics)
    run.append_sample(Sample(step=1, prompt="", text="a\nb", seed=0))
    run.close()
    line = msgspec.json.encode(msgspec.structs.replace(metrics, step=2))
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(line[: len(line) // 2])
    assert run.read_metrics() == [metrics]
    assert run.read_samples()[0].text == "a\nb"
