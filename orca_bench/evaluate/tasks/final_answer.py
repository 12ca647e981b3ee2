"""A written text in, the answer that it gives out: the number of an explanation, and the text after "the answer is".

The rules of the orca protocol for texts whose form no harness prescribes, so that a right answer counts in any form. Their own
module because they need neither rows nor scores. The leaderboard's rules are in the modules of the tasks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

_NO_NUMBER_RULE = "no number"

#: One form for what is written in several: minus signs, spaces that part thousands, full-width digits.
_CHARACTER_REPLACEMENTS = str.maketrans(
    {sign: "-" for sign in "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"}
    | {space: " " for space in "\u00a0\u2007\u2008\u2009\u200a\u202f"}
    | {chr(0xFF10 + digit): str(digit) for digit in range(10)}
    | {"\u200b": None, "\u2060": None, "\u2019": "'"}
)
_LATEX_REPLACEMENTS = (
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[,;: ]"), " "),
    (re.compile(r"\\!"), ""),
    (re.compile(r"\\([$%#&])"), r"\1"),
    (re.compile(r"\\[dt]?frac\s*\{\s*([0-9]+)\s*\}\s*\{\s*([0-9]+)\s*\}"), r"\1/\2"),
)

# 18, 1,000, 1 000, 1'000; a minus sign belongs to a number where nothing that could be subtracted from stands before it.
_WHOLE_NUMBER_REGEX = r"(?:[0-9]{1,3}(?:[,'_][0-9]{3})+|[0-9]{1,3}(?: [0-9]{3})+|[0-9]+)(?![0-9])"
_NUMBER_PATTERN = re.compile(
    rf"((?<![\w)\]}}])-)?(?:[$£€¥₹](-)?)?({_WHOLE_NUMBER_REGEX}(?:\.[0-9]+)?|(?<![\w.])\.[0-9]+)(?:\s?/\s?([0-9]+)(?![0-9/]))?"
)
# What may stand between a mark and its number: signs, a LaTeX command, a variable and "=", and words that say nothing.
_MARK_TO_NUMBER_GAP = re.compile(
    r"(?:\\[A-Za-z]+|\b[A-Za-z]\s*=|\b(?:about|approximately|around|exactly|just|only|simply|therefore|thus|hence|equal to|"
    r"equals|now|then|a total of|US|USD|EUR|GBP|Rs|INR)\b|-(?!\s?[$£€¥₹]?-?\.?[0-9])|[^\w\-.!?;]){0,40}"
)
_EQUATION_PATTERN = re.compile(
    r"(?:(?!\b(?:since|because|as|where|when|if|and|so|but)\b)[^,;:(\n=]){0,80}?"
    r"(?:[-+*/×÷·]|%\s*of\b|\bx\b|(?<=[0-9])x(?=[0-9]))[^,;:\n=]{0,80}="
)
_LIST_ITEM_PATTERN = re.compile(r"[.):]\s+[A-Za-z]")
_SENTENCE_BREAK_PATTERN = re.compile(r"(?<=[.!?])\s+|\n")
_SENTENCE_END_PATTERN = re.compile(r"[.!?](?=\s|$)|\n\s*\n|$")

_MAX_SENTENCE_CHARACTERS = 400

_HASHES_MARK = re.compile(r"#{4,}")
_ANSWER_IS_MARK = re.compile(
    r"\banswers?\b[^.!?\n:=0-9]{0,60}?\b(?:is|are|was|were|be|equals?|comes to)\b(?!\s+not\b)\s*:?"
    r"|\banswers?[\s*_]{0,4}(?:\([^)\n]{0,40}\)[\s*_]{0,4})?:"
    r"|(?:^[#*\s]{0,9}|\b(?:the|final|correct)\s+)answers?\s*="
    r"|^[#*\s]{0,9}(?:the\s+)?(?:final\s+|correct\s+)?answer[#*\s]{0,9}\n",
    re.IGNORECASE | re.MULTILINE,
)
_BOXED_MARK = re.compile(r"\\boxed\s*\{?|\\fbox\s*\{?")
_BOLD_MARK = re.compile(r"\*\*(?=[^*\n]+\*\*)")


def final_number(text: str) -> tuple[str | None, str]:
    """(the number that a text gives as its answer, the rule that found it); (None, "no number") where it has none.

    The first of these that the text has: the number after `####`; the last one directly after "answer is" or "answer:"; the
    last in `\\boxed{}`; that of a sentence which says what the answer is; the last one in bold; the one after the last equals
    sign of the last sentence; the last of all. If an equation follows a mark, its result is the number. It is
    given without currency and separators of thousands. Words are not read: neither "eighteen" nor "2 million".
    """
    text = _normalize_text(text)
    numbers_by_rule = (
        ("####", _number_after_hashes(text)),
        ("answer is", _number_after_last(text, _ANSWER_IS_MARK, _number_directly_after)),
        ("boxed", _number_after_last(text, _BOXED_MARK, _number_directly_after)),
        ("answer sentence", _number_after_last(text, _ANSWER_IS_MARK, _number_in_sentence)),
        ("bold", _number_after_last(text, _BOLD_MARK, _number_in_bold)),
        ("last equation", _number_after_equals(_SENTENCE_BREAK_PATTERN.split(text.strip())[-1])),
        ("last number", _last_number(text)),
    )
    return next(((number, rule) for rule, number in numbers_by_rule if number is not None), (None, _NO_NUMBER_RULE))


def equal_numbers(first_number: str, second_number: str) -> bool:
    """Whether two numbers have the same value: 18, 18.00 and 36/2; False where one of them is none."""
    try:
        return Fraction(first_number) == Fraction(second_number)
    except (ValueError, ZeroDivisionError):
        return False


def text_after_answer_is(text: str) -> str:
    """The text after the last "answer is" or "answer:" of a text; the whole text where it has none."""
    mark_ends = [mark_match.end() for mark_match in _ANSWER_IS_MARK.finditer(text) if text[mark_match.end() :].strip()]
    return text[mark_ends[-1] :] if mark_ends else text


def _normalize_text(text: str) -> str:
    text = text.translate(_CHARACTER_REPLACEMENTS)
    for pattern, replacement in _LATEX_REPLACEMENTS:
        text = pattern.sub(replacement, text)
    return text


def _number_after_last(
    text: str, mark_pattern: re.Pattern[str], find_number_at: Callable[[str, int], str | None]
) -> str | None:
    """The number that `find_number_at` gives after the last mark; None where it gives none."""
    mark_ends = reversed([mark_match.end() for mark_match in mark_pattern.finditer(text)])
    return next((number for mark_end in mark_ends if (number := find_number_at(text, mark_end)) is not None), None)


def _last_number(text: str) -> str | None:
    number_matches = list(_NUMBER_PATTERN.finditer(text))
    return _number_text(number_matches[-1]) if number_matches else None


def _number_text(number_match: re.Match[str]) -> str:
    """A number's sign and digits alone."""
    sign = "-" if number_match[1] or number_match[2] else ""
    digits = re.sub("[ ,'_]", "", number_match[3])
    return f"{sign}{digits}/{number_match[4]}" if number_match[4] else sign + digits


def _number_directly_after(text: str, text_position: int) -> str | None:
    """The number directly after a position, or the result of an equation that begins there; None if words come first."""
    number_match = _number_at(text, text_position)
    if number_match is None or _begins_list(text, text_position, number_match):
        return None
    if _EQUATION_PATTERN.match(text, number_match.end()):
        return _number_after_equals(_sentence_from(text, number_match.start())) or _number_text(number_match)
    return _number_text(number_match)


def _number_at(text: str, text_position: int) -> re.Match[str] | None:
    gap_match = _MARK_TO_NUMBER_GAP.match(text, text_position)  # matches at every place, if nothing
    return _NUMBER_PATTERN.match(text, gap_match.end() if gap_match else text_position)


def _begins_list(text: str, text_position: int, number_match: re.Match[str]) -> bool:
    """Whether a number is the `1.` of a list that begins on the line after a mark."""
    return (
        "\n" in text[text_position : number_match.start()]
        and number_match[0] == "1"
        and bool(_LIST_ITEM_PATTERN.match(text, number_match.end()))
    )


def _number_after_hashes(text: str) -> str | None:
    """The number after the first `####`, which ends an answer of the data set; numbered headings (`#### 1. First`) are none."""
    mark_ends = [number_match.end() for number_match in _HASHES_MARK.finditer(text)]
    for text_position in mark_ends:
        number_match = _number_at(text, text_position)
        if number_match is None or "\n" in text[text_position : number_match.start()]:
            continue
        is_heading = _LIST_ITEM_PATTERN.match(text, number_match.end()) and (
            len(mark_ends) > 1 or number_match[0] == "1"
        )
        if not is_heading:
            return _number_directly_after(text, text_position)
    return None


def _sentence_from(text: str, text_position: int) -> str:
    """The sentence that continues at a position, as far as _SENTENCE characters."""
    end_match = _SENTENCE_END_PATTERN.search(
        text, text_position, text_position + _MAX_SENTENCE_CHARACTERS
    )  # the end of the text, if no other
    return text[text_position : end_match.start() if end_match else None]


def _number_in_sentence(text: str, text_position: int) -> str | None:
    """The number after the last equals sign of the sentence that continues at a position, else its last number."""
    number_match = _number_at(text, text_position)
    if number_match is not None and _begins_list(text, text_position, number_match):
        return None
    sentence = _sentence_from(text, text_position)
    return _number_after_equals(sentence) or _last_number(sentence)


def _number_after_equals(sentence: str) -> str | None:
    left_side, equals_sign, right_side = sentence.rpartition("=")
    number_match = _number_at(right_side, 0) if equals_sign else None
    return None if number_match is None else _number_text(number_match)


def _number_in_bold(text: str, text_position: int) -> str | None:
    number_match = _number_at(text, text_position)
    return (
        None
        if number_match is None or _LIST_ITEM_PATTERN.match(text, number_match.end())
        else _number_text(number_match)
    )
