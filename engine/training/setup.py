"""From a run's directory to all that its training needs: the text, the tokenizer and the model, which is fresh, another
one to go on from, or the run's own last checkpoint. It says in the run's log what differs from what was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import torch
from torch import Tensor

from engine.allocation import keep_freed_memory
from engine.catalog import Record, find_checkpoint
from engine.checkpoints import open_checkpoint
from engine.config import Architecture, ModelConfig, TrainConfig
from engine.devices import resolve_device
from engine.errors import CheckpointError, DataError, InvalidSettingError
from engine.model.gpt import GPT
from engine.text.encoded import EncodedCorpus, open_encoded
from engine.text.kinds import TokenizerKind
from engine.text.provenance import SPLITS, read_text_record
from engine.text.tokenizers import Tokenizer
from engine.training.keeping import resume_point
from engine.training.launch import FIXED
from engine.training.precision import choose_precision
from engine.training.run import RunConfig, RunDirectory
from engine.training.state import AVERAGE_PREFIX, WEIGHTS_PREFIX, Progress, read_state
from engine.validation import to_dict

Report = Callable[[str, float], None]
"""Called with what is being done and the share of it that is."""

BEYOND_SETTINGS = {
    "head_size": "the width of a head", "inner_size": "the width of the MLP", "eps": "what norms add to the variance",
    "rope_theta": "the base of the rotary frequencies", "rope_factor": "what slow rotary frequencies are divided by",
}  # fmt: skip
"""What a model from elsewhere may have of its own, for which a training run has no settings."""

NAMES = {"train": "training", "val": "validation", "test": "test"}


@dataclass
class Prepared:
    """What a run begins, or goes on, with.

    Attributes:
        config: As it is in the run's directory now.
        text: The token ids.
        gpt: The model on the CPU, in fp32, with the run's dropout.
        device: cpu, cuda or mps.
        precision: Of the forward pass.
        progress: How far the run has come.
        tensors: What the optimizers remember.
    """

    config: RunConfig
    text: EncodedCorpus
    gpt: GPT
    device: str
    precision: str
    progress: Progress = field(default_factory=Progress)
    tensors: dict[str, Tensor] = field(default_factory=dict)


def prepare(run: RunDirectory, report: Report, *, writes: bool = True) -> Prepared:
    """Read a run's text and build its model, or take it up where its last checkpoint has it.

    Args:
        run: The directory; its `config.json` is completed with what is known only now.
        report: Called as the text is read; what it raises ends the work.
        writes: Whether this is the process that writes the directory.

    Raises:
        DataError: The text cannot be read, is too short, or is no longer what the run began with.
        TokenizerError: The model's tokenizer does not know a character of the text.
        CheckpointError, ModelNotFoundError: The model to start from cannot be opened.
        InvalidSettingError: A setting is not what the checkpoint to go on from was trained with.
        DeviceError: The device is not there, or cannot compute in the precision.
    """
    say: Callable[[str], None] = run.log if writes else _say_nothing
    config = run.read_config()
    device = resolve_device(config.device)
    keep_freed_memory()
    point = resume_point(run, say)
    opened = open_checkpoint(point or find_checkpoint(config.base)) if point or config.base else None
    changes: list[str] = []
    if opened and point:
        _check_settings(config.training, opened[2])
    elif opened:
        config, changes = of_base(config, opened[0].config, opened[1])
    text = _open_text(config, opened, say, report, has_begun=point is not None)
    config = _complete(config, text, device, say)
    if writes:
        run.write_config(config)
    for line in changes:
        say(line)
    if opened is None:
        gpt = GPT(config.training.model_config(text.tokenizer.vocab_size))
        gpt.initialize(torch.Generator().manual_seed(config.training.seed))
        return Prepared(config, text, gpt, device, config.precision)
    tensors, progress = read_state(point) if point else ({}, Progress())
    if any(name.startswith(WEIGHTS_PREFIX) for name in tensors):
        tensors |= {AVERAGE_PREFIX + name: weight for name, weight in opened[0].state_dict().items()}
    gpt = _trainable(opened[0], config.training.dropout, tensors)
    return Prepared(config, text, gpt, device, config.precision, progress, tensors)


def _say_nothing(_line: str) -> None:
    pass


def _open_text(
    config: RunConfig,
    opened: tuple[GPT, Tokenizer, Record] | None,
    say: Callable[[str], None],
    report: Report,
    *,
    has_begun: bool,
) -> EncodedCorpus:
    """The text of a run, as the model that was opened reads it, once it is clear that it is the text it was."""

    def encode(tokenizer: TokenizerKind | Tokenizer) -> EncodedCorpus:
        text = open_encoded(
            config.text.train,
            val=config.text.val,
            test=config.text.test,
            column=config.text.column,
            normalize=config.training.normalize,
            tokenizer=tokenizer,
            vocab_size=config.training.vocab_size,
            report=say,
            progress=report,
        )
        _check_text(text, opened[2].data if opened and has_begun else config.data)
        return text

    if opened is None:
        return encode(config.training.tokenizer)
    if has_begun and not config.base:  # a long text is encoded already, under the kind of tokenizer that was asked for
        text = encode(config.training.tokenizer)
        if text.tokenizer.sha256() == opened[1].sha256():
            return text
    return encode(opened[1])


def _trainable(gpt: GPT, dropout: float, tensors: Mapping[str, Tensor]) -> GPT:
    """A model of the same weights in fp32, with this dropout.

    The weights lie in memory that torch has laid out itself: products of what was read from a file, which may lie
    anywhere, need not be rounded alike.
    """
    own = {name.removeprefix(WEIGHTS_PREFIX): t for name, t in tensors.items() if name.startswith(WEIGHTS_PREFIX)}
    trained = GPT(gpt.config.replace(dropout=dropout))
    trained.load_state_dict(gpt.state_dict())
    trained.load_state_dict(own, strict=False)  # a tied head has one name here and two there
    return trained


# A model to start from


def of_base(config: RunConfig, base: ModelConfig, tokenizer: Tokenizer) -> tuple[RunConfig, list[str]]:
    """The settings of a run that starts from a model: its shape and its tokenizer are the model's.

    The dropout is the run's, and so is the length of its windows, `block_size`, as far as the model's context reaches;
    the model's own context stays as long as it is.

    Returns:
        The settings, and a line for each that is another than was asked for.

    Raises:
        CheckpointError: The model's shape cannot be told in settings.
    """
    asked = config.training
    shape = {name: getattr(base, name) for name in (*Architecture.__struct_fields__, "logit_soft_cap")}
    shape |= {"dropout": asked.dropout, "block_size": min(asked.block_size, base.block_size)}
    shape |= {"tokenizer": tokenizer.kind}
    if tokenizer.kind == "bpe":
        shape["vocab_size"] = tokenizer.vocab_size
    try:
        training: TrainConfig = asked.replace(**shape)
    except InvalidSettingError as error:
        raise CheckpointError(f"{config.base} cannot be trained here ({error.message})", "start from another") from None
    before, after = to_dict(asked), to_dict(training)
    for values, settings in ((before, asked), (after, training)):  # `auto` and 0 are other words for the same
        values |= {"positions": settings.position_kind, "activation": settings.activation_kind}
        values |= {"n_kv_head": settings.kv_heads}
    lines = [
        f"{name} {before[name]} -> {after[name]} (the base's)"
        for name in shape
        if before[name] != after[name] and name not in ("tokenizer", "vocab_size")
    ]
    if asked.tokenizer != tokenizer.kind or tokenizer.kind != "byte":
        lines.append(f"tokenizer {asked.tokenizer} -> the base's {tokenizer.kind}, {tokenizer.vocab_size:,} ids")
    if base.block_size > training.block_size:
        lines.append(f"windows of {training.block_size:,} tokens; the base's context of {base.block_size:,} stays")
    like_ours = training.model_config(base.vocab_size)
    lines += [
        f"{what} is {getattr(base, name):,g} (the base's)"
        for name, what in BEYOND_SETTINGS.items()
        if getattr(base, name) != getattr(like_ours, name)
    ]
    return msgspec.structs.replace(config, training=training), lines


# What must not have changed


def _check_settings(config: TrainConfig, record: Record) -> None:
    """Raise InvalidSettingError when a setting that a run keeps for life is not what its checkpoint says."""
    for name in FIXED:
        now, then = msgspec.json.decode(msgspec.json.encode(getattr(config, name))), record.training.get(name)
        if name in record.training and now != then:
            raise InvalidSettingError(
                f"{name} is {now} in config.json, and the checkpoint of step {record.step} was trained with {then}",
                f"set it back to {then}, or start another run",
            )


def _check_text(text: EncodedCorpus, known: dict[str, Any]) -> None:
    """Raise DataError when a text is too short for what it is for, or is not what the run began with.

    Args:
        text: As it was found.
        known: The record of the text that the run began with; empty when it begins now.
    """
    for split, tokens in (("validation", text.val), ("test", text.test)):
        if len(tokens) == 1:
            raise DataError(f"the {split} split has fewer than two tokens", "use a longer text")
    if not known:
        return
    then, now = read_text_record(known), read_text_record(text.data)
    for split in SPLITS:
        before, after = then.splits.get(split), now.splits.get(split)
        if (before.sha256 if before else "") != (after.sha256 if after else ""):
            sources = ", ".join(given.sources) if (given := before or after) else ""
            raise DataError(
                f"the {NAMES[split]} text is no longer what the run began with ({sources})",
                "bring it back as it was, or start another run with the text as it is",
            )


def _complete(config: RunConfig, text: EncodedCorpus, device: str, say: Callable[[str], None]) -> RunConfig:
    """The settings with what was found at the run's first start: its text's record, the threads and the precision."""
    own = torch.get_num_threads()
    threads = config.threads or own
    torch.set_num_threads(threads)  # the first time too: what was set is set alike the next time
    if threads != own:
        say(f"{threads} threads, as when the run began; this machine would use {own}")
    precision = config.precision or choose_precision(config.training, device)
    return msgspec.structs.replace(config, data=text.data, threads=threads, precision=precision)
