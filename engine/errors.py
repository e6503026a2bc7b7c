"""The errors that a user can meet: each says what happened and what to do, in one line, without a traceback."""

from __future__ import annotations


class MiniGPTError(Exception):
    """What every error for a user's eyes derives from.

    Attributes:
        message: What happened, as one sentence without a full stop.
        hint: What to do about it; empty when the message says it all.
        exit_status: The exit status of a command that ends with it.
    """

    exit_status = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}: {self.hint}" if self.hint else self.message


class InvalidSettingError(MiniGPTError, ValueError):
    """A setting is unknown or out of its range. (A ValueError, so that msgspec's decoding passes it on.)"""

    exit_status = 2


class DataError(MiniGPTError):
    """A text cannot be read or used for training."""


class TokenizerError(MiniGPTError):
    """A tokenizer cannot be trained, saved or opened."""


class CheckpointError(MiniGPTError):
    """A checkpoint is damaged, incomplete or of an unknown kind."""


class ModelNotFoundError(MiniGPTError):
    """No checkpoint goes by that name."""


class RunError(MiniGPTError):
    """A training run's directory cannot be made or used."""


class RunNotFoundError(RunError):
    """No training run goes by that name."""


class TrainingDivergedError(MiniGPTError):
    """The loss is no longer a finite number; the last good checkpoint is kept."""


class DeviceError(MiniGPTError):
    """The device asked for is not there, or ran out of memory."""


class WorkerError(MiniGPTError):
    """The engine's process could not start, ended, or broke the protocol."""


def named(kind: str, message: str, hint: str = "") -> MiniGPTError:
    """The error of a kind that another process named; a `WorkerError` where there is no such kind."""
    found = globals().get(kind)
    if isinstance(found, type) and issubclass(found, MiniGPTError):
        return found(message, hint)
    return WorkerError(message, hint)
