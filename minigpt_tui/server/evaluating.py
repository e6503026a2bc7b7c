"""`POST /evaluate`: how well a model predicts a text, or a split of the text that it was trained on."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from engine.catalog import WEIGHTS
from engine.config import SamplingParams
from engine.errors import DataError, MiniGPTError, named
from engine.split_loss import Split, SplitLoss, SplitRequest
from minigpt_tui.one_answer import ask
from minigpt_tui.server.backend import Backend, UsedBackend
from minigpt_tui.server.documents import faults
from minigpt_tui.server.engine_keeper import Served
from minigpt_tui.server.events import while_wanted
from minigpt_tui.server.faults import Fault, fault_of
from minigpt_tui.server.fields import Asked, Model
from minigpt_tui.server.texts import Job

router = APIRouter(tags=["Plain"], responses=faults(404))


class EvaluateRequest(Asked):
    """A text, or a split of the model's own."""

    model: Model = None
    text: str | None = Field(default=None, description="A text of at least two tokens.")
    split: Split | None = Field(
        default=None, description="Of the text that the model was trained on, which has to be on the server's machine."
    )


class Evaluated(BaseModel):
    """The measure."""

    model: str
    split: str | None
    loss: float = Field(description="Cross-entropy in nats per predicted token.")
    perplexity: float = Field(description="exp(loss).")
    bits_per_byte: float = Field(description="The loss in bits per byte of text: comparable between tokenizers.")
    tokens: int = Field(description="Tokens that were predicted: all but the first.")
    left_out: str = Field(description="The characters of the text that the model has never seen.")


@router.post("/evaluate")
async def evaluate(asked: EvaluateRequest, backend: UsedBackend, request: Request) -> Evaluated:
    """Measure a model on a text, or on a split of its own text (which takes a while the first time)."""
    model = backend.model(asked.model)
    if asked.text is not None and asked.split is None:
        return await while_wanted(request, _evaluate_text(backend, model, asked.text))
    if asked.split is not None and asked.text is None:
        return await while_wanted(request, _evaluate_split(backend, model, asked.split))
    raise Fault(422, "send either a text or a split", param="text", code="invalid_value")


async def _evaluate_text(backend: Backend, model: Served, text: str) -> Evaluated:
    keeper = backend.keeper
    reading = backend.write(model, [Job(text, SamplingParams(max_new_tokens=1), only_read=True)])
    try:
        (read,) = await reading.collect()
    finally:
        reading.close()
    async with backend.turn(backend.scoring):
        try:
            scored = await keeper.client.score(
                "",
                tokens=read.started.prompt_tokens,
                model=model.source,
                device=keeper.device,
                precision=keeper.precision,
            )
        except MiniGPTError as error:
            raise keeper.fault(error, "text") from None
    return Evaluated(
        model=model.id,
        split=None,
        loss=scored.loss,
        perplexity=scored.perplexity,
        bits_per_byte=scored.bits_per_byte,
        tokens=len(scored.tokens),
        left_out=read.started.left_out,
    )


async def _evaluate_split(backend: Backend, model: Served, split: Split) -> Evaluated:
    async with backend.turn(backend.measuring):
        found = await _measure(backend, model, split)
    return Evaluated(
        model=model.id,
        split=split,
        loss=found.loss,
        perplexity=found.perplexity,
        bits_per_byte=found.bits_per_byte,
        tokens=found.tokens,
        left_out="",
    )


async def _measure(backend: Backend, model: Served, split: Split) -> SplitLoss:
    """The measure of a split, which is the same every time: it is taken once."""
    try:
        weights = (model.path / WEIGHTS).stat()
    except OSError:
        raise Fault(503, f"the files of {model.id} are gone", param="model", code="model_not_found") from None
    key = model.id, split, weights.st_mtime_ns
    if key in backend.measured:
        return backend.measured[key]
    keeper = backend.keeper
    request = SplitRequest(path=str(model.path), split=split, device=keeper.device, precision=keeper.precision)
    try:
        found = await ask("engine.split_measure", request, SplitLoss)
        if found.problem:
            raise named(found.kind, found.problem, found.hint)
    except DataError as error:  # what it advises is for the command line
        advice = "send the text itself as `text`"
        raise Fault(422, f"{error.message}: {advice}", param="split", code="invalid_value") from None
    except MiniGPTError as error:
        raise fault_of(error) from None
    backend.measured[key] = found
    return found
