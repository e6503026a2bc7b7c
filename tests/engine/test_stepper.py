"""One step of training: what it depends on and what it does not, in each arithmetic, and when memory runs out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.config import TrainConfig
from engine.devices import has_bf16
from engine.errors import DeviceError, InvalidSettingError
from engine.model.gpt import GPT
from engine.text.batches import Batches
from engine.training.distributed import ALONE, Team
from engine.training.loss_scale import FIRST, GROWTH_STEPS, HOPELESS_STEPS, LossScale
from engine.training.muon import Muon, orthogonal
from engine.training.precision import choose_precision
from engine.training.stepper import Stepper

V, T = 17, 16


def config_of(**settings) -> TrainConfig:
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": T, "batch_size": 6, "steps": 20, "warmup_steps": 0}
    return TrainConfig(**(shape | {"compile": "off"} | settings))


def stepper_of(config: TrainConfig, *, precision: str = "fp32", device: str = "cpu", team: Team = ALONE, **rest):
    gpt = GPT(config.model_config(V))
    gpt.initialize(torch.Generator().manual_seed(0))
    with torch.no_grad():
        gpt.head.weight.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(1))  # or nothing behind it learns
    tokens = np.random.default_rng(0).integers(V, size=600)
    batches = Batches(tokens, T, config.batch_size * config.accumulation, config.seed, eot_id=0)
    gpt.to(device)
    return Stepper(gpt, config, config.steps, batches, device=device, precision=precision, team=team, **rest)


def weights_of(stepper: Stepper) -> dict[str, torch.Tensor]:
    return {name: weight.detach().cpu().clone() for name, weight in stepper.gpt.named_parameters()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def far_apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


# Memory


class Crowded:
    """A model's loss on a device that has room for so many rows."""

    def __init__(self, stepper: Stepper, room: int, error: type[Exception] | Exception) -> None:
        self.loss, self.room, self.error, self.sizes = stepper.gpt.loss, room, error, []

    def __call__(self, x, y):
        self.sizes.append(len(x))
        if len(x) > self.room:
            raise self.error
        return self.loss(x, y)


def crowd(stepper: Stepper, room: int, error=None) -> Crowded:
    crowded = Crowded(stepper, room, error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    stepper._losses._loss.compute = crowded
    stepper._losses._loss.gpt.loss = crowded  # so that it does not pass for a compiled one
    return crowded


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_out_of_memory_takes_the_same_step_in_smaller_passes(optimizer):
    config = config_of(optimizer=optimizer)
    said: list[str] = []
    roomy, crowded = stepper_of(config), stepper_of(config, report=said.append)
    rows = crowd(crowded, room=2)
    for step in range(3):
        expected, found = roomy.take(step), crowded.take(step)
        assert found.loss == pytest.approx(expected.loss, abs=1e-6)
        assert found.grad_norm == pytest.approx(expected.grad_norm, rel=1e-5)
        assert found.tokens == expected.tokens == 6 * T
    assert rows.sizes == [6, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2]  # 6, then 3, then 2 at once, and so for all later steps
    assert crowded.micro_batch == 2
    # what Muon makes orthogonal in bf16 differs by a bit of bf16 where its gradient does by one of fp32
    assert far_apart(weights_of(roomy), weights_of(crowded)) < (1e-5 if optimizer == "adamw" else 2e-3)
    assert [line.partition(":")[0] for line in said] == ["the cpu device is out of memory"] * 2
    assert "3 passes of 2 sequences" in said[-1]


def test_uneven_passes_count_each_token_once():
    config = config_of(batch_size=5, optimizer="adamw")
    roomy, crowded = stepper_of(config), stepper_of(config)
    rows = crowd(crowded, room=3)
    expected, found = roomy.take(0), crowded.take(0)
    assert rows.sizes == [5, 3, 2]
    assert found.loss == pytest.approx(expected.loss, abs=1e-6)
    assert found.grad_norm == pytest.approx(expected.grad_norm, rel=1e-5)
    assert far_apart(weights_of(roomy), weights_of(crowded)) < 1e-5


def test_memory_that_runs_out_behind_the_first_pass_leaves_nothing_of_it_in_the_gradient():
    config = config_of(batch_size=4, accumulation=2, optimizer="adamw")
    roomy, crowded = stepper_of(config), stepper_of(config)
    loss, calls = crowded.gpt.loss, []

    def fails_once(x, y):
        calls.append(len(x))
        if len(calls) == 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory")
        return loss(x, y)

    crowded._losses._loss.compute = crowded.gpt.loss = fails_once
    expected, found = roomy.take(0), crowded.take(0)
    assert calls == [4, 4, 2, 2, 2, 2]
    assert found.loss == pytest.approx(expected.loss, abs=1e-6)
    assert far_apart(weights_of(roomy), weights_of(crowded)) < 1e-5


def test_no_room_for_one_sequence_is_said_in_a_line():
    stepper = stepper_of(config_of())
    crowd(stepper, room=0)
    with pytest.raises(DeviceError, match=r"out of memory: .*smaller block_size or model"):
        stepper.take(0)


def test_another_error_is_not_taken_for_a_lack_of_memory():
    stepper = stepper_of(config_of())
    crowd(stepper, room=0, error=RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        stepper.take(0)


def test_the_size_of_a_pass_that_fitted_is_kept_when_the_run_goes_on():
    config = config_of()
    before, after = stepper_of(config), stepper_of(config)
    crowd(before, room=3)
    before.take(0)
    after.load_state(before.state())
    assert after.micro_batch == 3
    fresh = stepper_of(config)
    fresh.take(0)
    after = stepper_of(config.replace(batch_size=12))
    after.load_state(fresh.state())
    assert after.micro_batch == 12  # only what memory set is kept


# The state


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_depends_on_nothing_but_weights_state_and_number(optimizer, precision):
    config = config_of(optimizer=optimizer, dropout=0.2, accumulation=2, weight_decay=0.1)
    whole = stepper_of(config, precision=precision)
    for step in range(3):
        whole.take(step)
    weights, state = weights_of(whole), {name: tensor.clone() for name, tensor in whole.state().items()}
    expected = [whole.take(step) for step in (3, 4)]
    resumed = stepper_of(config, precision=precision)
    resumed.gpt.load_state_dict(resumed.gpt.state_dict() | weights)
    resumed.load_state(state)
    torch.manual_seed(12345)  # whatever else was drawn since
    assert [resumed.take(step) for step in (3, 4)] == expected
    assert same(weights_of(resumed), weights_of(whole))
    assert state.keys() == resumed.state().keys()


def test_another_optimizer_begins_afresh():
    before, after = stepper_of(config_of(optimizer="muon")), stepper_of(config_of(optimizer="adamw"))
    before.take(0)
    after.load_state(before.state())
    after.take(1)
    assert {name.rpartition(".")[2] for name in after.state()} == {"exp_avg", "exp_avg_sq", "step"}


def test_more_processes_than_sequences_is_refused():
    with pytest.raises(InvalidSettingError, match="7 processes cannot share a batch of 6"):
        stepper_of(config_of(), team=Team(0, 7))


# fp16


def test_fp16_trains_like_fp32():
    config = config_of(optimizer="adamw", steps=30, learning_rate=0.01)
    full, half = stepper_of(config), stepper_of(config, precision="fp16")
    losses = [[stepper.take(step).loss for step in range(30)] for stepper in (full, half)]
    assert losses[0][-1] < losses[0][0] - 0.15
    assert np.abs(np.subtract(*losses)).max() < 0.02
    assert half.take(30).grad_norm == pytest.approx(full.take(30).grad_norm, rel=0.1)  # the factor is taken back


def test_an_overflow_leaves_the_step_out_and_lowers_the_scale():
    stepper = stepper_of(config_of(), precision="fp16")
    assert stepper.loss_scale is not None
    stepper.loss_scale.factor = 2.0**30
    before = weights_of(stepper)
    result = stepper.take(0)
    assert result.is_skipped
    assert result.is_finite
    assert result.grad_norm == 0
    assert same(weights_of(stepper), before)
    assert stepper.loss_scale.factor == 2.0**29
    step = 1
    while (result := stepper.take(step)).is_skipped:
        step += 1
    assert result.is_finite
    assert 1 < step < HOPELESS_STEPS
    assert not same(weights_of(stepper), before)


def test_overflow_without_an_end_is_no_training():
    stepper = stepper_of(config_of(), precision="fp16")
    loss = stepper.gpt.loss
    stepper._losses._loss.compute = stepper._losses._loss.gpt.loss = lambda x, y: loss(x, y) * 1e38
    results = [stepper.take(step) for step in range(17)]  # the factor has come from 2 ** 16 to less than 1
    assert all(result.is_skipped for result in results[:-1])
    assert not results[-1].is_skipped
    assert not results[-1].is_finite


def test_the_scale_doubles_after_a_long_calm_and_is_hopeless_below_one():
    scale = LossScale()
    for _ in range(GROWTH_STEPS):
        scale.went_well()
    assert scale.factor == 2 * FIRST
    again = LossScale()
    again.load_state(scale.state())
    assert again.state() == scale.state()
    scale.factor = 1.0
    scale.overflowed()
    assert scale.is_hopeless


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp16")])
def test_auto_on_a_gpu_is_bf16_where_it_has_it_and_fp16_elsewhere(monkeypatch, native, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert choose_precision(config_of(precision="auto"), "cuda") == expected
    assert has_bf16("cuda") == native


# Compiling


def test_compile_is_used_where_it_is_wanted_and_changes_no_name(monkeypatch):
    compiled: list[str] = []

    def fake(function):
        def call(x, y):
            compiled.append("called")
            return function(x, y)

        return call

    monkeypatch.setattr(torch, "compile", fake)
    plain, fast = (stepper_of(config_of(compile=compile)) for compile in ("auto", "on"))
    assert plain.take(0) == fast.take(0)
    assert plain.take(1) == fast.take(1)
    assert len(compiled) == 3  # one to try it out
    assert same(weights_of(plain), weights_of(fast))
    assert plain.gpt.state_dict().keys() == fast.gpt.state_dict().keys()


def refuse(function):
    raise RuntimeError("Python 3.99 is not supported by Dynamo")


def fails(function):
    def call(x, y):
        raise RuntimeError("BackendCompilerFailed: no working C++ compiler\nset TORCHDYNAMO_VERBOSE=1")

    return call


def fails_backward(function):
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise ValueError("no working C++ compiler")

    return lambda x, y: Fails.apply(function(x, y))


@pytest.mark.parametrize("compiler", [refuse, fails, fails_backward])
def test_a_model_that_does_not_compile_is_trained_as_it_is(monkeypatch, compiler):
    monkeypatch.setattr(torch, "compile", compiler)
    said: list[str] = []
    plain, stepper = stepper_of(config_of()), stepper_of(config_of(compile="on"), report=said.append)
    assert [stepper.take(step) for step in range(2)] == [plain.take(step) for step in range(2)]
    assert same(weights_of(plain), weights_of(stepper))
    assert len(said) == 1
    assert said[0].startswith("torch.compile did not work, so the model runs as it is (")
    assert "\n" not in said[0]


def test_memory_that_runs_out_while_compiling_is_no_fault_of_the_compiler(monkeypatch):
    def crowded(function):
        def call(x, y):
            if len(x) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return function(x, y)

        return call

    monkeypatch.setattr(torch, "compile", crowded)
    said: list[str] = []
    stepper = stepper_of(config_of(compile="on"), report=said.append)
    stepper.take(0)
    assert stepper.micro_batch == 3
    assert stepper._losses._loss.is_compiled
    assert "compile" not in "".join(said)


# Muon


@pytest.mark.parametrize("at_once", [1, 1 << 25])
def test_muon_moves_matrices_as_torch_does(monkeypatch, at_once):
    monkeypatch.setattr("engine.training.muon.AT_ONCE", at_once)
    shapes = [(16, 16), (16, 16), (48, 16), (16, 48), (16, 48), (8, 16)]
    generator = torch.Generator().manual_seed(3)
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    mine, theirs = ([torch.nn.Parameter(weight.clone()) for weight in start] for _ in range(2))
    settings = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.1}
    optimizers = Muon(mine, **settings), torch.optim.Muon(theirs, adjust_lr_fn="original", **settings)
    for _ in range(5):
        for weights in zip(mine, theirs, strict=True):
            gradient = torch.randn(weights[0].shape, generator=generator)
            for weight in weights:
                weight.grad = gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert all((before - after).abs().max() > 0.02 for before, after in zip(start, mine, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_orthogonal_evens_out_what_a_matrix_does_in_each_direction():
    matrices = torch.randn(3, 40, 20, generator=torch.Generator().manual_seed(4)) * torch.logspace(0, -1, 20)
    for turned in (matrices, matrices.mT):
        found = orthogonal(turned)
        values = torch.linalg.svdvals(found)
        assert values.min() > 0.6
        assert values.max() < 1.3
        one_by_one = torch.stack([orthogonal(matrix) for matrix in turned])
        assert torch.allclose(found, one_by_one, atol=1e-5)


# On a GPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("compile", ["off", "on"])
def test_a_gpu_takes_the_cpus_steps(precision, compile):
    expected, found = (
        stepper_of(config_of()),
        stepper_of(config_of(compile=compile), precision=precision, device="cuda"),
    )
    for step in range(3):
        assert found.take(step).loss == pytest.approx(expected.take(step).loss, abs=0.03)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_batch_that_does_not_fit_on_a_gpu_is_taken_in_smaller_passes():
    said: list[str] = []
    config = config_of(batch_size=4096, n_embd=256)  # some 3 GiB of activations
    stepper = stepper_of(config, device="cuda", report=said.append)
    room = torch.cuda.memory_reserved() + 2**30
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
    try:
        assert stepper.take(0).is_finite
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert stepper.micro_batch < 4096
    assert said
