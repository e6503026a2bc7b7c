"""The application: its endpoints, what stands before them, and the one shape of everything that goes wrong."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from engine import __version__
from engine.errors import MiniGPTError
from minigpt_tui.server import chat, completions, evaluating, listing, plain
from minigpt_tui.server.backend import Backend
from minigpt_tui.server.faults import Fault
from minigpt_tui.server.fields import Asked
from minigpt_tui.server.guard import Guard, refusal
from minigpt_tui.server.meters import Counting

ABOUT = """Writes on from prompts with small GPTs. The endpoints under `/v1` speak as OpenAI's do, so that its clients
work here; the others are plain. The same prompt, settings and `seed` give the same text, however many others are
written at the same time.
"""


def build(backend: Backend, *, api_key: str = "", only_here: bool = True, cors: Sequence[str] = ()) -> FastAPI:
    """The application.

    Args:
        backend: The engine and what goes with it.
        api_key: The key that every request has to bring; empty for none.
        only_here: Whether the server is reached from its own machine alone.
        cors: The origins whose pages may use it; `*` for all.
    """
    app = FastAPI(title="minigpt-tui", version=__version__, description=ABOUT, separate_input_output_schemas=False)
    app.state.backend = backend
    keyed: dict[str, Any] = {"dependencies": [Security(HTTPBearer(auto_error=False))]} if api_key else {}
    for router in (completions.router, chat.router, listing.models, plain.router, evaluating.router):
        app.include_router(router, **keyed)
    app.include_router(listing.router)

    # The last one added stands first: a page's question whether it may ask is answered without a key.
    app.add_middleware(Guard, api_key=api_key, only_here=only_here, body_bytes=backend.limits.body_bytes)
    if cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(Counting, meters=backend.meters)

    @app.exception_handler(Fault)
    async def fault(_: Request, error: Fault) -> Response:
        return refusal(error)

    @app.exception_handler(MiniGPTError)
    async def engine_error(_: Request, error: MiniGPTError) -> Response:
        return refusal(backend.keeper.fault(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return refusal(_invalid(error))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return refusal(_http(request, error))

    @app.exception_handler(Exception)
    async def mistake(_: Request, error: Exception) -> Response:
        return refusal(
            Fault(500, f"the server failed ({type(error).__name__}): its log has more", code="server_failed")
        )

    return app


def _http(request: Request, error: HTTPException) -> Fault:
    """What Starlette or FastAPI refused."""
    match error.status_code:
        case 400:
            return Fault(422, "the request is not JSON", code="invalid_json")
        case 404:
            return Fault(404, f"there is no {request.url.path}: /docs lists what there is", code="not_found")
        case 405:
            headers = dict(error.headers or {})
            return Fault(
                405, f"{request.url.path} is not asked with {request.method}", code="wrong_method", headers=headers
            )
        case 413:
            return Fault(413, str(error.detail), code="request_too_large")
        case status:
            return Fault(status, str(error.detail), code="invalid_request")


def _invalid(error: RequestValidationError) -> Fault:
    """The first thing that is wrong with a request."""
    problems = error.errors()
    # A field that is not known may be another one that is missing, misspelt.
    first = next((problem for problem in problems if problem["type"] == "extra_forbidden"), problems[0])
    place = [part for part in first["loc"] if part not in ("body", "query", "path")]
    param = _name(place)
    if first["type"] == "json_invalid":
        return Fault(422, f"the request is not JSON ({first['ctx']['error']})", code="invalid_json")
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(place[-1]), _names(Asked), n=1)
        hint = f": did you mean {near[0]}?" if near else ""
        return Fault(
            422, f"Unrecognized request argument supplied: {param}{hint}", param=param, code="unknown_parameter"
        )
    if not place:
        return Fault(422, "the request has to be a JSON object, sent as application/json", code="invalid_type")
    message = str(first["msg"])
    return Fault(422, f"{param}: {message[:1].lower()}{message[1:]}", param=param, code="invalid_value")


def _name(place: Sequence[Any]) -> str:
    """Where something is wrong, as it is written in Python; which of several forms did not fit is left out."""
    name = ""
    for part in place:
        if isinstance(part, int):
            name += f"[{part}]"
        elif part.isidentifier() and part not in ("str", "int"):
            name += f".{part}" if name else part
    return name or ".".join(str(part) for part in place)


def _names(kind: type[BaseModel]) -> list[str]:
    """The fields of all requests."""
    names = {*kind.model_fields}
    for other in kind.__subclasses__():
        names |= {*_names(other)}
    return sorted(names)
