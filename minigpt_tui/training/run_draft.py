"""A run before it is started: what was chosen and typed so far, checked against the settings' own ranges. It outlives
the form, so that what was typed is there when the form opens again. Knows nothing of a screen, nor of a disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engine.config import SMALLEST_BPE, ModelConfig, TrainConfig
from engine.errors import InvalidSettingError
from engine.presets import DEFAULT_PRESET, FINETUNE_PRESET, PRESETS, SUMMARIES
from engine.training.run import RunConfig
from engine.training.run_making import BaseModel
from engine.training.run_wish import RunWish, TypedTexts
from engine.training.survey import Survey
from engine.validation import make, to_dict
from minigpt_tui.cli.training_settings import OF_THE_MODEL

ALPHABET = 65
"""Taken for the number of characters as long as no text was chosen: Tiny Shakespeare has so many."""

FOR_MUON = ("muon_learning_rate", "muon_momentum", "momentum_warmup_steps")
"""Settings that AdamW alone has no use for."""

LIKE = "that run's"
"""The settings of the run that this one shall be like, as a preset."""


@dataclass
class RunDraft:
    """What was chosen so far; texts stand as they were typed.

    Attributes:
        name: Empty for a free name after the text.
        preset: Name of a preset, or `LIKE`.
        overrides: Settings that are other than the preset's, by name.
        like: The run that this one shall be like.
        more: Whether all settings are shown.
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

    @classmethod
    def of(cls, config: RunConfig, name: str, base: BaseModel | None) -> RunDraft:
        """A draft of another run like this one.

        Args:
            config: This one's.
            name: A free name.
            base: The model that this one went on from.
        """
        text = config.text
        return cls(
            text=", ".join(text.train),
            val=text.val or "",
            test=text.test or "",
            column=text.column or "",
            name=name,
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

    # Texts

    @property
    def texts(self) -> TypedTexts:
        """The texts as they were typed."""
        return TypedTexts(train=self.text, val=self.val, test=self.test)

    def wish(self) -> RunWish:
        """What to start, for the machine that shall train it to look at.

        Raises:
            InvalidSettingError: The settings do not go together.
        """
        training = self.training()
        self.model(None)
        return RunWish(
            texts=self.texts,
            training=training,
            column=self.column,
            name=self.name,
            device=self.device,
            nproc=self.nproc,
            base=self.base.info.path if self.base else "",
        )
