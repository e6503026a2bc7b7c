"""The fields of the form that starts a run: which there are, in which order, and what each of them does. What a setting
means and takes is read from `TrainConfig`; here is only where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from engine.config import Architecture, Device, TrainConfig
from engine.validation import Field, Setting, fields
from minigpt_tui.training.setting_steps import choices, is_number, range_words

MODEL = ("family", "n_layer", "n_head", "n_embd", "block_size", "dropout", "tokenizer", "vocab_size")
TRAINING = (
    "steps",
    "epochs",
    "batch_size",
    "accumulation",
    "optimizer",
    "learning_rate",
    "muon_learning_rate",
    "eval_interval",
    "sample_prompt",
    "seed",
    "device",
)
"""What matters most; all other settings follow where all are shown."""

OF_THE_RUN = {
    "device": Field(
        "device", str, Setting("where it computes; auto takes a GPU where there is one"), get_args(Device), "auto"
    ),
    "nproc": Field("nproc", int, Setting("processes that train together, one for each GPU", 1, 256), (), 1),
}
"""What is chosen beside the settings of `TrainConfig`."""

FIELDS = {**fields(TrainConfig), **OF_THE_RUN}

TEXTS = {
    "text": "what to learn from: files, folders and texts by name, several with commas between them",
    "val": "a text to validate with; without one, the last tenth of the text",
    "test": "a text for a test at the end, which training never sees",
    "column": "where the text is in CSV and JSONL files; without a name it is found",
    "name": "what the run is called: letters, digits, - _ and .",
    "base": "fresh weights, or a model to go on from: fine-tuning, which keeps its shape and its tokenizer",
    "preset": "settings to begin with, over which what you change stays",
}
"""What the other fields are for."""

TYPED = ("text", "val", "test", "column", "name")
"""Those of them that are lines of text."""

LABELS = {"val": "validation", "base": "start from"}


@dataclass(frozen=True)
class Group:
    """Fields under one heading.

    Attributes:
        title: The heading.
        usual: Fields that are always shown.
        rest: Fields that are shown where all are.
    """

    title: str
    usual: tuple[str, ...]
    rest: tuple[str, ...] = ()


_REST = tuple(name for name in FIELDS if name not in (*MODEL, *TRAINING))
_OF_THE_MODEL = (*Architecture.__struct_fields__, "logit_soft_cap", "normalize")

LEFT = (
    Group("Text", ("text", "val", "name"), ("test", "column")),
    Group("Start", ("base", "preset")),
    Group("Model", MODEL, tuple(name for name in _REST if name in _OF_THE_MODEL)),
)
RIGHT = (Group("Training", TRAINING, tuple(name for name in _REST if name not in _OF_THE_MODEL)),)


def is_text(key: str) -> bool:
    """Whether it is a line of text to type."""
    field = FIELDS.get(key)
    return key in TYPED if field is None else field.type is str and not field.choices


def is_typed_number(key: str) -> bool:
    """Whether it is a number, which can be typed."""
    return key in FIELDS and is_number(FIELDS[key])


def has_list(key: str) -> bool:
    """Whether enter opens a list of its choices."""
    return key in ("base", "preset") or (key in FIELDS and bool(choices(FIELDS[key])))


def about(key: str) -> tuple[str, str]:
    """What it does, and which values it takes."""
    if key in TEXTS:
        return TEXTS[key], ""
    field = FIELDS[key]
    return field.setting.help if field.setting else "", range_words(field)
