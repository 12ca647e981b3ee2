"""Adversarial texts, and whether what plain transformers makes of a folder gives them SentencePiece's ids."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from orca_bench.tokenizers.hugging_face import load_plain
from orca_bench.tokenizers.loading import from_hub
from orca_bench.tokenizers.sentencepiece_file import SENTENCEPIECE_FILE, Tokenizer


@dataclass(frozen=True)
class Disagreement:
    """One text on which a folder's tokenizer and its SentencePiece model give different ids."""

    text: str
    truth: list[int]
    other: list[int]

    def __str__(self) -> str:
        return f"{self.text!r} is {self.truth} to SentencePiece and {self.other} to the folder's tokenizer"


_FIXED_PROBES = (
    "  lead", "two  spaces", "trail  ", " ", "   ", "\t", "\n", "\n\n", " \n ", "a\n  b", "x\r\ny", "\u00a0nbsp\u3000wide",
    "</s>", "a </s> b", "<s>", "<unk>", "<0x0A>", "[INST] x [/INST]", "▁", "a▁b", "▁▁", "def f(x):\n    return x  # two",
    "### System:\nS\n\n### User:\nU\n\n### Response:\n", "1,234.56 + 7 = ?", "é e\u0301 ﬁ ½ Å", "日本語 中文 한국어",
    "🙂👩‍👩‍👧🏽 🇩🇪",
    "\u200b\ufeff\u2028", "\x00\x01\x7f", "ZZzz" * 9, "https://a.b/c?d=e&f=%20",
)  # fmt: skip

_PROBE_PARTS = (
    " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "the", " The", "answer", "Explain", "### ", "Response:", "1", "42", "3.14",
    "</s>", "<s>", "<unk>", "<0x41>", "▁", "▁▁", "é", "ß", "ñ", "Ω", "ж", "中", "語", "한", "🙂", "👩‍👧", "🏽", "½", "ﬁ",
    "\u00a0", "\u200b", "if (x) {", "}", "    return", "==", "!=", "->", "\\n", "\"", "'", "`", "$", "%", ".", ",", "?", ":",
    "a", "b", "Z", "qu", "ing", "ion", "\u0301", "\x07",
)  # fmt: skip


def probe_texts(count: int, seed: int = 0) -> list[str]:
    """`count` deterministic adversarial texts: runs of spaces, line breaks, code, emoji, markers and rare letters."""
    generator = random.Random(seed)
    texts = list(_FIXED_PROBES[:count])
    while len(texts) < count:
        texts.append("".join(generator.choices(_PROBE_PARTS, k=generator.randint(1, 24))))
    return texts


def first_disagreement(truth: Tokenizer, plain, texts: Iterable[str]) -> Disagreement | None:
    """The first of `texts` to which the transformers tokenizer `plain` gives other ids than `truth`, or None."""
    for text in texts:
        expected, found = truth.encode(text), plain(text, add_special_tokens=False)["input_ids"]
        if expected != found:
            return Disagreement(text, expected, list(found))
    return None


def check_folder(folder: str | Path, probes: int = 300) -> Disagreement | None:
    """Whether plain transformers, loading a folder or hub id, agrees with its SentencePiece model; None where it does.

    A folder without a SentencePiece file, and such a file alone, have nothing to disagree with.
    """
    if Path(folder).is_file():
        return None
    if not Path(folder).is_dir():
        folder = from_hub(str(folder))
    model_file = Path(folder) / SENTENCEPIECE_FILE
    if not model_file.is_file():
        return None
    return first_disagreement(Tokenizer(model_file), load_plain(folder), probe_texts(probes))


def explain(disagreement: Disagreement) -> str:
    """What a person is told of a folder whose tokenizer is not its SentencePiece model."""
    return (
        f"as transformers loads it, this folder's tokenizer is not its SentencePiece model ({disagreement}); "
        "SentencePiece's ids are used, and what training exports is repaired"
    )
