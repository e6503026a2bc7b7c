"""A sweep: a grid over the values of one or two sampling settings, as it is typed and as the settings of its cells.
Knows nothing of models or screens.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from engine.config import SamplingParams
from engine.errors import InvalidSettingError
from minigpt_tui.parameters import PARAMETERS, Parameter

FEWEST, MOST = 2, 4
"""Values of each setting."""

EXAMPLE = "temperature 0.4 0.8 1.2 x top-p 0.5 0.9 1"

_PARTS = re.compile(r"\s+[x×*]\s+|\s*,\s*(?=[a-zA-Z])")
_SWEPT = [parameter for parameter in PARAMETERS if parameter.field not in ("seed", "stop")]


@dataclass(frozen=True)
class Axis:
    """One setting and its values.

    Attributes:
        shown: The values as a reader knows them.
    """

    parameter: Parameter
    values: tuple[float, ...]
    shown: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """A grid.

    Attributes:
        rows: The setting that changes from row to row.
        columns: The one that changes along a row; None where there is one setting alone.
    """

    rows: Axis
    columns: Axis | None

    def cells(self, base: SamplingParams) -> list[SamplingParams]:
        """The settings of its cells, row by row.

        Args:
            base: What holds for all of them but what is swept.
        """
        return [
            params if self.columns is None else self.columns.parameter.replaced(params, value)
            for params in (self.rows.parameter.replaced(base, value) for value in self.rows.values)
            for value in (self.columns.values if self.columns else (0,))
        ]


def parse_sweep(text: str) -> Sweep:
    """A sweep as it is typed, such as `temperature 0.4 0.8 1.2 x top-p 0.5 1`.

    Raises:
        InvalidSettingError: It is none; the message says what it lacks.
    """
    axes = [_axis(part) for part in _PARTS.split(text.strip()) if part.strip()]
    if not axes:
        raise InvalidSettingError("nothing is swept", f"such as {EXAMPLE}")
    if len(axes) > 2:
        raise InvalidSettingError("a grid has two settings at most", f"such as {EXAMPLE}")
    if len(axes) == 2 and axes[0].parameter is axes[1].parameter:
        raise InvalidSettingError(f"{axes[0].parameter.name} is there twice", "a grid is over two settings, or one")
    return Sweep(axes[0], axes[1] if len(axes) == 2 else None)


def _axis(text: str) -> Axis:
    words = text.split()
    parameter = _parameter(words)
    params: list[SamplingParams] = []
    for word in words:
        made = parameter.typed(SamplingParams(), word)
        if made in params:
            raise InvalidSettingError(f"{parameter.name} {word} is there twice", "each value once")
        params.append(made)
    if not FEWEST <= len(params) <= MOST:
        raise InvalidSettingError(
            f"{parameter.name} has {len(params) or 'no'} value{'' if len(params) == 1 else 's'}",
            f"give {FEWEST} to {MOST}, with spaces between them",
        )
    return Axis(
        parameter,
        tuple(parameter.value(made) for made in params),
        tuple(parameter.shown(made) for made in params),
    )


def _parameter(words: list[str]) -> Parameter:
    """The setting that the first words name; they are taken away."""
    known = {name: parameter for parameter in _SWEPT for name in (parameter.name, parameter.field, parameter.short)}
    for count in (2, 1):  # a name may have two words
        if parameter := known.get(" ".join(words[:count]).lower()):
            del words[:count]
            return parameter
    names = [parameter.name for parameter in _SWEPT]
    near = difflib.get_close_matches(words[0].lower(), known, n=1)
    hint = f"did you mean {known[near[0]].name}?" if near else f"there are {', '.join(names)}"
    raise InvalidSettingError(f"{words[0]} cannot be swept", hint)
