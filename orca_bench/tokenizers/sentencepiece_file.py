"""A SentencePiece `.model` file in, its own token ids out: the truth for every folder that has such a file.

Its own module because transformers' own conversion of such a file disagrees with SentencePiece wherever two spaces meet and
turns a literal `</s>` in a question into the end of the sequence (seen with transformers 5.23.0): a model trained through
one tokenizer and evaluated through another is measured wrongly without any error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.files import sha256

SENTENCEPIECE_FILE = "tokenizer.model"


class Tokenizer:
    """SentencePiece's ids. `bos_id` and `eos_id` are for the caller to place; `encode` never adds them."""

    def __init__(self, model_file: Path):
        import sentencepiece

        self.source = model_file
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_file=str(model_file))
        except (OSError, RuntimeError) as error:
            raise UserError("not a SentencePiece model", where=model_file) from error
        self.bos_id: int = self._processor.bos_id()
        self.eos_id: int = self._processor.eos_id()
        self.vocab_size: int = self._processor.vocab_size()
        if self.bos_id < 0 or self.eos_id < 0:
            raise UserError(
                "this SentencePiece model has no BOS or no EOS piece",
                where=model_file,
                hint="train it with bos_id and eos_id set; the Orca prompt starts with the one and ends with the other",
            )

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without BOS and EOS. Special tokens spelled out in the text stay text."""
        try:
            return self._processor.encode(text)
        except (UnicodeEncodeError, RuntimeError) as error:  # sentencepiece 0.2.3 raises the one or the other
            raise UserError(f"text with a lone surrogate cannot be encoded: {text[:40]!r}") from error

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores."""
        try:
            return self._processor.encode(list(texts), num_threads=-1)
        except (UnicodeEncodeError, RuntimeError):
            return [self.encode(text) for text in texts]  # names the text

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids; BOS, EOS and other control pieces have no text."""
        return self._processor.decode([int(i) for i in ids])

    @property
    def eos_text(self) -> str:
        """EOS as it is spelled: `</s>`."""
        return self._processor.id_to_piece(self.eos_id)

    @property
    def unk_id(self) -> int:
        """The id of the unknown piece."""
        return self._processor.unk_id()

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the SentencePiece file."""
        return sha256(self.source)
