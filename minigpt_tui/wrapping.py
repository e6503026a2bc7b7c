"""A line of words in lines of so many cells, for panels of facts. Knows nothing of what is said."""

from __future__ import annotations

from minigpt_tui.text_document import cells


def wrapped(text: str, width: int) -> list[str]:
    """A text in lines of so many cells, broken at spaces where there are any.

    Args:
        text: On one line.
        width: Cells; at least a few.
    """
    width = max(8, width)
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if cells(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if cells(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return lines
