"""What is said of a run before it begins: its parameters to the last one, its memory within a fifth, its text and the
time of a step as they are found by processes of their own.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import ACTIVATIONS, POSITIONS, ModelConfig, TrainConfig
from engine.errors import DataError, DeviceError
from engine.model.gpt import GPT
from engine.training.estimate import (
    MeasureRequest,
    check_fits,
    estimate,
    parameter_count,
    size_text,
)
from engine.training.measure import measure
from engine.training.optimizers import make_optimizers
from engine.training.survey import SURVEYED, Survey, SurveyRequest, survey

TINY = TrainConfig(n_layer=2, n_head=2, n_embd=32, block_size=32, batch_size=4)


@st.composite
def models(draw: st.DrawFn) -> ModelConfig:
    family = draw(st.sampled_from(["gpt2", "nanochat", "qwen3", "llama"]))
    groups, per_group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    heads = groups * per_group
    gpt2 = family == "gpt2"
    return ModelConfig(
        family=family,
        n_layer=draw(st.integers(1, 4)),
        n_head=heads,
        n_kv_head=0 if gpt2 else draw(st.sampled_from([0, groups])),
        n_embd=heads * 2 * draw(st.integers(1, 20)),
        block_size=draw(st.integers(2, 100)),
        bias=gpt2 and draw(st.booleans()),
        positions=draw(st.sampled_from(["auto", *POSITIONS[family]])),
        activation=draw(st.sampled_from(["auto", *ACTIVATIONS[family]])),
        tie_head=draw(st.booleans()),
        vocab_size=draw(st.integers(2, 500)),
        head_dim=0 if gpt2 else draw(st.sampled_from([0, 8, 10])),
        n_inner=draw(st.sampled_from([0, 50])),
    )


@settings(max_examples=60, deadline=None)
@given(models())
def test_the_number_of_parameters_is_that_of_the_model(config: ModelConfig):
    with torch.device("meta"):
        gpt = GPT(config)
    assert parameter_count(config) == gpt.parameter_count()


def kept_by_a_forward_pass(config: TrainConfig, gpt: GPT, half: bool) -> int:
    """Bytes that autograd keeps, without the weights themselves."""
    own = {tensor.untyped_storage().data_ptr() for tensor in itertools.chain(gpt.parameters(), gpt.buffers())}
    kept: dict[int, tuple[int, torch.Tensor]] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that no other takes its place
        return tensor

    tokens = torch.zeros(config.batch_size, config.block_size, dtype=torch.long)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        gpt.loss(tokens, tokens)
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize(
    "shape", [{"family": "gpt2", "bias": True}, {}, {"family": "qwen3", "n_kv_head": 2}, {"family": "llama"}]
)
def test_the_memory_of_a_step_is_about_what_autograd_keeps(shape: dict[str, Any], dropout: float, half: bool):
    config = TrainConfig(n_layer=3, n_head=4, n_embd=64, block_size=64, batch_size=8, dropout=dropout, **shape)
    model = config.model_config(100)
    gpt = GPT(model)
    gpt.initialize(torch.Generator().manual_seed(1))
    kept = kept_by_a_forward_pass(config, gpt, half)
    assert estimate(config, model, half=half).activations == pytest.approx(kept, rel=0.25)


@pytest.mark.parametrize("shape", [{"family": "gpt2", "positions": "sinusoidal"}, {"tie_head": True}])
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_the_memory_of_the_optimizers_is_what_they_keep(shape: dict[str, Any], optimizer: Any):
    config = TINY.replace(optimizer=optimizer, **shape)
    model = config.model_config(50)
    gpt = GPT(model)
    gpt.initialize(torch.Generator().manual_seed(1))
    optimizers = make_optimizers(gpt, config)
    gpt.loss(torch.zeros(1, 8, dtype=torch.long), torch.zeros(1, 8, dtype=torch.long)).backward()
    for each in optimizers:
        each.step()
    kept = [
        value.nbytes
        for each in optimizers
        for state in each.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.ndim
    ]
    took = estimate(config, model)
    assert took.optimizer == sum(kept)
    assert took.gradients == sum(weight.grad.nbytes for weight in gpt.parameters() if weight.grad is not None)


def test_accumulation_makes_a_step_longer_and_takes_no_memory():
    once, four = (estimate(TINY.replace(accumulation=n), TINY.model_config(50)) for n in (1, 4))
    assert four.tokens_per_step == 4 * once.tokens_per_step == 4 * 4 * 32
    assert four.memory == once.memory


def test_windows_of_a_run_from_a_model_reach_at_most_as_far_as_its_context():
    model = TINY.replace(block_size=16).model_config(50)
    assert estimate(TINY, model).tokens_per_step == 4 * 16


def test_a_run_that_needs_more_than_most_of_the_free_memory_is_refused_in_words():
    check_fits(80, 100)
    with pytest.raises(DeviceError, match=r"about 42\.0 GB of memory, and 23\.0 GB are free"):
        check_fits(42 * 10**9, 23 * 10**9)


@pytest.mark.parametrize(
    ("size", "words"), [(999, "999 bytes"), (1500, "2 KB"), (262_400_000, "262 MB"), (1_234_000_000, "1.2 GB")]
)
def test_a_size_has_a_unit_that_fits(size: int, words: str):
    assert size_text(size) == words


# The processes


def asked(module: str, request: Any) -> bytes:
    done = subprocess.run(
        [sys.executable, "-P", "-m", module],
        input=msgspec.json.encode(request),
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout.count(b"\n") == 1
    return done.stdout


def test_a_step_is_timed_as_the_run_would_take_it():
    config = TINY.replace(batch_size=2, accumulation=2)
    measured = measure(MeasureRequest(training=config, model=config.model_config(50), device="cpu"))
    assert not measured.problem
    assert 0 < measured.step_seconds < 10
    assert measured.tokens_per_second == pytest.approx(2 * 2 * 32 / measured.step_seconds)
    assert measured.eval_tokens_per_second > 0
    assert measured.device == "cpu"
    assert measured.precision in ("fp32", "bf16")
    assert measured.peak_memory > 50_000_000  # torch alone has as much


def test_a_step_that_would_fill_the_machine_is_not_taken():
    config = TINY.replace(batch_size=65_536, n_embd=4096, block_size=4096)
    with pytest.raises(DeviceError, match=r"TB of memory, and .* are free"):
        measure(MeasureRequest(training=config, model=config.model_config(50), device="cpu"))


def test_a_text_is_looked_at_by_a_process_of_its_own(tmp_path: Path):
    (tmp_path / "a.txt").write_text("abcab" * 100)
    found = msgspec.json.decode(
        asked("engine.training.survey", SurveyRequest(names=(str(tmp_path / "a.txt"),))), type=Survey
    )
    assert (found.files, found.bytes, found.alphabet, found.is_whole) == (1, 500, 3, True)
    assert found.tokens("char") == found.tokens("byte") == (450, 50)
    missing = msgspec.json.decode(asked("engine.training.survey", SurveyRequest(names=("nowhere",))), type=Survey)
    assert "nowhere" in missing.problem
    assert "fables" in missing.hint


# What a text is like


def test_a_folder_is_looked_at_file_by_file(tmp_path: Path):
    for number, text in enumerate(["aäa", "bb", "c"]):
        (tmp_path / f"{number}.txt").write_text(text, encoding="utf-8")
    found = survey(SurveyRequest(names=(str(tmp_path),), val=str(tmp_path / "0.txt")))
    assert (found.files, found.bytes, found.characters, found.alphabet) == (3, 7, 6, 4)
    assert found.val_bytes == 4
    assert found.tokens("byte") == (7, 4)


def test_of_a_long_text_the_beginning_is_read(tmp_path: Path):
    (tmp_path / "long.txt").write_bytes(b"ab" * SURVEYED)
    found = survey(SurveyRequest(names=(str(tmp_path / "long.txt"),)))
    assert (found.read, found.bytes, found.is_whole) == (SURVEYED, 2 * SURVEYED, False)
    assert sum(found.tokens("char")) == 2 * SURVEYED


def test_a_text_that_is_cut_within_a_character_is_a_text(tmp_path: Path):
    (tmp_path / "long.txt").write_text("a" + "ä" * SURVEYED, encoding="utf-8")
    assert survey(SurveyRequest(names=(str(tmp_path / "long.txt"),))).alphabet == 2


@pytest.mark.parametrize(
    ("data", "words"), [(b" \n ", "is empty"), (b"\x00\x01" * 50, "binary"), (b"caf\xe9 " * 9, "not UTF-8")]
)
def test_what_is_no_text_is_refused(tmp_path: Path, data: bytes, words: str):
    (tmp_path / "x.txt").write_bytes(data)
    with pytest.raises(DataError, match=words):
        survey(SurveyRequest(names=(str(tmp_path / "x.txt"),)))
