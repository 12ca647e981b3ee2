"""A response in, the name of the rule by which it breaks off out; None where it ends as a response does.

A response that a token limit has cut ends wherever the limit fell, and nothing in it says so for certain. The rules here name
what hardly any writer ends with: an open code fence, a bracket or comma after prose, half a word, an article. All hits on the
published sets were read: four of Alpaca's 52,002 responses, of which three are a line of a poem or half a sentence that was
wanted; 17 of Dolly's 15,011, all of which end in the middle of something; none of GSM8K's 7,473. A long response that ends in
a word without an end mark is a finding of its own, because people forget full stops: in Alpaca none, in Dolly 64. Its own
module because the rules are listed and tested one by one.
"""

from __future__ import annotations

import re

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_HALF_WORD = re.compile(r"\w-$")
_LAST_WORD = re.compile(r"(?<![\w'’])([a-z]+)$")
_SALUTATION = re.compile(r"(?:dear|hi|hello|hey|sincerely|regards|best|yours|love|thanks|cheers)\b", re.IGNORECASE)

#: Words after which an English text goes on: articles, possessives, conjunctions, prepositions that never stand last.
_UNFINISHED_WORDS = frozenset(
    [
        "the",
        "a",
        "an",
        "and",
        "or",
        "but",
        "nor",
        "because",
        "although",
        "whereas",
        "unless",
        "until",
        "their",
        "your",
        "my",
    ]
    + ["our", "every", "into", "onto", "upon", "between", "among", "via", "per", "than"]
)
_OPENING_SIGNS = ",([{&"
_FEWEST_WORDS = 8  # of a last line that is prose

_LIST_ITEM = re.compile(r"\s*(?:[-*•#>|]|\(?\w{1,4}[.):])")
_TAG_OR_SIGNATURE = re.compile(r"(?:^|\s)(?:#\S+|@\w+|https?://\S+|\S+@\S+|www\.\S+|[-–—] ?[A-Z][\w. ]+)$")
_SENTENCE_END = re.compile(r"[.!?][)\"'”’]*\s+\S")
_LONG_RESPONSE_WORDS = 80


def truncation_rule(response: str) -> str | None:
    """The rule by which a response breaks off: `open code fence`, `open sign`, `half a word`, `unfinished sentence`."""
    text = response.rstrip()
    if ("```" in text or "~~~" in text) and len(_FENCE.findall(text)) % 2:
        return "open code fence"
    last_line = _last_line(text)
    if len(last_line.split()) < _FEWEST_WORDS or _SALUTATION.match(last_line.strip()):
        return None
    if text[-1] in _OPENING_SIGNS:
        return "open sign"
    if _HALF_WORD.search(text):
        return "half a word"
    last_word = _LAST_WORD.search(last_line)
    return "unfinished sentence" if last_word and last_word[1] in _UNFINISHED_WORDS else None


def lacks_end_mark(response: str) -> bool:
    """Whether a response of at least 80 words ends in a word, in a line of several sentences that is no list and no tag."""
    text = response.rstrip()
    if not text or not text[-1].isalpha() or len(text.split(None, _LONG_RESPONSE_WORDS)) < _LONG_RESPONSE_WORDS:
        return False
    last_line = _last_line(text)
    if len(last_line.split()) < _FEWEST_WORDS or _LIST_ITEM.match(last_line) or _TAG_OR_SIGNATURE.search(last_line):
        return False
    return _SENTENCE_END.search(last_line) is not None


def _last_line(text: str) -> str:
    return text[text.rfind("\n") + 1 :]
