"""A run that was stopped or killed goes on as if it never had been: the same weights to the bit, each step once."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
import torch
from training_here import TINY, Killed, after_saving, bury, dying, kill, new_run, take_up, tiny_text

from engine import catalog, safe_writing
from engine.checkpoints import load_model
from engine.errors import DataError, InvalidSettingError
from engine.training import control, keeping, launch, setup, state
from engine.training.orders import Orders
from engine.training.run import Metrics, RunDirectory
from engine.training.run_reader import RunReader
from engine.training.state import HISTORY_POINTS, EpochSums, History


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))
    return tiny_text(tmp_path)


def weights_of(trainer):
    return trainer.stepper.gpt.state_dict()


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, weight in one.items():
        assert torch.equal(weight, other[name]), name


def assert_complete(run, steps):
    """Each step has one line, for all who read them."""
    run = RunDirectory(run.path)
    lines = run.read_metrics()
    assert [line.step for line in lines] == list(range(1, steps + 1))
    assert [line.time for line in lines] == sorted(line.time for line in lines)
    samples = [sample.step for sample in run.read_samples()]
    assert samples == sorted(set(samples))
    reader = RunReader(run.path)
    reader.read_all()
    assert list(reader.curves.steps) == list(range(1, steps + 1))
    assert [sample.step for sample in reader.samples] == samples
    return lines


def without_time(lines):
    return [msgspec.structs.replace(line, time=0.0, tokens_per_second=0.0) for line in lines]


def whole_run(name, config, text):
    """A run that nothing interrupts, and its weights."""
    trainer = take_up(new_run(name, config, text))
    trainer.train()
    return trainer


def killed_at(run, step):
    """Take a run up and kill it once the line of a step is written."""
    trainer = take_up(run)
    trainer.watcher.at[step] = kill
    with dying(trainer):
        trainer.train()
    return trainer


SHAPES = {
    "nanochat-muon": {"family": "nanochat", "optimizer": "muon"},
    "qwen3-muon": {"family": "qwen3", "optimizer": "muon", "n_kv_head": 1},
    "llama-muon": {"family": "llama", "optimizer": "muon", "tie_head": True},
    "gpt2-adamw": {"family": "gpt2", "optimizer": "adamw", "tie_head": True},
    "gpt2-muon": {"family": "gpt2", "optimizer": "muon", "bias": True, "positions": "sinusoidal"},
    "gpt2-mean": {"family": "gpt2", "optimizer": "adamw", "tie_head": True, "average": 0.3},
    "nanochat-mean": {"average": 0.5, "momentum_warmup_steps": 7, "embedding_learning_rate": 0.1},
    "nanochat-adamw-bf16": {"family": "nanochat", "optimizer": "adamw", "precision": "bf16"},
}
HARD = TINY.replace(dropout=0.2, accumulation=2, steps=10, eval_interval=3, weight_decay=0.1, tokenizer="byte")


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_resumed_run_ends_in_the_weights_of_one_that_was_never_interrupted(shape, text):
    config = HARD.replace(**shape)
    whole = whole_run("whole", config, text)
    run = new_run("parts", config, text)
    stopped = take_up(run)
    stopped.watcher.at[4] = stopped.orders.stop
    assert stopped.train().step == 4
    killed_at(run, 8)  # its last checkpoint is of step 6
    resumed = take_up(run)
    assert resumed.progress.step == 6
    ended = resumed.train()
    assert_same(weights_of(resumed), weights_of(whole))
    assert without_time(assert_complete(run, 10)) == without_time(whole.run.read_metrics())
    assert ended.best_val_loss == whole.run.read_status().best_val_loss
    one, other = (catalog.read_record(trainer.run.checkpoint(10)) for trainer in (whole, resumed))
    assert one.history == other.history
    assert one.files["model.safetensors"] == other.files["model.safetensors"]
    assert one.files[catalog.STATE] != ""
    assert resumed.watcher.told == ["begin 6", "end finished 10"]


def test_a_run_without_a_checkpoint_begins_again(text):
    whole = whole_run("whole", TINY, text)
    run = new_run("parts", TINY, text)
    killed_at(run, 3)
    resumed = take_up(run)
    assert resumed.progress.step == 0
    resumed.train()
    assert_same(weights_of(resumed), weights_of(whole))
    assert_complete(run, 12)


def test_a_bpe_run_goes_on_with_the_tokenizer_that_it_began_with(text):
    config = TINY.replace(tokenizer="bpe", vocab_size=300, steps=6, eval_interval=2, block_size=8)
    whole = whole_run("whole", config, text)
    run = new_run("parts", config, text)
    killed_at(run, 5)
    resumed = take_up(run)
    assert resumed.progress.step == 4
    resumed.train()
    assert_same(weights_of(resumed), weights_of(whole))


def test_a_stop_within_an_evaluation_loses_neither_the_step_nor_the_evaluation(text, monkeypatch):
    whole = whole_run("whole", TINY, text)
    run = new_run("parts", TINY, text)
    trainer = take_up(run)
    original = trainer.examiner.loss

    def stopped_within(*args, **options):
        if trainer.progress.step == 8:
            trainer.orders.stop()
        return original(*args, **options)

    trainer.examiner.loss = stopped_within
    ended = trainer.train()
    assert (ended.state, ended.step, ended.best_step) == ("stopped", 8, 4)
    lines = RunDirectory(run.path).read_metrics()
    assert (lines[-1].step, lines[-1].val_loss) == (8, None)  # the step is told, without what it was not evaluated at
    resumed = take_up(run)
    resumed.train()
    assert_same(weights_of(resumed), weights_of(whole))
    assert without_time(assert_complete(run, 12)) == without_time(whole.run.read_metrics())
    assert [s.text for s in run.read_samples()] == [s.text for s in whole.run.read_samples()]
    assert resumed.watcher.told[0] == "begin 7"


def test_a_stop_within_a_sample_writes_the_sample_when_the_run_goes_on(text):
    whole = whole_run("whole", TINY, text)
    run = new_run("parts", TINY, text)
    trainer = take_up(run)
    trainer.watcher.at[8] = trainer.orders.stop  # the line of an evaluated step comes before its sample
    assert trainer.train().step == 8
    assert [sample.step for sample in run.read_samples()] == [4]
    resumed = take_up(run)
    resumed.train()
    assert without_time(assert_complete(run, 12)) == without_time(whole.run.read_metrics())
    assert run.read_samples() == whole.run.read_samples()
    assert resumed.progress.since_best == whole.progress.since_best
    assert_same(weights_of(resumed), weights_of(whole))


def test_patience_counts_on_through_a_kill(text):
    config = TINY.replace(steps=400, eval_interval=2, patience=2, learning_rate=0.3, muon_learning_rate=0.3)
    whole = whole_run("whole", config, text)
    last = whole.progress.step
    assert last < 400
    run = new_run("parts", config, text)
    killed_at(run, last - 1)
    resumed = take_up(run)
    resumed.train()
    assert resumed.progress.step == last
    again = take_up(run)  # it is over
    assert again.train().state == "finished"
    assert again.progress.step == last
    assert "2 evaluations without a gain: it goes on with patience=0" in (run.path / "log.txt").read_text()


# What is on disk when a process dies


def moments(monkeypatch):
    """Everything that puts something on the disk while a checkpoint is saved and others go, as it is called."""
    for module, name in (
        (state.safetensors.torch, "save_file"), (catalog, "hash_file"), (safe_writing, "sync"), (Path, "rename"),
        (Path, "replace"), (safe_writing, "_exchange"), (shutil, "rmtree"), (keeping, "drop_training"),
    ):  # fmt: skip
        yield module, name, getattr(module, name)


def test_a_kill_at_any_write_of_a_checkpoint_loses_nothing(text, monkeypatch):
    config = TINY.replace(steps=9, eval_interval=3, sample_interval=100)
    whole = whole_run("whole", config, text)
    before = new_run("before", config, text)
    killed_at(before, 8)  # 3 and 6 are saved
    number, survived = 0, 0
    while True:
        run = RunDirectory(before.path.with_name(f"killed-{number}"))
        shutil.copytree(before.path, run.path)
        trainer, calls, is_saving = take_up(run), [0], [False]
        save = trainer.keeper.save

        def saving(*args, save=save, is_saving=is_saving):
            is_saving[0] = True
            path = save(*args)
            is_saving[0] = False
            return path

        trainer.keeper.save = saving
        with monkeypatch.context() as patch:
            for module, name, original in list(moments(monkeypatch)):

                def counted(*args, original=original, calls=calls, is_saving=is_saving, last=number + 1, **options):
                    if is_saving[0]:
                        calls[0] += 1
                        if calls[0] == last:
                            kill()
                    return original(*args, **options)

                patch.setattr(module, name, counted)
            try:
                trainer.train()
                break
            except Killed:
                bury(trainer)
                survived += 1
        assert all(catalog.verify_checkpoint(path) == [] for path in catalog.run_checkpoints(run.path))
        assert keeping.resume_point(run, pytest.fail).name in ("step-6", "step-9")
        if number % 5:
            keeping.sweep(run)
        else:
            resumed = take_up(run)
            resumed.train()
            assert_same(weights_of(resumed), weights_of(whole))
            assert_complete(run, 9)
        left = [path.name for folder in (run.path, run.path / "checkpoints") for path in folder.glob(".*")]
        assert left == []
        shutil.rmtree(run.path)
        number += 1
    assert survived > 15


@pytest.mark.parametrize("line", [b'{"step":9,"time":0.', b"{", b'{"resumed_fr', b""])
def test_a_torn_line_of_metrics_is_dropped(text, line):
    run = new_run("demo", TINY, text)
    killed_at(run, 9)
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(line)
    with (run.path / "samples.jsonl").open("ab") as file:
        file.write(line)
    take_up(run).train()
    assert_complete(run, 12)


@pytest.mark.parametrize("damaged", ["model.safetensors", catalog.STATE, "minigpt.json", "tokenizer.json"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(text, damaged):
    whole = whole_run("whole", TINY, text)
    run = new_run("parts", TINY, text)
    killed_at(run, 9)
    (run.checkpoint(8) / damaged).write_bytes(b"damaged")
    resumed = take_up(run)
    assert resumed.progress.step == 4
    assert "the checkpoint step-8 is damaged" in (run.path / "log.txt").read_text()
    resumed.train()
    assert_same(weights_of(resumed), weights_of(whole))
    assert_complete(run, 12)
    assert all(catalog.verify_checkpoint(path) == [] for path in catalog.run_checkpoints(run.path))


def test_a_run_that_is_killed_while_it_ends_ends_without_another_step(text, monkeypatch):
    config = TINY.replace(eval_tokens=32)
    whole = whole_run("whole", config, text)
    run = new_run("parts", config, text)
    trainer = take_up(run)
    write_record, count = keeping.write_record, []

    def killing(path, record):
        count.append(path)
        if len(count) == 2:
            kill()
        write_record(path, record)

    with monkeypatch.context() as patch:
        patch.setattr(keeping, "write_record", killing)
        with dying(trainer):
            trainer.train()
    resumed = take_up(run)
    ended = resumed.train()
    assert resumed.watcher.lines == []
    told = whole.run.read_status()
    assert (ended.state, ended.best_step, ended.best_val_loss) == ("finished", told.best_step, told.best_val_loss)
    for step in (8, 12):
        one, other = (catalog.read_record(it.checkpoint(step)) for it in (whole.run, run))
        assert (one.losses, one.running_val_loss) == (other.losses, other.running_val_loss)
    assert_complete(run, 12)


# Further than it was meant to go


def test_a_finished_run_can_be_extended_and_learns_on(text, monkeypatch):
    monkeypatch.setattr(launch, "_spawn", lambda *_: None)
    run = new_run("demo", TINY.replace(steps=8, eval_tokens=32), text)
    first = take_up(run).train()
    with pytest.raises(InvalidSettingError, match="finished, at step 8"):
        launch.resume_run("demo")
    launch.resume_run("demo", {"steps": 40})
    trainer = take_up(run)
    assert (trainer.progress.step, trainer.steps) == (8, 40)
    ended = trainer.train()
    assert ended.step == 40
    assert ended.best_val_loss < first.best_val_loss
    assert catalog.find_checkpoint("demo").name == ended.best
    assert_complete(run, 40)
    assert load_model("demo:last").record.step == 40


def test_another_precision_is_chosen_anew_and_the_rest_is_kept(text):
    run = new_run("demo", TINY, text)
    killed_at(run, 9)
    config = run.read_config()
    assert (config.precision, config.threads) == ("fp32", torch.get_num_threads())
    run.write_config(launch.changed(config, {"precision": "bf16"}, 8))
    trainer = take_up(run)
    assert trainer.precision == "bf16"
    trainer.train()
    assert load_model("demo:last").record.training["precision"] == "bf16"


def test_another_optimizer_takes_over_without_a_memory_of_its_own(text):
    run = new_run("demo", TINY, text)
    killed_at(run, 9)
    run.write_config(launch.changed(run.read_config(), {"optimizer": "adamw"}, 8))
    trainer = take_up(run)
    assert len(trainer.stepper.optimizers) == 1
    assert trainer.train().state == "finished"


def test_threads_are_those_that_the_run_began_with(text):
    run = new_run("demo", TINY, text)
    killed_at(run, 5)
    own = torch.get_num_threads()
    run.write_config(msgspec.structs.replace(run.read_config(), threads=own + 1))
    try:
        take_up(run)
        assert torch.get_num_threads() == own + 1
        assert (
            f"{own + 1} threads, as when the run began; this machine would use {own}"
            in (run.path / "log.txt").read_text()
        )
    finally:
        torch.set_num_threads(own)


def test_weights_in_the_state_win_over_the_models_own(text, monkeypatch):
    run = new_run("demo", TINY, text)
    killed_at(run, 5)
    tensors, progress = state.read_state(run.checkpoint(4))
    raw = torch.rand_like(load_model("demo:step-4", "cpu", "fp32").gpt.head.weight)
    monkeypatch.setattr(setup, "read_state", lambda _: (tensors | {"weights.head.weight": raw}, progress))
    weights = weights_of(take_up(run))
    assert torch.equal(weights["head.weight"], raw)
    assert torch.equal(
        weights["embedding.weight"], load_model("demo:step-4", "cpu", "fp32").gpt.state_dict()["embedding.weight"]
    )


# What must not have changed


def test_another_text_is_named_and_not_trained_on(text, tmp_path):
    test = tiny_text(tmp_path, "The river goes.\n" * 9, "test.txt")
    run = new_run("demo", TINY, text, test=test)
    killed_at(run, 5)
    tiny_text(tmp_path, "The river went.\n" * 9, "test.txt")
    with pytest.raises(DataError, match=rf"the test text is no longer what the run began with \({test}\)"):
        take_up(run)
    tiny_text(tmp_path, "The river goes.\n" * 9, "test.txt")
    Path(text).write_text("Σ" + Path(text).read_text()[1:])
    with pytest.raises(DataError, match="the training text is no longer what the run began with") as caught:
        take_up(run)
    assert "start another run" in caught.value.hint
    fresh = new_run("fresh", TINY, text, test=test)
    killed_at(fresh, 2)  # before its first checkpoint
    Path(text).write_text("Ω" + Path(text).read_text()[1:])
    with pytest.raises(DataError, match="the training text is no longer"):
        take_up(fresh)


def test_a_setting_that_a_run_keeps_for_life_is_not_changed_by_hand(text):
    run = new_run("demo", TINY, text)
    killed_at(run, 5)
    config = run.read_config()
    run.write_config(msgspec.structs.replace(config, training=TINY.replace(n_layer=2)))
    with pytest.raises(InvalidSettingError, match=r"n_layer is 2 in config.json, and the checkpoint of step 4"):
        take_up(run)


# Orders


def test_a_checkpoint_that_is_asked_for_is_saved_once(text):
    run = new_run("demo", TINY, text)
    trainer, saved = take_up(run), []
    trainer.watcher.at[2] = lambda: control.request(run.path, "save")

    def ask_again(step, _):
        saved.append(step)
        if step == 8:
            control.request(run.path, "save")

    after_saving(trainer, ask_again)
    trainer.train()
    assert saved == [2, 4, 8, 12]


def test_a_paused_run_waits_saves_and_goes_on_and_its_time_stands_still(text, monkeypatch):
    run = new_run("demo", TINY, text)
    trainer, states = take_up(run), []
    trainer.watcher.at[6] = lambda: control.request(run.path, "pause")

    def sleep(seconds):
        states.append(run.read_status())
        if len(states) == 3:
            control.request(run.path, "save")
        if len(states) == 5:
            control.request(run.path, "resume")
        sleeping(0.1)

    sleeping = launch.time.sleep
    monkeypatch.setattr(launch.time, "sleep", sleep)
    trainer.train()
    assert {status.state for status in states} == {"paused"}
    assert {status.step for status in states} == {6}
    lines = assert_complete(run, 12)
    assert catalog.run_checkpoint(run.path, "step-6") is not None
    assert lines[6].time - lines[5].time < 0.45


def test_a_pause_within_an_evaluation_can_save_and_what_is_saved_goes_on(text, monkeypatch):
    whole = whole_run("whole", TINY, text)
    run = new_run("demo", TINY, text)
    trainer, asked = take_up(run), []
    original = trainer.examiner.loss

    def paused_within(*args, **options):
        if trainer.progress.step == 8 and not asked:
            asked.append("pause")
            control.request(run.path, "pause")
            control.request(run.path, "save")
        return original(*args, **options)

    trainer.examiner.loss = paused_within
    monkeypatch.setattr(launch.time, "sleep", lambda _: kill() if asked else None)
    with dying(trainer):
        trainer.train()
    monkeypatch.undo()
    monkeypatch.setenv("MINIGPT_HOME", str(run.path.parents[2]))
    control.clear(run.path)
    resumed = take_up(run)
    assert (resumed.progress.step, resumed.progress.pending is not None) == (8, True)
    resumed.train()
    assert_same(weights_of(resumed), weights_of(whole))
    assert without_time(assert_complete(run, 12)) == without_time(whole.run.read_metrics())


def test_each_wish_for_a_checkpoint_is_heard_once(tmp_path):
    orders = Orders(tmp_path)
    assert (orders.wanted, orders.take_save()) == ("run", False)
    control.request(tmp_path, "save")
    assert (orders.take_save(), orders.take_save()) == (True, False)
    control.request(tmp_path, "pause")
    assert orders.wanted == "pause"
    orders.stop()
    control.request(tmp_path, "resume")
    assert orders.wanted == "stop"


# What a run remembers of its course


def line(step, loss, val_loss=None):
    return Metrics(
        step=step, time=0.0, tokens=0, train_loss=loss, lr=0.0, grad_norm=0.0, tokens_per_second=0.0, val_loss=val_loss
    )


def test_a_history_is_thinned_and_keeps_means_and_evaluations():
    history = History()
    for step in range(1, 1001):
        history = history.stepped(line(step, float(step), 9.0 if step % 100 == 0 else None))
    points = history.rounded(1000)
    assert HISTORY_POINTS <= len(points) < 2 * HISTORY_POINTS
    assert points[0] == (4, 2.5, None)
    assert [step for step, _, val in points if val is not None] == list(range(100, 1001, 100))
    short = History().stepped(line(1, 2.0)).stepped(line(2, 3.0, 1.5))
    assert short.rounded(2) == [(1, 2.0, None), (2, 3.0, 1.5)]


def test_the_sums_of_an_epoch_know_its_mean_its_lowest_and_its_last_evaluation():
    sums = EpochSums(since=3.0)
    for metrics in (line(1, 3.0), line(2, 1.0, 2.0), line(3, 2.0)):
        sums = sums.stepped(metrics)
    assert (sums.total / sums.count, sums.lowest, sums.val_loss, sums.since) == (2.0, 1.0, 2.0, 3.0)
