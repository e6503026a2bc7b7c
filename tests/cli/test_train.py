"""`train`: a text becomes a model that goes by the run's name; what is wrong is said before anything is written."""

from __future__ import annotations

import json
import signal

import pytest
from rich.console import Console

from engine.config import TrainConfig
from engine.errors import InvalidSettingError
from engine.presets import PRESETS
from engine.training.events import Began, Ended, Evaluating, Sampled, Stepped
from engine.training.run import Metrics, Sample
from minigpt_tui.cli.train import read_settings
from minigpt_tui.cli.training_view import LiveView, clock

TEXT = "The fox went to the river, and the river said: who goes there?\n" * 40
QUICK = ("n_layer=1", "n_embd=16", "n_head=2", "block_size=16", "batch_size=2", "steps=6", "eval_interval=3",
         "optimizer=adamw", "sample_tokens=5", "precision=fp32")  # fmt: skip


def sets(*words: str) -> list[str]:
    return [part for word in (*QUICK, *words) for part in ("--set", word)]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "river.txt"
    path.write_text(TEXT)
    return path


def test_a_text_becomes_a_model_that_can_be_used_evaluated_and_taken_elsewhere(cli, own_home, text, tmp_path):
    result = cli("train", text, "--name", "demo", *sets())
    assert result.status == 0
    checkpoint = result.out.strip()  # stdout is the path alone
    assert checkpoint.startswith(str(own_home / "data" / "runs" / "demo" / "checkpoints" / "step-"))
    assert "step 3 of 6" in result.err
    assert "val " in result.err
    assert "tok/s" in result.err
    assert result.err.splitlines()[-1] == "try it: minigpt-tui generate --model demo"

    assert cli("generate", "The", "-n", 5, "--seed", 1, "--model", "demo").status == 0
    listed = [json.loads(line) for line in cli("models", "list", "--json").out.splitlines()]
    assert "demo" in [model["name"] for model in listed]

    own = cli("eval", "--model", "demo", "--data", text, "--json")
    assert "validation split" in own.err
    measured = json.loads(own.out)
    assert list(measured) == ["model", "data", "split", "loss", "perplexity", "bits_per_byte", "tokens", "windows"]
    assert (measured["model"], measured["split"]) == ("demo", "val")
    assert measured["loss"] == pytest.approx(next(m for m in listed if m["name"] == "demo")["val_loss"], rel=1e-4)
    assert (
        json.loads(cli("eval", "--model", "demo", "--data", text, "--split", "train", "--json").out)["split"] == "train"
    )

    other = tmp_path / "other.txt"
    other.write_text("The river went to the fox?\n" * 4)
    foreign = cli("eval", "--model", "demo", "--data", other, "--json")
    assert "all of the text" in foreign.err
    assert json.loads(foreign.out)["split"] == "all"
    assert json.loads(foreign.out)["tokens"] == 27 * 4 - 1

    again = cli("train", text, "--name", "demo", *sets())
    assert again.status == 1
    assert again.is_one_error_line
    assert "demo already" in again.err

    exported = cli("models", "export", "demo", "--to", "hf", tmp_path / "to go", "--dtype", "fp16")
    assert exported.status == 0
    assert cli("models", "verify", tmp_path / "to go").status == 0


def test_eval_without_data_takes_the_text_that_the_model_names(cli, own_home, text):
    texts = own_home / "data" / "texts"
    texts.mkdir(parents=True)
    text.rename(texts / "river.txt")
    assert cli("train", "river", *sets()).status == 0
    assert json.loads(cli("eval", "--model", "river", "--json").out)["data"] == "river"
    (texts / "river.txt").unlink()
    gone = cli("eval", "--model", "river")
    assert gone.status == 1
    assert gone.is_one_error_line
    assert "--data" in gone.err


def test_ctrl_c_saves_at_the_step_and_leaves_with_130(shell, text, own_home, tmp_path):
    for number, name in ((signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")):
        script = tmp_path / f"{name}.toml"
        script.write_text("steps = 1000000\nsave_interval = 2\n")
        words = ("train", text, "--name", name, *sets()[:10], "--config", script, *sets("epochs=none", "steps=1000000"))
        run = own_home / "data" / "runs" / name
        result = shell(*words, interrupt_when=(run / "metrics.jsonl").exists, signal_number=number)
        assert result.status == 130
        assert "stopped at step" in result.err
        assert "Traceback" not in result.err
        saved = result.out.strip()
        assert saved.startswith(str(run))
        assert shell("models", "verify", saved).status == 0


def test_settings_come_from_the_preset_then_the_file_then_the_words(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('family = "qwen3"\nsteps = 70\nlearning_rate = 1e-4\nnormalize = ["nfc"]\n')
    config = read_settings("small", file, ("steps=90",))
    assert config == PRESETS["small"].replace(family="qwen3", steps=90, learning_rate=1e-4, normalize=("nfc",))
    assert read_settings("nano", None, ()) == PRESETS["nano"]


def test_the_length_said_last_counts(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("epochs = 2\n")
    assert read_settings("nano", file, ()).epochs == 2
    assert read_settings("nano", file, ("steps=90",)).epochs is None


@pytest.mark.parametrize("content", ["steps = ", "stepz = 3", "steps = 'many'", "steps = 0", "\xff",
                                     "steps = " + "9" * 5000, "normalize = " + "[" * 5000])  # fmt: skip
def test_a_wrong_config_file_is_refused_with_what_is_wrong(content, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_bytes(content.encode("latin1"))
    with pytest.raises(InvalidSettingError):
        read_settings("nano", file, ())


def test_the_help_names_every_setting(cli):
    out = cli("train", "--help").out
    assert [name for name in TrainConfig.__struct_fields__ if f"\n  {name} " not in out] == []


def _metrics(step: int, val_loss: float | None = None) -> Stepped:
    metrics = Metrics(step=step, time=step * 2.0, tokens=step, train_loss=2.5, lr=1.0, grad_norm=1.0,
                      tokens_per_second=1234.0, val_loss=val_loss)  # fmt: skip
    return Stepped(metrics=metrics, best_val_loss=val_loss, best_step=step if val_loss else None)


def test_the_live_display_shows_progress_losses_and_the_sample_as_plain_text():
    view, console = LiveView("demo"), Console(width=80, height=24, force_terminal=False)

    def shown() -> str:
        with console.capture() as capture:
            console.print(view)
        return capture.get()

    assert "demo" in shown()
    began = Began(parameters=3_200_000, vocab_size=66, tokens_per_step=2048, steps=50, train_tokens=9, val_tokens=3,
                  device="cpu", precision="bf16")  # fmt: skip
    view.observe(began)
    assert "0 of 50" in shown()
    view.observe(_metrics(1))
    view.observe(_metrics(20, val_loss=1.75))
    assert "20 of 50" in shown()
    assert "1:00 left" in shown()  # 30 steps of 2 seconds
    assert "loss 2.5000   val 1.7500 (best, step 20)   1,234 tok/s" in shown()
    view.observe(Evaluating(done=1, total=4))
    assert "evaluating  25%" in shown()
    view.observe(Sampled(sample=Sample(step=20, prompt="ab", text="[red]c\x1b[2J\n" + "x" * 4000, seed=1)))
    assert "[red]c␛[2J" in shown()
    assert len(shown().splitlines()) <= 24
    view.observe(Ended(state="finished", step=50, seconds=1, val_loss=1.0, train_loss=1.0, best=None))
    assert "left" not in shown()


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0:00"), (65, "1:05"), (7387, "2:03:07")])
def test_times_read_like_a_clock(seconds, shown):
    assert clock(seconds) == shown
