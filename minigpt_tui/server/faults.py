"""What is answered when a request cannot be done: one shape for everything, the one that OpenAI's clients read. Knows
nothing of how a request came to fail.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from engine.errors import DataError, InvalidSettingError, MiniGPTError, TokenizerError

RETRY_SECONDS = 2
"""When to ask again while the engine starts anew."""


class Fault(Exception):  # noqa: N818 (not all of them are errors of ours)
    """A request that ends with an error.

    Attributes:
        status: The HTTP status.
        message: What is wrong and what to do, for whoever asked.
        param: The field that is wrong.
        code: A word for programs.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = headers or {}

    @property
    def body(self) -> FaultBody:
        """The answer."""
        kind: Kind = "invalid_request_error"
        if self.status == 429:
            kind = "requests"
        elif self.status >= 500:
            kind = "server_error"
        return FaultBody(error=FaultDetail(message=self.message, type=kind, param=self.param, code=self.code))


Kind = Literal["invalid_request_error", "requests", "server_error"]


class FaultDetail(BaseModel):
    """What went wrong."""

    message: str
    type: Kind
    param: str | None = Field(description="The field of the request that is wrong.")
    code: str | None = Field(description="A word for programs, such as model_not_found.")


class FaultBody(BaseModel):
    """The answer to a request that cannot be done."""

    error: FaultDetail


def cannot(what: str, param: str) -> Fault:
    """What the request asks for is not there, and leaving it out would change the text."""
    return Fault(400, f"{what} is not supported by this server", param=param, code="unsupported_parameter")


def unavailable(message: str) -> Fault:
    """There is no engine at the moment; another one is on its way."""
    return Fault(503, message, code="engine_unavailable", headers={"Retry-After": str(RETRY_SECONDS)})


def fault_of(error: MiniGPTError, param: str | None = None) -> Fault:
    """What a client is told of an error, while the engine lives.

    Args:
        error: The error.
        param: The field that an unusable text came in.
    """
    if isinstance(error, InvalidSettingError | DataError | TokenizerError):
        return Fault(422, str(error), param=param, code="invalid_value")
    return Fault(500, str(error), code="engine_failed")
