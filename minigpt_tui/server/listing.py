"""`GET /v1/models`, `/health` and `/metrics`: what is served, and how it goes."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from engine import __version__
from minigpt_tui.server.backend import UsedBackend
from minigpt_tui.server.documents import some_faults
from minigpt_tui.server.engine_keeper import Served
from minigpt_tui.server.faults import RETRY_SECONDS
from minigpt_tui.server.meters import CONTENT_TYPE
from minigpt_tui.server.openai_answers import ModelCard, ModelCards

models = APIRouter(tags=["OpenAI"])
router = APIRouter(tags=["State"])


class Health(BaseModel):
    """How the server is."""

    status: Literal["ok", "unavailable"]
    engine: str = Field(description="ready, or what it is doing instead: starting, importing, loading, dead.")
    running: int = Field(description="Texts that are being written.")
    waiting: int = Field(description="Texts that wait for their turn.")
    version: str


@models.get("/v1/models", responses=some_faults())
async def list_models(backend: UsedBackend) -> ModelCards:
    """The models that are served, the default first."""
    return ModelCards(data=[_card(model) for model in backend.keeper.models.values()])


@models.get("/v1/models/{model:path}", responses=some_faults(404, 422))
async def retrieve_model(model: str, backend: UsedBackend) -> ModelCard:
    """One of them."""
    return _card(backend.model(model))


@router.get("/health", responses={503: {"model": Health, "description": "The engine is not ready."}})
async def health(backend: UsedBackend, response: Response) -> Health:
    """Whether texts can be written; asked without a key."""
    state = backend.keeper.state
    if state != "ready":
        response.status_code = 503
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return Health(
        status="ok" if state == "ready" else "unavailable",
        engine=state,
        running=backend.line.running,
        waiting=backend.line.waiting,
        version=__version__,
    )


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text format."},
        **some_faults(),
    },
)
async def metrics(backend: UsedBackend) -> Response:
    """What was counted, for Prometheus."""
    return Response(backend.meters.page(), headers={"Content-Type": CONTENT_TYPE})


def _card(model: Served) -> ModelCard:
    return ModelCard(id=model.id, created=model.created)
