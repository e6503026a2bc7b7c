"""What a run takes, in words: parameters, memory, tokens in a step, and from a measured step the time of it all. Plain
functions, for the form that starts a run.
"""

from __future__ import annotations

from engine.config import ModelConfig, TrainConfig
from engine.training.estimate import Estimate, Measurement, size_text, window
from engine.training.survey import Survey
from minigpt_tui.widgets.top_line import count_text

EVALUATED_SPLITS = 2
"""The training split is evaluated beside the validation split, on as many tokens."""


def survey_words(survey: Survey) -> str:
    """What was found of a text: `1 file · 65 KB · alphabet of 62`."""
    files = "1 file" if survey.files == 1 else f"{survey.files:,} files"
    more = "" if survey.is_whole else "+"
    words = [files, size_text(survey.bytes), f"alphabet of {survey.alphabet:,}{more}"]
    if survey.val_bytes is not None:
        words.append(f"{size_text(survey.val_bytes)} to validate with")
    return " · ".join(words)


def size_words(estimate: Estimate, nproc: int) -> str:
    """Parameters, memory and tokens in a step."""
    each = " each" if nproc > 1 else ""
    return (
        f"{count_text(estimate.parameters)} parameters ({estimate.parameters:,}) · "
        f"about {size_text(estimate.memory)} of memory{each} · {estimate.tokens_per_step:,} tokens a step"
    )


def steps_of(training: TrainConfig, model: ModelConfig, survey: Survey | None) -> int | None:
    """How many steps there are, about, where they follow from epochs; None while the text is not known."""
    if training.epochs is None:
        return training.steps
    if survey is None:
        return None
    windows = max(1, (survey.tokens(training.tokenizer)[0] - 1) // window(training, model) - 1)
    return max(1, round(training.epochs * windows / (training.batch_size * training.accumulation)))


def length_words(training: TrainConfig, model: ModelConfig, survey: Survey | None, measured: Measurement | None) -> str:
    """How often the run passes over the text, and once a step was timed, what else there is to say of its time."""
    steps = steps_of(training, model, survey)
    words = [] if measured or steps is None else [f"{steps:,} steps"]
    if steps is None:
        words.append(f"{training.epochs:g} passes over the text")
    elif survey is not None and (tokens := survey.tokens(training.tokenizer)[0]):
        seen = steps * training.batch_size * training.accumulation * window(training, model)
        words.append(f"{seen / tokens:,.1f} passes over the text")
    spent = evaluation_seconds(training, survey, steps, measured) if steps and measured else 0.0
    if spent >= 1:
        words.append(f"{duration_words(spent)} of it evaluations")
    if measured and measured.is_busy:
        words.append("on a busy CPU")
    return " · ".join(words)


def time_words(
    training: TrainConfig, model: ModelConfig, survey: Survey | None, nproc: int, measured: Measurement
) -> str:
    """How long the run takes by a measured step: `about 3 min 10 s for 750 steps (at 10,200 tokens/s on cpu fp32)`.

    Several processes are taken to share the work evenly, and to wait for each other in no time.
    """
    where = f"{measured.device} {measured.precision}"
    speed = f"at {nproc * measured.tokens_per_second:,.0f} tokens/s on {where}"
    steps = steps_of(training, model, survey)
    if steps is None:
        return f"{duration_words(measured.step_seconds / nproc)} a step ({speed})"
    evaluating = evaluation_seconds(training, survey, steps, measured)
    return f"about {duration_words(steps * measured.step_seconds / nproc + evaluating)} for {steps:,} steps ({speed})"


def evaluation_seconds(training: TrainConfig, survey: Survey | None, steps: int, measured: Measurement) -> float:
    """How long all evaluations take together: those along the way, and the last one over the whole split."""
    if not measured.eval_tokens_per_second:
        return 0.0
    whole = survey.tokens(training.tokenizer)[1] if survey is not None else training.eval_tokens
    times = (steps - 1) // training.eval_interval if training.eval_interval else 0
    tokens = EVALUATED_SPLITS * (times * min(training.eval_tokens, whole) + whole)
    return tokens / measured.eval_tokens_per_second


def duration_words(seconds: float) -> str:
    """A time in its two largest units, such as `3 min 10 s`."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    whole = round(seconds)
    for large, large_name, small, small_name in (
        (86_400, "days", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= large:
            rest = whole % large // small
            name = "day" if large_name == "days" and whole // large == 1 else large_name
            return f"{whole // large} {name}" + (f" {rest} {small_name}" if rest else "")
    return f"{whole} s"
