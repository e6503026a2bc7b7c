"""`POST /generate`, `/generate/batch` and `/generate_text`: the endpoints that tutorials put before a GPT of their own,
with plain fields in and plain fields out.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from engine.config import SamplingParams
from minigpt_tui.server.backend import Backend, UsedBackend
from minigpt_tui.server.documents import faults
from minigpt_tui.server.engine_keeper import Served
from minigpt_tui.server.events import while_wanted
from minigpt_tui.server.faults import Fault
from minigpt_tui.server.fields import Asked, Drawing, Model, Tokens
from minigpt_tui.server.texts import Job, Text, seeds

router = APIRouter(tags=["Plain"], responses=faults(404))

DEFAULTS = SamplingParams()
"""Those of the command line."""


class PlainDrawing(Drawing):
    """How a text is drawn, and how long it is."""

    max_length: Tokens | None = Field(default=None, description="As max_new_tokens: the prompt is not counted.")
    max_new_tokens: Tokens | None = Field(default=None, description=f"{DEFAULTS.max_new_tokens} where it is left out.")
    return_full_text: bool = Field(default=False, description="Whether generated_text begins with the prompt.")

    def settings(self, backend: Backend) -> SamplingParams:
        """The settings of each text.

        Raises:
            Fault: It is to be longer than the server allows, or has two lengths.
        """
        if None not in (self.max_length, self.max_new_tokens) and self.max_length != self.max_new_tokens:
            raise Fault(
                422, "max_length and max_new_tokens are the same: send one", param="max_length", code="invalid_value"
            )
        name = "max_length" if self.max_new_tokens is None else "max_new_tokens"
        asked = self.max_new_tokens if self.max_new_tokens is not None else self.max_length
        params = self.params(DEFAULTS, backend.length(asked, DEFAULTS.max_new_tokens, name))
        seeded: SamplingParams = params.replace(seed=self.first_seed)
        return seeded


class GenerateRequest(PlainDrawing):
    """Write on from a prompt."""

    prompt: str


class BatchRequest(PlainDrawing):
    """Write on from several prompts; each text is the one that its prompt alone would have with this seed."""

    prompts: Annotated[list[str], Field(min_length=1)]


class TextRequest(Asked):
    """Write on from a prompt, with the fields that matter most."""

    prompt: str
    model: Model = None
    temperature: float | None = Field(default=None, ge=0, le=10, allow_inf_nan=False)
    max_new_tokens: Tokens | None = None


class Generated(BaseModel):
    """A text."""

    generated_text: str = Field(description="What was written; the prompt before it, where return_full_text is true.")
    prompt: str = Field(description="The prompt as the model read it.")
    left_out: str = Field(description="The characters of the prompt that the model has never seen.")
    model: str
    finish_reason: str = Field(description="length or stop.")
    seed: int = Field(description="Ask with it again, and the same text comes.")
    prompt_tokens: int
    new_tokens: int
    tokens_per_second: float = Field(description="After the first token.")
    time_to_first_token: float = Field(description="Seconds from the text's turn on.")


class GeneratedBatch(BaseModel):
    """Texts, in the order of their prompts."""

    results: list[Generated]


class GeneratedText(BaseModel):
    """A text alone."""

    generated_text: str


@router.post("/generate")
async def generate(asked: GenerateRequest, backend: UsedBackend, request: Request) -> Generated:
    """Write on from a prompt."""
    model = backend.model(asked.model)
    (text,) = await _write(backend, request, model, [asked.prompt], asked.settings(backend))
    return _generated(model, text, asked.return_full_text)


@router.post("/generate/batch")
async def generate_batch(asked: BatchRequest, backend: UsedBackend, request: Request) -> GeneratedBatch:
    """Write on from several prompts at once."""
    model = backend.model(asked.model)
    backend.check_batch(len(asked.prompts), "prompts")
    texts = await _write(backend, request, model, asked.prompts, asked.settings(backend))
    return GeneratedBatch(results=[_generated(model, text, asked.return_full_text) for text in texts])


@router.post("/generate_text")
async def generate_text(asked: TextRequest, backend: UsedBackend, request: Request) -> GeneratedText:
    """Write on from a prompt, and answer with the text alone."""
    drawing = PlainDrawing(temperature=asked.temperature, max_new_tokens=asked.max_new_tokens)
    model = backend.model(asked.model)
    (text,) = await _write(backend, request, model, [asked.prompt], drawing.settings(backend))
    return GeneratedText(generated_text=text.text)


async def _write(
    backend: Backend, request: Request, model: Served, prompts: list[str], params: SamplingParams
) -> list[Text]:
    jobs = [Job(prompt, params.replace(seed=seeds(params.seed, 1)[0])) for prompt in prompts]
    texts = backend.write(model, jobs)
    try:
        return await while_wanted(request, texts.collect())
    finally:
        texts.close()


def _generated(model: Served, text: Text, with_prompt: bool) -> Generated:
    started, done = text.started, text.done
    return Generated(
        generated_text=(started.prompt if with_prompt else "") + text.text,
        prompt=started.prompt,
        left_out=started.left_out,
        model=model.id,
        finish_reason=done.finish_reason,
        seed=done.seed,
        prompt_tokens=len(started.prompt_tokens),
        new_tokens=done.new_tokens,
        tokens_per_second=done.tokens_per_second,
        time_to_first_token=done.time_to_first_token,
    )
