"""How much of a text is sent to a model that sees only so many tokens: a server refuses what is longer, where our own
engines let go of the text's beginning. Knows nothing of HTTP.
"""

from __future__ import annotations

import re

from engine.errors import InvalidSettingError, MiniGPTError

_TOO_LONG = re.compile(r"context (size|length|window)|context_length_exceeded", re.I)


class Window:
    """What is sent of one text.

    Args:
        context: Tokens that the model sees at most; 0 where that is not known, and nothing is left out then.

    Attributes:
        start: Characters at the beginning of the text that are not sent.
        most: Tokens that are asked for at once; None for no limit.
    """

    def __init__(self, context: int) -> None:
        self._context = context
        self.start = 0
        self.most: int | None = None

    def shrink(self, error: MiniGPTError, prompt: str, asked: int) -> bool:
        """Whether a refusal is of a text that is too long, and less will be sent from now on.

        Args:
            error: The refusal.
            prompt: What was sent.
            asked: The tokens that were asked for: some servers count them too.
        """
        if not self._context or not isinstance(error, InvalidSettingError) or not _TOO_LONG.search(error.message):
            return False
        half = max(1, self._context // 2)
        if asked > half:
            self.most = half
        elif len(prompt) > 1:
            self.start += (len(prompt) + 1) // 2
        else:
            return False
        return True
