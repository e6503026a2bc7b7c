"""Text that is safe to put on a terminal: whatever could steer it, hide or reorder what is shown becomes a symbol.

Model output is data. Both the command line and the app's text pane pass it through here. Knows nothing of torch,
nor of any screen.
"""

from __future__ import annotations

import re

_SUBSTITUTE = "␦"  # U+2426, for what has no picture of its own
_C1 = range(0x80, 0xA0)  # U+009B is a control sequence introducer of its own
_DIRECTION = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x2070))  # shows a text in another order
_ANNOTATION = range(0xFFF9, 0xFFFC)  # hides what it encloses
_SURROGATES = range(0xD800, 0xE000)  # cannot be written at all

_SYMBOLS = (
    {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}  # C0: the control pictures
    | {0x7F: "␡"}
    | dict.fromkeys((*_C1, *_DIRECTION, *_ANNOTATION), _SUBSTITUTE)
    | {0x85: "␤", 0x2028: "␤", 0x2029: "¶"}  # line ends that only some terminals obey
)
_TABLE = _SYMBOLS | dict.fromkeys(_SURROGATES, "\ufffd")

# The surrogates as one range: a class of some two thousand characters takes 4 ms to compile, at every start.
UNSAFE = re.compile("[" + "".join(f"\\u{code:04x}" for code in sorted(_SYMBOLS)) + "\\ud800-\\udfff]")
"""Matches one character that `visible` replaces."""


def visible(text: str) -> str:
    """Replace every control character but newline and tab, and what reorders text, with a visible symbol.

    One character becomes one character, so that offsets into the text stay true. C0 becomes its control picture
    (escape is ␛), DEL becomes ␡, C1 and marks of direction become ␦. Joiners and variation selectors stay: emoji
    and Indic scripts need them.

    Args:
        text: Any text.

    Returns:
        The text as it can be shown, of the same length.
    """
    return text.translate(_TABLE) if UNSAFE.search(text) else text


def visible_line(text: str) -> str:
    """`visible`, with newlines and tabs shown as spaces: for a message that must stay on one line."""
    return visible(" ".join(text.split()) if not text.isprintable() else text)
