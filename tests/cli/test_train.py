"""`train`: a text becomes a model that goes by the run's name; what is wrong is said before anything is written."""

from __future__ import annotations

import json
import subprocess
import sys

import psutil
import pytest
from tiny_models import TINY_TEXT
from written_runs import write_run

from engine.config import TrainConfig
from engine.errors import InvalidSettingError
from engine.presets import PRESETS
from engine.training import runs
from minigpt_tui.cli.new_run import Wishes, new_run
from minigpt_tui.cli.training_settings import read_changes, settings_over

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


def test_eval_without_data_takes_the_text_that_the_model_names(cli, own_home, text, trained_here):
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


def test_a_detached_run_prints_its_name_and_is_stopped_from_elsewhere(cli, own_home, text):
    endless = sets("steps=1000000", "eval_interval=100000")
    result = cli("train", text, "--detach", "--json", *endless)
    try:
        started = json.loads(result.out)
        path = own_home / "data" / "runs" / "river"
        assert started == {"name": "river", "path": str(path), "state": "running", "pid": started["pid"]}
        assert psutil.pid_exists(started["pid"])
        assert "runs watch river" in result.err
        assert "runs stop river" in result.err
        again = cli("train", text, "--name", "river", *endless)
        assert (again.status, again.out) == (1, "")
        assert "river already" in again.err
    finally:
        assert cli("runs", "stop", "river").status == 0
    assert cli("models", "verify", "river").status == 0


@pytest.mark.posix
def test_ctrl_c_saves_at_the_step_and_leaves_with_130(shell, text, own_home):
    run = own_home / "data" / "runs" / "demo"
    words = ("train", text, "--name", "demo", *sets("steps=1000000", "eval_interval=1000", "save_interval=2"))
    result = shell(*words, interrupt_when=(run / "metrics.jsonl").exists)
    assert result.status == 130
    assert "stopped at step" in result.err
    assert "Traceback" not in result.err
    saved = result.out.strip()
    assert saved.startswith(str(run))
    assert shell("models", "verify", saved).status == 0
    assert not runs.read_run(run).is_under_way


def test_going_on_from_a_model_keeps_its_shape_and_says_what_changes(cli, own_home, text, tiny_model, trained_here):
    text.write_text(TINY_TEXT)
    result = cli("train", text, "--from", tiny_model, "--set", "steps=2", "--set", "sample_tokens=5", "--name", "on")
    assert result.status == 0, result.err
    config = runs.read_run(own_home / "data" / "runs" / "on").config
    assert config.base == str(tiny_model)
    assert (config.training.n_layer, config.training.n_embd) == (2, 32)
    assert config.training.optimizer == PRESETS["finetune"].optimizer
    assert "the base's" in result.err
    model = json.loads(cli("models", "show", "on", "--json").out)
    assert model["parameters"] == json.loads(cli("models", "show", tiny_model, "--json").out)["parameters"]


def settings(preset, file, *words):
    return settings_over(preset, read_changes(file, words))


def test_settings_come_from_the_preset_then_the_file_then_the_words(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('family = "qwen3"\nsteps = 70\nlearning_rate = 1e-4\nnormalize = ["nfc"]\n')
    config = settings("small", file, "steps=90")
    assert config == PRESETS["small"].replace(family="qwen3", steps=90, learning_rate=1e-4, normalize=("nfc",))
    assert settings("nano", None) == PRESETS["nano"]


def test_the_length_said_last_counts(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("epochs = 2\n")
    assert settings("nano", file).epochs == 2
    assert settings("nano", file, "steps=90").epochs is None


@pytest.mark.parametrize("content", ["steps = ", "stepz = 3", "steps = 'many'", "steps = 0", "\xff",
                                     "steps = " + "9" * 5000, "normalize = " + "[" * 5000])  # fmt: skip
def test_a_wrong_config_file_is_refused_with_what_is_wrong(content, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_bytes(content.encode("latin1"))
    with pytest.raises(InvalidSettingError):
        settings("nano", file)


def test_the_help_names_every_setting(cli):
    out = cli("train", "--help").out
    assert [name for name in TrainConfig.__struct_fields__ if f"\n  {name} " not in out] == []


# What a run is made of


def test_paths_become_absolute_and_names_stay_names(own_home, text, monkeypatch):
    monkeypatch.chdir(text.parent)
    config = new_run(Wishes(texts=("river.txt", "fables"), val="river.txt", column="body", nproc=2, device="cpu"))
    assert config.text.train == (str(text), "fables")
    assert (config.text.val, config.text.test, config.text.column) == (str(text), None, "body")
    assert (config.name, config.nproc, config.device, config.base) == ("river-fables", 2, "cpu", "")
    assert config.training == PRESETS["nano"]
    assert not own_home.exists()


def test_a_taken_name_gets_a_number_unless_it_was_said(own_home, text):
    write_run("river")
    assert new_run(Wishes(texts=(str(text),))).name == "river-2"
    assert new_run(Wishes(texts=(str(text),), name="river")).name == "river"  # which is refused when it is made


def test_another_like_a_run_has_its_text_and_settings_but_what_is_said(own_home, text):
    write_run("demo")
    same = new_run(Wishes(like="demo"))
    assert (same.name, same.text.train, same.training.steps, same.training.dropout) == ("demo-2", ("fables",), 50, 0.25)
    other = new_run(Wishes(like="demo", name="x", texts=(str(text),), assignments=("dropout=0.5",), nproc=3))
    assert (other.name, other.text.train, other.training.dropout, other.nproc) == ("x", (str(text),), 0.5, 3)
    longer = new_run(Wishes(like="demo", val=str(text), assignments=("epochs=2",)))
    assert (longer.text.train, longer.text.val, longer.training.epochs) == (("fables",), str(text), 2.0)


def test_going_on_from_a_model_begins_with_settings_for_that(tiny_model, text):
    config = new_run(Wishes(texts=(str(text),), base="tiny", assignments=("block_size=32", "dropout=0.2")))
    assert config.base == str(tiny_model)
    assert config.training == PRESETS["finetune"].replace(block_size=32, dropout=0.2)
    assert new_run(Wishes(texts=(str(text),), base="tiny", preset="nano")).training == PRESETS["nano"]


@pytest.mark.parametrize("word", ["n_layer=2", "family=gpt2", "tokenizer=byte", "vocab_size=300"])
def test_what_a_model_is_cannot_be_set_when_going_on_from_it(word, cli, tiny_model, own_home, text):
    name = word.partition("=")[0]
    result = cli("train", text, "--from", tiny_model, "--set", word)
    assert result.status == 2
    assert result.is_one_error_line
    assert f"{name} is the model's own" in result.err
    assert not own_home.exists()


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        ([], 2, "missing argument"),
        (["fables", "--json"], 2, "--detach"),
        (["fables", "--nproc", "0"], 2, "--nproc"),
        (["fables", "--nproc", "65"], 2, "--nproc"),
        (["fables", "--preset", "finetun"], 2, "did you mean finetune?"),
        (["fables", "--like", "demo", "--preset", "nano"], 2, "leave out --preset"),
        (["--like", "demi"], 1, "did you mean demo?"),
        (["--like", "demo", "--set", "steps=0"], 2, "steps is 0"),
        (["--like", "demo", "--name", "demo"], 1, "demo already"),
        (["fables", "--from", "tinyy"], 1, "there is no model 'tinyy'"),
        (["fables", "nowhere.txt"], 1, "there is no file nowhere.txt"),
        (["fables", "--val", "nowhere.txt"], 1, "there is no file nowhere.txt"),
        (["fables", "--test", "fable"], 1, "did you mean fables?"),
        (["tinyshakespeare"], 1, "data get tinyshakespeare"),
        (["fables", "--name", "a/b"], 1, "cannot name a run"),
        (["fables", "--set", "sample_prompt=\udcff"], 2, "not utf-8"),
        (["\udcff.txt"], 2, "not utf-8"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_no_run(words, status, part, cli, own_home):
    write_run("demo")
    result = cli("train", *words)
    assert result.status == status
    assert result.is_one_error_line
    assert len(result.err.splitlines()) == 1
    assert part in result.err.lower()
    assert [path.name for path in (own_home / "data" / "runs").iterdir()] == ["demo"]


def test_a_run_that_cannot_begin_leaves_nothing_and_torch_is_none_of_the_shell_s(cli, own_home, text):
    text.write_text("hello\n")
    script = (
        "import sys\nfrom minigpt_tui.cli.failures import run\nfrom minigpt_tui.cli.root import root\n"
        f"status = run(root, {['train', str(text), *sets()]!r}, 'minigpt-tui')\n"
        "print(status, sorted({'torch', 'textual'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    *_, error, loaded = done.stderr.splitlines()
    assert (done.stdout, loaded) == ("", "1 []")
    assert error.startswith("error: ")
    assert "longer text" in error
    assert list((own_home / "data" / "runs").iterdir()) == []

    result = cli("train", text, *sets(), "--detach")
    assert (result.status, result.out) == (1, "")
    assert result.is_one_error_line
    assert list((own_home / "data" / "runs").iterdir()) == []
