"""Texts in, their widths and lines out, in pixels, so that a picture can leave room for each of them.

The widths are those of DejaVu Sans, with which matplotlib draws; the sans-serif fonts of browsers are as wide or narrower. Its
own module because every picture places texts, and none may need a font to be loaded.
"""

from __future__ import annotations

import re
import unicodedata

#: Advance widths of the ASCII characters from the space to the tilde, in hundredths of the font's size.
_ASCII_WIDTHS = (
    *(32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 34, 34),
    *(84, 84, 84, 53, 100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75, 79, 60, 79, 69, 63, 61, 73, 68, 99),
    *(69, 61, 69, 39, 34, 39, 84, 50, 50, 61, 63, 55, 63, 62, 35, 63, 63, 28, 28, 58, 28, 97, 63, 61, 63, 63, 41, 52),
    *(39, 63, 59, 82, 59, 59, 52, 64, 34, 64, 84),
)
_WIDE_WIDTH, _OTHER_WIDTH = 105, 68  # of Chinese, Japanese and Korean characters and emoji; of all others
_BOLD_FACTOR = 1.12

_FIRST_STRONG_ISOLATE, _POP_ISOLATE = "\u2068", "\u2069"
_RIGHT_TO_LEFT = frozenset(["R", "AL", "RLE", "RLO", "RLI", "LRE", "LRO", "LRI", "PDF", "PDI", "FSI"])
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: What turns the direction of all text after it around, apart from the isolates of `isolate`.
_DIRECTION_CONTROLS = re.compile("[\x7f-\x9f\u202a-\u202e\u2066\u2067]")
_ISOLATES = re.compile(f"[{_FIRST_STRONG_ISOLATE}{_POP_ISOLATE}]")
_BREAK_AFTER = re.compile(r"(?<=[\s\-_/,;·])")


def plain_text(text: str) -> str:
    """The text as it may stand in XML and on one line: other characters become the replacement character.

    So do those that turn the direction of the text around.
    """
    return " ".join(_DIRECTION_CONTROLS.sub("\ufffd", _NOT_XML.sub("\ufffd", text)).split())


def isolate(name: str) -> str:
    """A name whose direction cannot change that of the text around it: right-to-left names are put into an isolate."""
    text = plain_text(_ISOLATES.sub("", name))
    if any(unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character in text):
        return f"{_FIRST_STRONG_ISOLATE}{text}{_POP_ISOLATE}"
    return text


def text_width(text: str, size: float, is_bold: bool = False) -> float:
    """The width of a line of text in pixels; `size` is the font's, in pixels."""
    hundredths = sum(_character_width(character) for character in text)
    return hundredths / 100 * size * (_BOLD_FACTOR if is_bold else 1)


def wrap_text(text: str, size: float, width: float, is_bold: bool = False) -> list[str]:
    """The text in lines that are no wider than `width` pixels; a word that is wider alone is broken between characters."""
    lines, line = [], ""
    for piece in _BREAK_AFTER.split(plain_text(text)):
        if not line or text_width((line + piece).rstrip(), size, is_bold) <= width:
            line += piece
        else:
            lines.append(line)
            line = piece
        while text_width(line.rstrip(), size, is_bold) > width and len(line) > 1:
            length = _fitting_length(line, size, width, is_bold)
            lines.append(line[:length])
            line = line[length:]
    return [stripped for stripped in ((text_line.strip()) for text_line in [*lines, line]) if stripped] or [""]


def _character_width(character: str) -> int:
    if " " <= character <= "~":
        return _ASCII_WIDTHS[ord(character) - ord(" ")]
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return _WIDE_WIDTH if unicodedata.east_asian_width(character) in "WF" else _OTHER_WIDTH


def _fitting_length(line: str, size: float, width: float, is_bold: bool) -> int:
    """How many characters of a line fit into `width` pixels; at least one."""
    length = 1
    while length < len(line) and text_width(line[: length + 1], size, is_bold) <= width:
        length += 1
    return length
