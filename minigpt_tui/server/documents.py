"""What the API's description says of answers beside the plain one: streams, and errors in their one shape."""

from __future__ import annotations

from typing import Any

from minigpt_tui.server.faults import FaultBody

Responses = dict[int | str, dict[str, Any]]

WHY = {
    400: "The request asks for something that this server has not.",
    401: "The API key is missing or wrong.",
    403: "The server is for its own machine and was called by another name.",
    404: "There is no such model.",
    413: "The request is too large.",
    422: "A field is missing, unknown or out of its range, or a text cannot be used.",
    429: "The line is full; Retry-After says when to come again.",
    500: "The engine failed.",
    503: "The engine is being started again; Retry-After says when to come again.",
}

EVERYWHERE = (400, 401, 403, 413, 422, 429, 500, 503)


def faults(*further: int) -> Responses:
    """The errors of an endpoint that writes."""
    return {status: {"model": FaultBody, "description": WHY[status]} for status in (*EVERYWHERE, *further)}


def some_faults(*statuses: int) -> Responses:
    """The errors of another one."""
    return {status: {"model": FaultBody, "description": WHY[status]} for status in (401, 403, *statuses)}


def or_events(chunk: str) -> Responses:
    """A stream in the place of a whole answer.

    Args:
        chunk: What its events are called.
    """
    about = (
        f"A stream of events, each `data: ` and {chunk} as JSON; the last one is `data: [DONE]`. "
        'An error in mid-stream is an event with `{"error": …}`, and then there is no `[DONE]`.'
    )
    data = {"type": "string", "description": about}
    event = {"itemSchema": {"type": "object", "properties": {"data": data}, "required": ["data"]}}
    return {200: {"content": {"text/event-stream": event}, "description": "The answer, or with `stream` its pieces."}}
