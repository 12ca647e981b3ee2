"""What a tokenizer is to the rest of the tool, whatever file it comes from: text in, ids out, and the ids that end a text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path


class Tokenizer(ABC):
    """Token ids of text. `encode` adds neither BOS nor EOS; the caller places them."""

    #: The file or folder that it was loaded from.
    source: Path
    #: None where the model has none (Qwen's have no BOS).
    bos_id: int | None
    eos_id: int | None
    #: All ids that end a generated text, EOS first: the tokenizer's and those of generation_config.json and config.json.
    stop_ids: tuple[int, ...]
    #: The ids of all special tokens: they have no text, and are not read out of text.
    special_ids: tuple[int, ...]
    #: Whether plain transformers puts BOS in front of a text.
    adds_bos: bool
    #: One more than the largest id that the tokenizer's files name.
    vocab_size: int
    #: How many rows a model must have at least: one more than the largest of BOS, EOS and what `encode` can give.
    rows_needed: int

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without BOS and EOS. Special tokens spelled out in the text stay text.

        An added token that is not special is part of the vocabulary and is found in the text. Raises UserError for text that
        has no UTF-8 form.
        """

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids. Special tokens, `stop_ids` and rows of the model that no token has are left out."""

    @abstractmethod
    def spelling(self, token_id: int) -> str | None:
        """A token as its file spells it: `</s>`; None for an id that no token has."""

    @abstractmethod
    def has_text(self, token_id: int) -> bool:
        """Whether `decode` does not leave this token out."""

    @abstractmethod
    def may_change(self, token_id: int) -> bool:
        """Whether text that ends with this token may be decoded otherwise once more tokens follow.

        A character of which some bytes are missing aside: its U+FFFD says so itself.
        """

    @property
    @abstractmethod
    def unk_id(self) -> int | None:
        """The id of the unknown token; None where there is none."""

    @property
    @abstractmethod
    def pad_id(self) -> int | None:
        """An id to fill a batch with: the folder's own padding token, else the unknown token, else EOS; never a new row."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A SHA-256 over all that decides which ids a text gets, and which of them end it."""

    @property
    def eos_text(self) -> str:
        """EOS as it is spelled: `</s>`; empty where there is none."""
        return "" if self.eos_id is None else self.spelling(self.eos_id) or ""

    @property
    def prefix(self) -> list[int]:
        """What stands before the prompt in training and in the Orca prompt: BOS, or nothing where the model has none."""
        return [] if self.bos_id is None else [self.bos_id]
