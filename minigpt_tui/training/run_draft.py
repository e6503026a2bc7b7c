"""A run before it is started: what was chosen and typed so far, checked against the settings' own ranges. It outlives
the form, so that what was typed is there when the form opens again. Knows nothing of a screen.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from engine import catalog
from engine.catalog import CheckpointInfo
from engine.config import SMALLEST_BPE, ModelConfig, TrainConfig
from engine.errors import DataError, InvalidSettingError, RunError
from engine.formats.configuration import from_hf_config
from engine.presets import DEFAULT_PRESET, FINETUNE_PRESET, PRESETS, SUMMARIES
from engine.text.library import findable, text_name
from engine.training.run import RunConfig, TextSources
from engine.training.run_names import check_run_name, free_run_name
from engine.training.survey import Survey, SurveyRequest
from engine.validation import make, nearest_hint, to_dict
from minigpt_tui.cli.training_settings import OF_THE_MODEL

ALPHABET = 65
"""Taken for the number of characters as long as no text was chosen: Tiny Shakespeare has so many."""

FOR_MUON = ("muon_learning_rate", "muon_momentum", "momentum_warmup_steps")
"""Settings that AdamW alone has no use for."""

LIKE = "that run's"
"""The settings of the run that this one shall be like, as a preset."""


class BaseModel(msgspec.Struct, frozen=True):
    """A model to go on from.

    Attributes:
        info: What a list of models shows of it.
        model: Its configuration.
    """

    info: CheckpointInfo
    model: ModelConfig


def read_base(info: CheckpointInfo) -> BaseModel:
    """What a run that goes on from a model needs to know of it.

    Raises:
        CheckpointError: It is damaged, or of a kind that is not known here.
    """
    path = Path(info.path)
    model = from_hf_config(catalog.read_config(path))
    beyond = {key: value for key, value in catalog.read_record(path).architecture.items() if hasattr(model, key)}
    return BaseModel(info, model.replace(**beyond))


@dataclass
class RunDraft:
    """What was chosen so far; texts stand as they were typed.

    Attributes:
        name: Empty for a free name after the text.
        preset: Name of a preset, or `LIKE`.
        overrides: Settings that are other than the preset's, by name.
        like: The run that this one shall be like.
        more: Whether all settings are shown.
        known: The texts that have a name: whether each can be read now, or is yet to be downloaded.
    """

    text: str = ""
    val: str = ""
    test: str = ""
    column: str = ""
    name: str = ""
    preset: str = DEFAULT_PRESET
    overrides: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    nproc: int = 1
    base: BaseModel | None = None
    like: RunConfig | None = None
    more: bool = False
    known: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, config: RunConfig) -> RunDraft:
        """A draft of another run like this one."""
        base = None
        if config.base:
            base = read_base(catalog.read_info(Path(config.base)))
        text = config.text
        return cls(
            text=", ".join(text.train),
            val=text.val or "",
            test=text.test or "",
            column=text.column or "",
            name=free_run_name(config.name),
            preset=LIKE,
            device=config.device,
            nproc=config.nproc,
            base=base,
            like=config,
        )

    # Settings

    def presets(self) -> dict[str, str]:
        """The presets with a few words on each, the run that this one shall be like first."""
        like = {LIKE: "the settings of the run that this one shall be like"} if self.like else {}
        return like | {name: SUMMARIES.get(name, "") for name in PRESETS}

    def preset_values(self) -> dict[str, Any]:
        """The settings of the preset, with a model's own shape where one is gone on from."""
        values = to_dict(self.like.training if self.like and self.preset == LIKE else PRESETS[self.preset])
        if self.base is not None:
            shape = {name: getattr(self.base.model, name) for name in OF_THE_MODEL if hasattr(self.base.model, name)}
            kind = {"tokenizer": self.base.info.tokenizer} if self.base.info.tokenizer else {}
            context = min(values["block_size"], self.base.model.block_size)
            values |= {**shape, **kind, "vocab_size": values["vocab_size"], "block_size": context}
        return values

    def values(self) -> dict[str, Any]:
        """All settings, by name."""
        kept = {name: value for name, value in self.overrides.items() if not self.is_models_own(name)}
        return self.preset_values() | kept

    def training(self) -> TrainConfig:
        """All settings.

        Raises:
            InvalidSettingError: They do not go together; the message says which.
        """
        values = self.values()
        try:
            config: TrainConfig = make(TrainConfig, values)
        except InvalidSettingError:
            if self.base is None:
                raise
            # A model from elsewhere may have a shape that no fresh one has; the trainer takes it from the model.
            own = {name: values[name] for name in values if name not in OF_THE_MODEL or name == "tokenizer"}
            config = make(TrainConfig, own)
        if self.base is not None and config.block_size > self.base.model.block_size:
            context = self.base.model.block_size
            raise InvalidSettingError(
                f"block_size is {config.block_size:,}, and the model's context {context:,}",
                f"choose at most {context:,}",
            )
        return config

    def model(self, survey: Survey | None) -> ModelConfig:
        """The model that the run trains.

        Args:
            survey: What is known of the text; None while nothing is.

        Raises:
            InvalidSettingError: The settings do not go together.
        """
        training = self.training()
        if self.base is not None:
            model: ModelConfig = self.base.model.replace(dropout=training.dropout)
            return model
        return training.model_config(self.vocab_size(survey))

    def vocab_size(self, survey: Survey | None) -> int:
        """About how many token ids there are, with one for `<|endoftext|>`."""
        values = self.values()
        if self.base is not None:
            return self.base.model.vocab_size
        if values["tokenizer"] == "bpe":
            return int(values["vocab_size"])
        if values["tokenizer"] == "byte":
            return SMALLEST_BPE
        return (survey.alphabet if survey else ALPHABET) + 1

    def set(self, name: str, value: Any) -> None:
        """Choose a value; what was said last of steps and epochs is the length that counts."""
        if name == "steps":
            self._put("epochs", None)
        self._put(name, value)

    def _put(self, name: str, value: Any) -> None:
        self.overrides.pop(name, None)
        if self.preset_values()[name] != value:
            self.overrides[name] = value

    def reset(self, name: str) -> None:
        """Back to the preset's value."""
        self.overrides.pop(name, None)

    def choose_preset(self, name: str) -> None:
        """Take another preset; what was changed by hand stays as it is."""
        values = self.values()
        changed = list(self.overrides)
        self.preset = name
        self.overrides = {}
        for each in changed:
            self._put(each, values[each])

    def choose_base(self, base: BaseModel | None) -> None:
        """Go on from a model, or from none; the usual preset for that comes with it."""
        usual = DEFAULT_PRESET if self.base is None else FINETUNE_PRESET
        if (base is None) != (self.base is None) and self.preset == usual:
            self.preset = FINETUNE_PRESET if base is not None else DEFAULT_PRESET
        self.base = base

    def is_changed(self, name: str) -> bool:
        """Whether a setting is other than the preset's."""
        return name in self.overrides and not self.is_models_own(name)

    def is_models_own(self, name: str) -> bool:
        """Whether a setting is the model's that is gone on from."""
        return self.base is not None and name in OF_THE_MODEL

    def without_effect(self, name: str) -> str:
        """Why a setting cannot be chosen now, in a few words; empty when it can."""
        values = self.values()
        if self.is_models_own(name):
            return "the model's"
        if name == "vocab_size" and values["tokenizer"] != "bpe":
            return "all bytes" if values["tokenizer"] == "byte" else "the text's characters"
        if name in FOR_MUON and values["optimizer"] != "muon":
            return "Muon alone"
        if name == "constant_until" and values["schedule"] != "linear":
            return "linear alone"
        if name == "bias" and values["family"] != "gpt2":
            return "gpt2 alone"
        if name == "logit_soft_cap" and values["family"] != "nanochat":
            return "nanochat alone"
        if name == "n_kv_head" and values["family"] == "gpt2":
            return "not gpt2"
        return ""

    # Texts and names

    def sources(self) -> tuple[str, ...]:
        """The texts that were typed, as names of the library and paths."""
        return parse_sources(self.text, self.known)

    def survey_request(self) -> SurveyRequest | None:
        """What to ask about the texts; None while none was chosen."""
        sources = self.sources()
        if not sources:
            return None
        val, test = (_absolute(text.strip()) if text.strip() else None for text in (self.val, self.test))
        return SurveyRequest(names=tuple(map(_absolute, sources)), val=val, test=test)

    def free_name(self) -> str:
        """The name that the run gets when none is typed."""
        return free_run_name("-".join(map(text_name, self.sources()[:3])) or "run")

    def check_name(self) -> None:
        """Raise RunError when the name that was typed cannot be a run's, or is taken."""
        name = self.name.strip()
        if not name:
            return
        check_run_name(name)
        if (free := free_run_name(name)) != name:
            raise RunError(f"there is a run {name} already", f"{free} is free")

    def config(self) -> RunConfig:
        """What to start.

        Raises:
            MiniGPTError: Something is missing or wrong; the first of it is said.
        """
        sources = self.sources()
        if not sources:
            raise DataError("no text was chosen yet", "type a path, or choose one of the list")
        val, test = self.val.strip(), self.test.strip()
        for name in (*sources, *filter(None, (val, test))):
            self._check_text(name)
        self.check_name()
        training = self.training()
        self.model(None)
        return RunConfig(
            name=self.name.strip() or self.free_name(),
            created=time.time(),
            training=training,
            text=TextSources(
                train=tuple(map(_absolute, sources)),
                val=_absolute(val) if val else None,
                test=_absolute(test) if test else None,
                column=self.column.strip() or None,
            ),
            device=self.device,
            nproc=self.nproc,
            base=str(Path(self.base.info.path).absolute()) if self.base else "",
        )

    def _check_text(self, name: str) -> None:
        """Raise DataError unless there is something by that name; what it holds is not asked."""
        if _exists(name):
            return
        if name not in self.known:
            raise DataError(f"there is no text {name}", nearest_hint(name, self.known))
        if self.known[name] == "to download":
            raise DataError(f"{name} is not downloaded yet", f"minigpt-tui data get {name}")


def parse_sources(text: str, known: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Texts from a line: parted by commas; or as a shell writes them, with quotes, where that finds what is there.

    Args:
        text: The line.
        known: The texts that have a name.
    """

    def is_there(name: str) -> bool:
        return name in (known or {}) or _exists(name)

    text = text.strip()
    if not text or is_there(text):
        return (text,) if text else ()
    found: list[str] = []
    for part in filter(None, map(str.strip, text.split(","))):
        words = _shell_words(part)
        found += words if not is_there(part) and all(map(is_there, words)) else [part]
    return tuple(found)


def _shell_words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a quote that is not closed yet
        return [text]


def _exists(name: str) -> bool:
    try:
        return Path(name).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long, ~somebody, a zero byte
        return False


def _absolute(name: str) -> str:
    """A text as another process finds it: by its name, or its absolute path."""
    return findable(Path(name).expanduser() if name.startswith("~") and _exists(name) else name)
