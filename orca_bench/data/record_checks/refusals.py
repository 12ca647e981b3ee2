"""A response in, the name of its refusal out: "As an AI language model, I …", "I'm sorry, but I cannot …".

The patterns are data, listed once and tested one by one, beside look-alikes from Alpaca, Dolly and FLAN: a letter that is
sorry, a rewritten sentence that says "I can't do this", an explanation of what an AI language model is. A pattern without
`anywhere` is looked for at the beginning of a response alone, because a refusal begins with it and a letter quotes it. All hits
on the published sets were read: 23 of Alpaca's 52,002 responses, of which two are answers to questions about models; eight of
Dolly's 15,011, of which three are answers; none of GSM8K's 7,473. Its own module because the list grows with the models that
write responses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_UNABLE = (
    r"(?:can ?not|can['’]t|could not|couldn['’]t|am unable to|['’]m unable to|am not able to|['’]m not able to|will not"
    r"|won['’]t|am not allowed to|must decline to)"
)
#: What a model says that it cannot do; not "make", "do" or "say", which people say of themselves in sentences to rewrite.
_MODEL_ACTION = (
    r"(?:assist|help|provide|fulfil|comply|complete|answer|respond|generate|create|write|engage|support|promote"
    r"|offer|access|browse|open|view|process|perform|continue|discuss|share|recommend|predict|determine|identify|translate"
    r"|summari[sz]e|classify|analy[sz]e|edit|recogni[sz]e|display|produce|design|compose)"
)
_SORRY = (
    r"(?:(?:I(?:['’]m| am) )?(?:so |very |really |truly )?sorry|I (?:do )?apologi[sz]e|(?:my )?apologies|unfortunately)"
)
_AI_MODEL = (
    r"(?:AI|A\.I\.|artificial intelligence|(?:large |AI |AI-based )*language model|machine learning model"
    r"|(?:AI |virtual )assistant)"
)


_BEFORE_TEXT = re.compile(r"\W*")

#: Every pattern that counts anywhere has one of these, in lower case.
_HINTS = (
    " ai ", " ai,", " ai-", " ai.", "a.i.", "artificial", "model", "virtual assistant",
    "als ki", "modèle", "qu'ia", "qu’ia", "qu'assistant", "qu’assistant", "como ia", "una ia", "inteligencia", "intelligen",
    "人工智能", "作为ai", "一个ai", "一名ai", "语言模型", "言語モデル", "модель", "интеллект",
)  # fmt: skip


@dataclass(frozen=True)
class RefusalPattern:
    """A kind of refusal: its name, the pattern, and whether it counts anywhere in a response or at its beginning alone.

    A pattern that counts anywhere is looked for only where one of `_HINTS` stands in the response, which saves most of the time.
    """

    name: str
    pattern: re.Pattern[str]
    anywhere: bool = False


def _compile(*pattern_parts: str) -> re.Pattern[str]:
    return re.compile("".join(pattern_parts), re.IGNORECASE)


REFUSAL_PATTERNS = (
    RefusalPattern(
        "as an AI model, I",
        _compile(
            rf"\bas an? (?:\w+ )?{_AI_MODEL}(?: (?:language )?(?:model|assistant|program|system))?,? (?:I|my)\b",
        ),
        anywhere=True,
    ),
    RefusalPattern(
        "I am only an AI model",
        _compile(
            rf"\bI(?:['’]m| am) (?:just |only |merely )?an? {_AI_MODEL}\b",
            r"[^.!?\n]{0,60}?(?:\band|\bso|,|\.|\bthat)[^.!?\n]{0,40}?",
            rf"\b(?:do not|don['’]t|{_UNABLE})",
        ),
        anywhere=True,
    ),
    RefusalPattern(
        "sorry, I cannot",
        _compile(rf"{_SORRY}\b[^.!?\n]{{0,60}}?\bI ?{_UNABLE} (?:\w+ )?(?:{_MODEL_ACTION}|play|draw)"),
    ),
    RefusalPattern(
        "sorry, this task cannot",
        _compile(
            rf"{_SORRY}\b[^.!?\n]{{0,30}}?\b(?:this|the|that|your)(?: \w+)?",
            r" (?:task|request|question|prompt|instruction|query)",
            r" (?:can ?not|can['’]t|could not|is not|is (?:too|im|un)|requires?|involves?|asks?|goes|falls)",
        ),
    ),
    RefusalPattern("I cannot", _compile(rf"I ?{_UNABLE} (?:\w+ )?{_MODEL_ACTION}")),
    RefusalPattern(
        "a model cannot",
        _compile(
            r"\b(?:a|an|the|this) (?:AI |GPT |language )*model",
            rf" (?:{_UNABLE}|is (?:not able|unable) to) {_MODEL_ACTION}",
        ),
        anywhere=True,
    ),
    RefusalPattern(
        "no opinions or abilities",
        _compile(
            rf"(?:{_SORRY},? (?:but )?)?I (?:do not|don['’]t) (?:have|possess|hold) (?:any |the )?(?:personal )?",
            r"(?:opinions?|beliefs?|feelings?|emotions?|preferences?|ability to|capability to|capacity to|access to)",
        ),
    ),
    RefusalPattern(
        "it is not appropriate",
        _compile(
            rf"(?:{_SORRY},? (?:but )?)?it (?:is|would be|['’]s) (?:not (?:appropriate|ethical)|inappropriate|unethical)",
            rf"(?: for me)? to {_MODEL_ACTION}",
        ),
    ),
    RefusalPattern(
        "in other languages",
        _compile(
            r"\bals KI(?:-Sprachmodell|-Modell|-Assistent)?,? (?:kann|habe|bin) ich",
            r"|\ben tant qu(?:e modèle (?:de langage|linguistique)|['’](?:IA|intelligence artificielle|assistant))",
            r"|\bcomo (?:un )?modelo de (?:lenguaje|linguagem)|\bcomo (?:una )?(?:IA|inteligencia artificial),? no",
            r"|\bin quanto (?:modello linguistico|intelligenza artificiale)",
            r"|作为(?:一个|一名)?(?:人工智能|AI|语言模型)|AI言語モデルとして|как (?:языковая модель|искусственный интеллект)",
        ),
        anywhere=True,
    ),
)


def refusal_name(response: str) -> str | None:
    """The name of the pattern by which a response is a refusal; None where it is none."""
    start = _BEFORE_TEXT.match(response)
    start_index = start.end() if start else 0
    lower_case_response = response.lower()
    has_hint = any(hint in lower_case_response for hint in _HINTS)
    for entry in REFUSAL_PATTERNS:
        if entry.anywhere:
            is_refusal = has_hint and entry.pattern.search(response)
        else:
            is_refusal = entry.pattern.match(response, start_index)
        if is_refusal:
            return entry.name
    return None
