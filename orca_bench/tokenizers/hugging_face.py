"""The tokenizer of a folder without a SentencePiece file: transformers' own, asked as the SentencePiece one is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.files import sha256


class FolderTokenizer:
    """The tokenizer of a folder without a SentencePiece file (newer LLaMAs): transformers' own, asked the same way."""

    def __init__(self, folder: str):
        self.source = Path(folder)
        self._tokenizer = load_plain(folder)
        self.bos_id = self._tokenizer.bos_token_id
        self.eos_id = self._tokenizer.eos_token_id
        self.vocab_size = len(self._tokenizer)
        if self.bos_id is None or self.eos_id is None:
            raise UserError("the tokenizer has no BOS or no EOS token", where=folder)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without BOS and EOS; special tokens are not parsed out of it."""
        return self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=True)

    @property
    def eos_text(self) -> str:
        """EOS as it is spelled."""
        return self._tokenizer.eos_token

    @property
    def unk_id(self) -> int | None:
        """The id of the unknown token; None where there is none."""
        return self._tokenizer.unk_token_id

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of tokenizer.json."""
        return sha256(self.source / "tokenizer.json")


def load_plain(folder: str | Path):
    """The folder's tokenizer as plain transformers loads it."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder))
    except Exception as error:
        raise UserError(f"transformers cannot load a tokenizer here ({type(error).__name__})", where=folder) from error
