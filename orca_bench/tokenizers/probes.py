"""A tokenizer in, the first adversarial text out to which plain transformers gives other ids; None where there is none."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orca_bench.errors import UserError
from orca_bench.tokenizers.conversion import must_find_special_tokens
from orca_bench.tokenizers.hugging_face import load_transformers_tokenizer
from orca_bench.tokenizers.sentencepiece_file import SentencePieceTokenizer
from orca_bench.tokenizers.special_tokens import TOKENIZER_JSON_FILE
from orca_bench.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Disagreement:
    """One text to which a folder's tokenizer, as plain transformers loads it, gives other ids than the file that counts."""

    text: str
    expected_ids: list[int]
    transformers_ids: list[int]
    file_kind: str = "SentencePiece model"

    def __str__(self) -> str:
        return (
            f"{self.text!r} is {self.expected_ids} to the {self.file_kind} "
            f"and {self.transformers_ids} to the folder's tokenizer"
        )


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
    probes = list(_FIXED_PROBES[:count])
    while len(probes) < count:
        probes.append("".join(generator.choices(_PROBE_PARTS, k=generator.randint(1, 24))))
    return probes


def first_disagreement(
    tokenizer: Tokenizer, transformers_tokenizer: PreTrainedTokenizerBase, probes: Iterable[str]
) -> Disagreement | None:
    """The first of `probes` to which `transformers_tokenizer` gives other ids than `tokenizer`, or None.

    That it reads BOS at the beginning of a text, as exports do, and a text that is one token's spelling as that token, is no
    disagreement.
    """
    file_kind = "SentencePiece model" if isinstance(tokenizer, SentencePieceTokenizer) else TOKENIZER_JSON_FILE
    for text in probes:
        expected_ids, transformers_ids = (
            tokenizer.encode(text),
            list(transformers_tokenizer(text, add_special_tokens=False)["input_ids"]),
        )
        is_one_token = len(transformers_ids) == 1 and tokenizer.spelling(transformers_ids[0]) == text
        if (
            transformers_ids != expected_ids
            and transformers_ids != _ids_after_bos(tokenizer, text)
            and not is_one_token
        ):
            return Disagreement(text, expected_ids, transformers_ids, file_kind)
    return None


def _ids_after_bos(tokenizer: Tokenizer, text: str) -> list[int] | None:
    """The ids of a text that begins with the spelling of BOS where that is read as BOS; None for any other text."""
    if tokenizer.bos_id is None:
        return None
    bos_spelling = tokenizer.spelling(tokenizer.bos_id)
    return (
        [tokenizer.bos_id, *tokenizer.encode(text.removeprefix(bos_spelling))]
        if bos_spelling and text.startswith(bos_spelling)
        else None
    )


def find_folder_disagreement(tokenizer: Tokenizer, probe_count: int = 300) -> Disagreement | None:
    """Whether plain transformers, loading the folder of a tokenizer, agrees with the file that its ids come from; None if so.

    None too where there is nothing to compare: a SentencePiece file alone, and a folder that transformers cannot load.
    """
    try:
        transformers_tokenizer = load_transformers_tokenizer(
            tokenizer.source if tokenizer.source.is_dir() else tokenizer.source.parent
        )
    except UserError:
        return None
    if must_find_special_tokens(tokenizer):
        # What this tokenizer is exported with cannot keep it from finding special tokens.
        transformers_tokenizer.split_special_tokens = True
    return first_disagreement(tokenizer, transformers_tokenizer, probe_texts(probe_count))


def explain_disagreement(disagreement: Disagreement) -> str:
    """The message for a folder whose tokenizer, loaded by transformers, is not the one in its file."""
    return (
        f"as transformers loads it, this folder's tokenizer is not its {disagreement.file_kind} ({disagreement}); "
        f"the ids of the {disagreement.file_kind} are used, and what training exports is repaired"
    )
