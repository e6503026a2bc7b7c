"""The factor that keeps fp16 gradients from vanishing (Micikevicius et al., 2018). It grows until a gradient overflows,
and is halved then. Plain arithmetic; it knows nothing of models.
"""

from __future__ import annotations

FIRST, GROWTH_STEPS = 2.0**16, 2000
"""The first factor, and after how many steps without an overflow it doubles: torch.amp.GradScaler's own."""

HOPELESS_STEPS = 20
"""So many steps that overflow one after the other are no matter of the factor."""


class LossScale:
    """What the loss is multiplied by before its gradient is taken; a power of two, so that nothing is rounded.

    Attributes:
        factor: The loss is multiplied by it, and the gradient divided.
        calm: Steps since it was changed or a gradient overflowed.
        overflows: Steps that overflowed one after the other, up to the last one.
    """

    def __init__(self) -> None:
        self.factor, self.calm, self.overflows = FIRST, 0, 0

    @property
    def is_hopeless(self) -> bool:
        """Whether a smaller factor is no help any more."""
        return self.overflows >= HOPELESS_STEPS or self.factor < 1

    def overflowed(self) -> None:
        """A gradient was not finite, and its step was left out."""
        self.factor, self.calm, self.overflows = self.factor / 2, 0, self.overflows + 1

    def went_well(self) -> None:
        """A gradient was finite."""
        self.calm, self.overflows = self.calm + 1, 0
        if self.calm == GROWTH_STEPS:
            self.factor, self.calm = self.factor * 2, 0

    def state(self) -> list[float]:
        """All of it, for a checkpoint."""
        return [self.factor, self.calm, self.overflows]

    def load_state(self, state: list[float]) -> None:
        """Go on from what `state` gave."""
        self.factor, self.calm, self.overflows = state[0], int(state[1]), int(state[2])
