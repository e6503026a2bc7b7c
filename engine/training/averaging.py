"""A running mean of the weights along a run, which is often better than the weights themselves: it evens out what the
latest batches did. Knows nothing of runs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from engine.model.gpt import GPT
from engine.training.distributed import is_shared, share_of, whole
from engine.training.losses import assembled
from engine.training.state import AVERAGE_PREFIX, WEIGHTS_PREFIX


class Average:
    """The mean of a model's weights over the steps so far, the later ones counting more (Shamir and Zhang, 2013).

    Each step moves it by 1 / (share x step) of the way to the weights, so it looks back on about that share of the
    steps, however many they are. It depends on the weights and the step's number alone.

    Args:
        gpt: The model that is trained. Where several processes share it, each keeps the mean of its share.
        share: Of the steps so far, above 0.
    """

    def __init__(self, gpt: GPT, share: float) -> None:
        self._share, self._trained = share, gpt
        self._weights = {name: weight.detach() for name, weight in gpt.named_parameters()}
        self._gpt: GPT | None = None
        if is_shared(gpt.embedding.weight):
            self._mean = {name: weight.clone() for name, weight in self._weights.items()}
        else:
            self._gpt = copy.deepcopy(gpt)
            self._mean = {name: weight.detach() for name, weight in self._gpt.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 0."""
        nearness = 1.0 / max(1.0, self._share * (step + 1))
        for name, mean in self._mean.items():
            mean.lerp_(self._weights[name], nearness)

    def whole_model(self) -> GPT:
        """A model with the mean; where it is shared, every process has to ask, and it is a copy."""
        return assembled(self._trained, self._mean) if self._gpt is None else self._gpt

    def state(self) -> dict[str, Tensor]:
        """The weights that are trained, whole and on the CPU, to lie beside a checkpoint whose model has the mean."""
        return {WEIGHTS_PREFIX + name: whole(weight).cpu().clone() for name, weight in self._weights.items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from the mean of a checkpoint; where it has none, one begins from the weights as they are."""
        for name, mean in self._mean.items():
            known = tensors.get(AVERAGE_PREFIX + name)
            mean.copy_(self._weights[name] if known is None else share_of(mean, known.to(mean.device)))
