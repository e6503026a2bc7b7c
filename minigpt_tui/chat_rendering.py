"""Has a conversation written down by a model's own chat template, in a process that ends with it: a stranger's program
makes no screen wait. Knows nothing of screens, nor of templates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from engine.errors import CheckpointError, named
from engine.text.chat import WITHOUT, Rendered, Rendering, SpecialTokens
from minigpt_tui.one_answer import ask

RENDER_SECONDS = 10.0
"""How long a template may take; one takes a few milliseconds, and the start of its process the rest."""


async def render_chat(
    template: str, messages: Sequence[Mapping[str, str]], special: SpecialTokens, *, add_generation_prompt: bool = True
) -> str:
    """The prompt for the model's next turn, to be sent with `Generate.template`.

    Args:
        template: As `engine.text.chat.read_chat_template` gives it.
        messages: Each with its `role` and `content`.
        special: The model's special tokens; their names stay words where somebody wrote them in a message.
        add_generation_prompt: Whether the text ends where the model's turn begins.

    Raises:
        CheckpointError: The template is damaged, does what it may not, or comes to no end.
        DataError: It refuses this conversation.
        WorkerError: Its process cannot be started, or ended without an answer.
    """
    request = Rendering(
        template=template,
        messages=[dict(message) for message in messages],
        bos_token=special.bos,
        eos_token=special.eos,
        add_generation_prompt=add_generation_prompt,
        special=special.names,
    )
    try:
        async with asyncio.timeout(RENDER_SECONDS):
            answer = await ask("engine.text.chat", request, Rendered)
    except TimeoutError:
        raise CheckpointError("the chat template comes to no end", WITHOUT) from None
    if answer.problem:
        raise named(answer.kind, answer.problem, answer.hint)
    return answer.text
