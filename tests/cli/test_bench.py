"""`bench` says what it measured, in which unit and how sure it is, keeps to what was asked for, and loses nothing of it
to ctrl+c. How fast anything is, no test says.
"""

from __future__ import annotations

import json
from typing import get_args

import pytest
import torch
from tiny_models import TINY_TEXT, make_tiny

from engine.benchmarking import session
from engine.benchmarking.figures import MEASURES, UNITS, Figure, LeftOut
from engine.benchmarking.figures import figure as figure_of
from engine.catalog import read_record
from engine.checkpoints import open_checkpoint, save_checkpoint, write_record
from engine.config import Precision
from engine.devices import available_devices
from engine.text.library import open_corpus
from engine.text.provenance import text_record
from engine.training import measure as step_times
from engine.training.estimate import Measurement
from minigpt_tui.cli.bench_table import print_figures

HASTE = ("--seconds", "0.1")


@pytest.fixture
def measure(cli):
    """Measure in haste: the facts, the figures, and what is said."""

    def command(*words):
        result = cli("bench", *HASTE, "--json", *words)
        assert result.status == 0, result.err
        facts, *figures = [json.loads(line) for line in result.out.splitlines()]
        assert facts.pop("kind") == "facts"
        assert all(figure.pop("kind") == "figure" for figure in figures)
        return facts, figures, result.err

    return command


@pytest.fixture
def with_text(own_home, tmp_path):
    """A model that says which text it was trained on, and that text."""
    text = tmp_path / "fox.txt"
    text.write_text(TINY_TEXT)
    path = make_tiny("fox", steps=5)
    record = read_record(path)
    record.data = text_record(open_corpus([text]))
    write_record(path, record)
    return text


def test_every_figure_has_its_unit_its_rounds_and_what_it_is_of(measure, with_text):
    asked = [word for name in MEASURES if name != "training" for word in ("--only", name)]
    facts, figures, said = measure("--model", "fox", "--device", "cpu", *asked)
    assert said == ""
    assert (facts["model"], facts["family"], facts["device"], facts["threads"]) == ("fox", "nanochat", "cpu", 1)
    assert facts["processor"]
    for figure in figures:
        assert figure["unit"] == UNITS[figure["measure"]]
        assert 0 < figure["lowest"] <= figure["median"] <= figure["highest"]
        assert figure["rounds"] >= 1
    found = {(figure["measure"], figure["precision"]): figure for figure in figures}
    assert len(found) == len(figures)
    assert {name for name, _ in found} == set(MEASURES) - {"training"}
    assert {precision for _, precision in found} == set(get_args(Precision)) - {"auto"}
    assert found["together", "fp32"]["texts"] == 8
    assert found["prefill", "fp32"]["tokens"] == facts["block_size"] // 2
    assert found["first-token", "fp32"]["characters"] == facts["block_size"] - 1  # 200 do not fit

    assert found["decode", "bf16"]["threads"] == 1

    losses = {precision: figure for (name, precision), figure in found.items() if name == "loss"}
    assert losses["fp32"]["against_fp32"] == 0
    for figure in losses.values():
        assert figure["against_fp32"] == pytest.approx(figure["median"] - losses["fp32"]["median"])
    (memory,) = [figure for (name, _), figure in found.items() if name == "memory"]
    assert memory["fp32_weights"] == 4 * facts["parameters"]
    assert memory["of_fp32_weights"] == pytest.approx(memory["median"] / memory["fp32_weights"])


def test_a_training_step_is_of_the_models_own_shape(tiny_model):
    asked = []

    def ask(module, request, answer):
        asked.append((module, request))
        return step_times.measure(request)  # as its process does, with a priority of its own

    request = session.BenchRequest(model=str(tiny_model), device="cpu", measures=("training",))
    (figure,) = [event for event in session.bench(request, ask) if isinstance(event, Figure)]
    ((module, request),) = asked
    assert module == step_times.__name__
    assert (request.model.n_layer, request.model.n_embd, request.training.block_size) == (2, 32, 64)
    assert (figure.unit, figure.details["batch_size"], figure.details["block_size"]) == ("s", 8, 64)
    assert 0 < figure.lowest <= figure.median <= figure.highest
    assert figure.details["tokens_per_second"] * figure.median == pytest.approx(8 * 64)


def test_a_step_that_cannot_be_timed_is_left_out_with_the_reason(tiny_model):
    request = session.BenchRequest(model=str(tiny_model), device="cpu", measures=("training",))
    no_room = Measurement(problem="it takes about 9 GB of memory", hint="choose a smaller model")
    *_, last = session.bench(request, lambda *_: no_room)
    assert last == LeftOut("training", "it takes about 9 GB of memory")


def test_the_table_has_a_row_for_each_precision_and_stdout_has_results_alone(cli, with_text):
    words = ("--only", "decode", "--only", "loss", "--precision", "bf16", "--precision", "fp32")
    result = cli("bench", "--model", "fox", *HASTE, *words)
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].startswith("model")
    assert "fox: nanochat" in lines[0]
    rows = [line.split() for line in lines]
    assert ["one", "text", "loss"] in rows
    assert ["precision", "tokens/s", "nats/token"] in rows
    assert [row[0] for row in rows if row and row[0] in ("fp32", "bf16")] == ["bf16", "fp32"]
    assert "reading" not in result.out
    assert "memory" not in result.out


def test_the_table_says_with_how_many_threads_each_precision_was_measured_where_they_differ(capsys):
    def measured(*threads):
        given = zip(("fp32", "int8"), threads, strict=True)
        print_figures([figure_of("decode", precision, [500.0], threads=number) for precision, number in given])
        return capsys.readouterr().out

    assert "thread" not in measured(2, 2)
    lines = measured(2, 1).splitlines()
    assert [line.strip() for line in lines if "thread" in line] == ["2 threads", "1 thread"]


def test_the_loss_is_the_same_every_time_and_is_told_against_fp32_that_was_not_asked_for(measure, with_text):
    words = ("--model", "fox", "--only", "loss")
    _, both, _ = measure(*words, "--precision", "fp32", "--precision", "bf16")
    _, (alone,), _ = measure(*words, "--precision", "bf16")
    assert alone == both[1]
    assert alone["against_fp32"] == pytest.approx(both[1]["median"] - both[0]["median"])


def test_without_the_text_the_loss_is_left_out_and_it_says_why(cli, with_text):
    with_text.unlink()
    result = cli("bench", "--model", "fox", *HASTE, "--only", "decode", "--only", "loss")
    assert result.status == 0
    assert "nats" not in result.out
    (line,) = result.err.splitlines()
    assert line.startswith("left out: loss, as the train text that the model was trained with is not here")


def test_a_precision_for_all_commands_counts_and_the_first_one_is_every_one(measure, cli, tiny_model):
    _, (figure,), _ = measure("--model", tiny_model, "--only", "decode", "--precision", "fp16")
    assert figure["precision"] == "fp16"
    before = cli("--precision", "fp16", "bench", *HASTE, "--json", "--model", tiny_model, "--only", "decode")
    assert [json.loads(line).get("precision") for line in before.out.splitlines()] == [None, "fp16"]


def test_what_is_not_there_is_one_line(cli, tiny_model):
    missing = cli("bench", "--model", "nonsuch")
    assert (missing.status, missing.out, missing.is_one_error_line) == (1, "", True)
    other = next(device for device in ("cuda", "mps") if device not in available_devices())
    device = cli("bench", "--model", tiny_model, "--device", other)
    assert (device.status, device.out, device.is_one_error_line) == (1, "", True)
    assert cli("bench", "--only", "luck").status == 2
    assert cli("bench", "--seconds", "nan").status == 2


def test_ctrl_c_prints_what_was_measured_so_far(cli, tiny_model, monkeypatch):
    def interrupted(request, ask):
        for event in real(request, ask):
            yield event
            if isinstance(event, Figure):
                raise KeyboardInterrupt

    real = session.bench
    monkeypatch.setattr(session, "bench", interrupted)
    result = cli("bench", "--model", tiny_model, *HASTE)
    assert result.status == 130
    assert "one text" in result.out
    assert "reading" not in result.out


@pytest.mark.posix
def test_ctrl_c_ends_a_real_process_with_the_lines_that_it_has_written(shell, tiny_model):
    words = ("--precision", "fp32", "--only", "prefill", "--only", "decode", "--seconds", "60")
    result = shell("bench", "--model", tiny_model, *words, "--json", interrupt_after='"prefill"')
    assert result.status == 130
    assert "Traceback" not in result.err
    assert [json.loads(line).get("measure") for line in result.out.splitlines()] == [None, "prefill"]


def test_a_model_that_ends_every_text_at_once_is_measured_as_well(measure, own_home):
    path = make_tiny("silent", family="gpt2", steps=1, bias=True)
    gpt, tokenizer, record = open_checkpoint(path)
    with torch.no_grad():
        gpt.final_norm.weight.zero_()
        gpt.final_norm.bias.fill_(1)
        gpt.head.weight.zero_()[tokenizer.eot_id] = 9
    save_checkpoint(path, gpt, tokenizer, record, replace=True)
    words = [word for name in ("decode", "together", "first-token") for word in ("--only", name)]
    _, figures, _ = measure("--model", "silent", "--precision", "fp32", *words)
    assert [figure["measure"] for figure in figures] == ["decode", "together", "first-token"]
    assert all(figure["median"] > 0 for figure in figures)
    assert figures[-1]["characters"] == 0
