"""Looks at a model between two steps: its loss on a text, and what it writes. Whoever trains it is asked all the while
whether to go on.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.catalog import Record
from engine.checkpoints import LoadedModel
from engine.config import SamplingParams, TrainConfig
from engine.evaluation import evaluate
from engine.inference.generator import Generation
from engine.model.gpt import GPT
from engine.text.batches import Tokens
from engine.text.tokenizers import Tokenizer
from engine.training.distributed import ALONE, Team
from engine.training.status_writer import StatusWriter


class Examiner:
    """Examines the models of one run.

    Args:
        tokenizer: The run's.
        config: Says what a sample begins with, its length and its seed.
        device: Where the models are.
        status: Told how far it is.
        obey: Called often; what it raises ends the examination.
        team: Processes that share the work of a loss.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: TrainConfig,
        device: str,
        status: StatusWriter,
        obey: Callable[[], None],
        team: Team = ALONE,
    ) -> None:
        self.tokenizer, self.config, self.device, self.status = tokenizer, config, device, status
        self.obey, self.team = obey, team

    def loss(
        self,
        gpt: GPT,
        tokens: Tokens,
        activity: str,
        limit: int | None = None,
        *,
        first: float = 0.0,
        last: float = 1.0,
    ) -> float:
        """The loss of a model, in nats per token.

        Args:
            gpt: The model.
            tokens: (N,) ids.
            activity: What the status calls it.
            limit: Tokens to predict, spread over them all; None for all.
            first: The share of the activity that is done before it.
            last: The share that is done after it.
        """

        def report(done: int, total: int) -> None:
            self.status.tell(activity=activity, done=first + (last - first) * done / total)
            self.obey()

        self.status.tell(activity=activity, done=first)
        try:
            return evaluate(gpt, self.tokenizer, tokens, limit=limit, progress=report, team=self.team).loss
        finally:
            self.status.tell(activity="", done=0.0)

    def sample(self, gpt: GPT) -> tuple[str, str]:
        """The prompt, without the characters that the tokenizer does not know, and what a model writes behind it.

        Only a process alone is asked whether to go on: the others of a team do not wait in the same place.
        """
        ids, prompt, _ = self.tokenizer.encode_prompt(self.config.sample_prompt)
        params = SamplingParams(max_new_tokens=self.config.sample_tokens, seed=self.config.seed)
        parts: list[str] = []
        gpt.eval()
        self.status.tell(activity="writing a sample")
        try:
            model = LoadedModel("", None, gpt, self.tokenizer, Record(), self.device, "fp32", "")
            generation = Generation(model, ids, params)
            for token in generation:
                parts.append(token.text)
                if self.team.size == 1:
                    self.obey()
        finally:
            gpt.train()
            self.status.tell(activity="")
        return prompt, "".join(parts) + generation.tail
