"""The running mean of the weights: what it is, that it is evaluated and kept, and that training does not follow it."""

from __future__ import annotations

import pytest
import torch
from training_here import TINY, new_run, take_up, tiny_text

from engine.checkpoints import load_model
from engine.model.gpt import GPT
from engine.training import control
from engine.training.averaging import Average
from engine.training.state import WEIGHTS_PREFIX, read_state

MEAN = TINY.replace(average=0.5)


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))
    return tiny_text(tmp_path)


def numbered(share, steps, *, tie_head=False):
    """A mean of weights that are all 1 after the first step, 2 after the second, and so on; and the model."""
    gpt = GPT(TINY.replace(tie_head=tie_head).model_config(30))
    gpt.initialize(torch.Generator().manual_seed(0))
    average = Average(gpt, share)
    for step in range(steps):
        with torch.no_grad():
            for weight in gpt.parameters():
                weight.fill_(step + 1)
        average.update(step)
    return average, gpt


def test_a_share_of_one_is_the_mean_of_all_steps_and_the_weights_stay_as_they_are():
    average, gpt = numbered(1.0, 9)
    for name, mean in average.whole_model().named_parameters():
        assert torch.allclose(mean, torch.tensor(5.0)), name
    assert all(bool((weight == 9).all()) for weight in gpt.parameters())


def test_a_smaller_share_is_nearer_to_the_last_steps():
    means = [numbered(share, 100)[0].whole_model().embedding.weight[0, 0].item() for share in (1.0, 0.5, 0.2, 0.05)]
    assert means == sorted(means)
    assert means[1] == pytest.approx(100 * 2 / 3, rel=0.02)  # steps count in proportion to their number
    assert 95 < means[-1] < 100


def test_a_tied_head_stays_tied_in_the_mean():
    model = numbered(0.5, 5, tie_head=True)[0].whole_model()
    assert model.head.weight is model.embedding.weight


def test_the_mean_is_what_is_evaluated_and_kept_and_the_weights_are_beside_it(text):
    trainer = take_up(new_run("a", MEAN, text))
    trainer.train()
    kept = load_model(str(trainer.run.checkpoint(12)), "cpu", "fp32").gpt.state_dict()
    state, _ = read_state(trainer.run.checkpoint(12))
    trained = trainer.stepper.gpt.state_dict()
    mean = trainer.stepper.average.whole_model().state_dict()
    assert all(torch.equal(state[WEIGHTS_PREFIX + name], weight) for name, weight in trained.items())
    assert all(torch.equal(kept[name], weight) for name, weight in mean.items())
    assert not torch.equal(kept["embedding.weight"], trained["embedding.weight"])
    plain = take_up(new_run("b", TINY, text))
    plain.train()
    assert all(torch.equal(weight, trained[name]) for name, weight in plain.stepper.gpt.state_dict().items())
    assert plain.run.read_metrics()[-1].val_loss != trainer.run.read_metrics()[-1].val_loss


def test_a_save_that_is_asked_for_within_an_evaluation_saves_the_weights_as_they_are(text):
    trainer = take_up(new_run("a", MEAN, text))
    loss, trained = trainer.examiner.loss, {}

    def asking(gpt, *rest, **more):
        if trainer.progress.step == 4 and not trained:
            trained.update({name: weight.clone() for name, weight in trainer.stepper.gpt.state_dict().items()})
            control.request(trainer.run.path, "save")
        return loss(gpt, *rest, **more)

    trainer.examiner.loss = asking
    trainer.watcher.at[5] = trainer.orders.stop
    trainer.train()
    state, _ = read_state(trainer.run.checkpoint(4))
    assert trained
    assert all(torch.equal(state[WEIGHTS_PREFIX + name], weight) for name, weight in trained.items())


def test_a_mean_can_be_taken_up_later_and_left_again(text):
    run = new_run("a", TINY, text)
    first = take_up(run)
    first.watcher.at[6] = first.orders.stop
    first.train()
    for change in ({"average": 0.25}, {"average": 0.0}):
        config = run.read_config()
        training = config.training.replace(steps=config.training.steps + 4, **change)
        run.write_config(type(config)(**{name: getattr(config, name) for name in config.__struct_fields__}
                                      | {"training": training}))  # fmt: skip
        trainer = take_up(run)
        trainer.train()
    assert trainer.progress.step == 20
    assert trainer.stepper.average is None
    assert not any(name.startswith(WEIGHTS_PREFIX) for name in read_state(run.checkpoint(20))[0])
