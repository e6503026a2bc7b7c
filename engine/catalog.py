"""Which models there are, by reading their directories alone: names, facts, damage. Knows nothing of torch.

A model is a directory with `config.json` and `model.safetensors`. Its name is its folder's name under one of the
checkpoint folders (the user's own, the bundled ones, those that were added), a path, or RUN, RUN:best, RUN:last,
RUN:step-N. A folder that was added may be a model itself.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec

from engine import folders, safe_writing
from engine.config import POSITIONS
from engine.errors import CheckpointError, ModelNotFoundError
from engine.formats.safetensors_header import read_weights_header
from engine.model_folders import added_folders

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
RECORD = "minigpt.json"
TOKENIZER = "tokenizer.json"
TRAINING = "training"
STATE = f"{TRAINING}/state.safetensors"
"""What a run needs beside the weights to go on from a checkpoint; others never read it."""

DRAFT = "draft"
"""The folder of the table that texts are guessed with; a model without it says the same, more slowly."""

DEFAULT_MODEL = "shakespeare"

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Record(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`minigpt.json`: what our own training knows of a checkpoint, beside what Hugging Face's files say.

    Attributes:
        format: Version of this file's layout.
        files: The sha256 of every other file of the checkpoint by its name relative to the directory.
        step: Optimizer steps taken.
        losses: Loss in nats per token by split, such as {"train": 1.1, "val": 1.45}. While a run goes on, all are of
            `eval_tokens` spread over the split; at its end `val` and `test` of what is kept whole are of whole splits.
        running_val_loss: What `val` was while the run went on, once it is of the whole split.
        data: What the text was, as `engine.text.provenance.TextRecord`.
        training: All of the run's settings.
        architecture: What config.json cannot say: bias and positions.
        history: (step, train loss, validation loss or None) along the run, thinned out.
    """

    format: int = 1
    created: str = ""
    written_by: str = ""
    run: str = ""
    step: Count = 0
    tokens_seen: Count = 0
    seconds: float = 0.0
    losses: dict[str, float] = {}
    running_val_loss: float | None = None
    data: dict[str, Any] = {}
    tokenizer: str = ""
    training: dict[str, Any] = {}
    architecture: dict[str, Any] = {}
    history: list[tuple[int, float | None, float | None]] = []
    device: str = ""
    torch: str = ""
    files: dict[str, str] = {}


class CheckpointInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of models shows of one.

    Attributes:
        problem: What is wrong with it, or empty. Hashes are not checked for a list; `verify_checkpoint` does.
        parameters: Weights stored, read from the header of the weights file; 0 when it cannot be read.
        size: Bytes of all its files.
    """

    name: str
    path: str
    family: str = ""
    parameters: int = 0
    tokenizer: str = ""
    vocab_size: int = 0
    block_size: int = 0
    dtype: str = ""
    val_loss: float | None = None
    step: int | None = None
    trained_on: str = ""
    size: int = 0
    modified: float = 0.0
    bundled: bool = False
    problem: str = ""


def checkpoint_folders() -> list[Path]:
    """Where models are looked for by name, in order: what was a name stays one when a folder is added."""
    return [folders.user_checkpoints(), folders.bundled_checkpoints(), *added_folders()]


def models_in(folder: Path) -> list[Path]:
    """What lies in a checkpoint folder, models or not; the folder itself where that is one.

    Raises:
        CheckpointError: It cannot be read.
    """
    return [folder] if folder in added_folders() and is_checkpoint(folder) else _children(folder)


def is_checkpoint(path: Path) -> bool:
    """Whether a directory looks like a model, whole or damaged; a killed replacement of it is undone first."""
    if not _holds(path.is_dir):
        safe_writing.recover(path)
    return _holds(path.is_dir) and any(_holds((path / name).exists) for name in (CONFIG, WEIGHTS, RECORD))


def list_checkpoints() -> list[CheckpointInfo]:
    """Every model that goes by a name: the default first, then one's own, the bundled ones, and the runs' best."""
    found: dict[str, CheckpointInfo] = {}
    for folder in (*checkpoint_folders(), folders.runs_folder()):
        for info in _infos(folder):
            found.setdefault(info.name, info)
    return sorted(found.values(), key=lambda info: info.name != DEFAULT_MODEL)


def _infos(folder: Path) -> Iterator[CheckpointInfo]:
    """What a list shows of a folder of models or of runs; what cannot be read is a model with a problem."""
    try:
        children = models_in(folder)
    except CheckpointError as error:
        yield CheckpointInfo(name=str(folder), path=str(folder), problem=str(error))
        return
    for child in children:
        try:
            path = run_checkpoint(child, "best") if folder == folders.runs_folder() else child
        except CheckpointError as error:
            yield CheckpointInfo(name=child.name, path=str(child), problem=str(error))
        else:
            if path and is_checkpoint(path):
                yield read_info(path, child.name)


def default_model() -> str:
    """The name of the model to use when none is named.

    Raises:
        ModelNotFoundError: There is none at all.
    """
    for info in list_checkpoints():
        if not info.problem:
            return info.name
    raise ModelNotFoundError("there is no model yet", "train one: minigpt-tui train data/fables.txt --preset nano")


def find_checkpoint(name: str = "") -> Path:
    """The directory of a model by its name (empty for the default), a path, RUN or RUN:CHECKPOINT.

    Raises:
        ModelNotFoundError: Nothing goes by that name; the nearest names are in the hint.
        CheckpointError: A run of that name has no checkpoint yet, or not that one.
    """
    name = name or default_model()
    run_name, _, which = name.partition(":")
    if _is_plain(name):
        for folder in checkpoint_folders():
            if is_checkpoint(folder / name):
                return folder / name
            if folder.name == name and folder in added_folders() and is_checkpoint(folder):
                return folder
    # what has a separator behind the colon is a path with a drive's letter before it: C:\models\mine
    if _is_plain(run_name) and _is_plain(which or "best") and _holds((run := folders.runs_folder() / run_name).is_dir):
        if path := run_checkpoint(run, which or "best"):
            return path
        there = ", ".join(path.name for path in run_checkpoints(run)) or "none yet"
        raise CheckpointError(f"the run {run_name} has no checkpoint {which or 'best'}", f"it has: {there}")
    path = folders.expanded(Path(name))
    if is_checkpoint(path):
        return path
    if _holds(path.exists):
        raise CheckpointError(f"{name} is not a model", f"a model is a folder with {CONFIG} and {WEIGHTS}")
    known = [info.name for info in list_checkpoints()]
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known) or 'none'}"
    raise ModelNotFoundError(f"there is no model {name!r}", hint)


def run_checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run's directory by step, first to last."""
    steps = [path for path in _children(run / "checkpoints") if path.name.startswith("step-") and is_checkpoint(path)]
    return sorted(steps, key=_step)


def run_checkpoint(run: Path, which: str) -> Path | None:
    """The checkpoint of a run's directory that is its best or last one, or `step-N`; None where there is none."""
    checkpoints = run_checkpoints(run)
    if which == "last":
        return checkpoints[-1] if checkpoints else None
    if which == "best":
        return _best(checkpoints) or (checkpoints[-1] if checkpoints else None)
    return next((path for path in checkpoints if path.name == which), None)


def _step(path: Path) -> int:
    digits = path.name.removeprefix("step-")
    return int(digits) if digits.isdecimal() else -1


def _best(checkpoints: list[Path]) -> Path | None:
    """The checkpoint with the lowest validation loss, of losses that can be compared.

    Those over the whole split are compared with each other alone, and only after the run's end: when it goes on, its
    last checkpoint has none. Then all are compared by what they were while it went on.
    """
    known: dict[Path, tuple[float, float | None]] = {}
    for path in checkpoints:
        with contextlib.suppress(CheckpointError):
            record = read_record(path)
            if (loss := record.losses.get("val")) is not None:
                known[path] = loss, record.running_val_loss
    if not known:
        return None
    has_ended = checkpoints[-1] in known and known[checkpoints[-1]][1] is not None
    losses = {
        path: loss if has_ended or running is None else running
        for path, (loss, running) in known.items()
        if running is not None or not has_ended
    }
    return min(losses, key=lambda path: losses[path])


def _is_plain(name: str) -> bool:
    return bool(name) and "/" not in name and "\\" not in name and name not in (".", "..")


def _holds(test: Callable[[], bool]) -> bool:
    """A test of a path; false where a name is longer than the file system's, or a folder may not be looked into."""
    try:
        return test()
    except OSError:
        return False


def _children(folder: Path) -> list[Path]:
    """The directories in a folder by name, without hidden ones; what a killed writer set aside is brought back."""
    safe_writing.recover_all(folder)
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read ({error.strerror})", "see whose it is, with ls -ld") from None


def read_config(path: Path) -> dict[str, Any]:
    """A model's `config.json`.

    Raises:
        CheckpointError: It is missing or no JSON object.
    """
    config: dict[str, Any] = _read_json(path / CONFIG, dict[str, Any])
    return config


def read_record(path: Path) -> Record:
    """A model's `minigpt.json`; an empty record when it has none, as models from elsewhere.

    Raises:
        CheckpointError: It is there and cannot be read, or is of a newer layout.
    """
    if not (path / RECORD).exists():
        return Record()
    record: Record = _read_json(path / RECORD, Record)
    if record.format > 1:
        raise CheckpointError(f"{path / RECORD} is of a newer minigpt-tui (format {record.format})", "update this one")
    return record


def _read_json(path: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing", "the model is incomplete; copy or train it again") from None
    except (OSError, msgspec.DecodeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error})", "the model is damaged; copy or train it again"
        ) from None


def read_info(path: Path, name: str = "") -> CheckpointInfo:
    """The facts of one model; what is wrong with it comes back in `problem`, not as an error."""
    name = name or path.name
    bundled = path.parent == folders.bundled_checkpoints()
    try:
        config, record = read_config(path), read_record(path)
        parameters, dtype = read_weights_header(path / WEIGHTS)
        family = config.get("model_type")
        if not isinstance(family, str) or family not in POSITIONS:
            raise CheckpointError(f"{path / CONFIG} has model_type {family!r}", f"known are {', '.join(POSITIONS)}")
        vocab_size = _whole_number(path, config, "vocab_size")
        block_size = _whole_number(path, config, "max_position_embeddings", "n_positions", "n_ctx")
        files = [file.stat() for file in path.rglob("*") if file.is_file()]
    except CheckpointError as error:
        return CheckpointInfo(name=name, path=str(path), bundled=bundled, problem=str(error))
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror})"
        return CheckpointInfo(name=name, path=str(path), bundled=bundled, problem=problem)
    return CheckpointInfo(
        name=name,
        path=str(path),
        family=family,
        parameters=parameters,
        tokenizer=record.tokenizer,
        vocab_size=vocab_size,
        block_size=block_size,
        dtype=dtype,
        val_loss=record.losses.get("val"),
        step=record.step if record.written_by else None,
        trained_on=str(record.data.get("name", "")),
        size=sum(file.st_size for file in files),
        modified=max((file.st_mtime for file in files), default=0.0),
        bundled=bundled,
    )


def _whole_number(path: Path, config: dict[str, Any], *names: str) -> int:
    """The value of the first of these names that config.json has."""
    name = next((name for name in names if config.get(name) is not None), names[0])
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**53:
        raise CheckpointError(f"{path / CONFIG} has no whole number as its {name}", "copy or train it again")
    return value


def verify_checkpoint(path: Path, hashed: Callable[[int], None] = lambda _: None) -> list[str]:
    """What is wrong with a checkpoint, files missing or other than their hashes; empty when all is well.

    Args:
        path: Its directory.
        hashed: Told of so many bytes more, now and then; what it raises ends the work.
    """
    return _problems(path, but=(), hashed=hashed)


def verify_model(path: Path) -> list[str]:
    """What is wrong with the model in a checkpoint; what its run alone needs or it can do without is not looked at."""
    return _problems(path, but=(f"{TRAINING}/", f"{DRAFT}/"))


def _problems(path: Path, but: tuple[str, ...], hashed: Callable[[int], None] = lambda _: None) -> list[str]:
    """What is wrong with the files of a checkpoint, but those in some folders."""
    problems: list[str] = []
    try:
        record = read_record(path)
        read_config(path)
        read_weights_header(path / WEIGHTS)
    except CheckpointError as error:
        return [error.message]
    if record.written_by:
        unlisted = [name for name in (CONFIG, WEIGHTS, TOKENIZER) if name not in record.files]
        problems += [f"{RECORD} has no sha256 of {', '.join(unlisted)}"] if unlisted else []
    for name, expected in record.files.items():
        if name.startswith(but):
            continue
        if problem := _file_problem(path, name, expected, hashed):
            problems.append(problem)
    return problems


def _file_problem(path: Path, name: str, expected: str, hashed: Callable[[int], None]) -> str:
    """What is wrong with one file of a model, or nothing."""
    pure = PurePosixPath(name)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or {*name} & {*"\\:"} or not name.isprintable():
        return f"{RECORD} names {name!r}, which is no file of the model"
    try:
        if not (path / name).is_file():
            return f"{name} is missing"
        if hash_file(path / name, hashed) != expected:
            return f"{name} is not what was written (its sha256 differs)"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"
    return ""


def hash_file(path: Path, hashed: Callable[[int], None] = lambda _: None) -> str:
    """The sha256 of a file, as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            hashed(len(block))
    return digest.hexdigest()
