"""The interface of a tokenizer, whatever file it comes from: text in, token ids out, and the ids that end a text.

All code outside this folder works with a `Tokenizer` only; `tokenizers.load_tokenizer` gives one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path


class Tokenizer(ABC):
    """Token ids of text. `encode` adds neither BOS nor EOS; the caller places them.

    Attributes:
        source: The file or folder that it was loaded from.
        bos_id: The token that begins a text; None where the model has none (Qwen's models have no BOS).
        eos_id: The token that ends a text; None where there is none.
        stop_ids: All ids that end a generated text, EOS first: those of the tokenizer, generation_config.json and config.json.
        special_ids: The ids of all special tokens. They have no text, and `encode` does not give them.
        adds_bos: Whether plain transformers puts BOS in front of a text.
        vocab_size: One more than the largest id that the tokenizer's files name.
        min_model_vocab_size: The smallest vocabulary a model may have: one more than the largest of BOS, EOS and the ids
            that `encode` can give.
    """

    source: Path
    bos_id: int | None
    eos_id: int | None
    stop_ids: tuple[int, ...]
    special_ids: tuple[int, ...]
    adds_bos: bool
    vocab_size: int
    min_model_vocab_size: int

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without BOS and EOS. Special tokens spelled out in the text stay text.

        An added token that is not special is part of the vocabulary, and its id is given. Raises UserError for text that has
        no UTF-8 form.
        """

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids. Special tokens, `stop_ids` and ids without a token are left out."""

    @abstractmethod
    def spelling(self, token_id: int) -> str | None:
        """A token as its file spells it (`</s>`); None for an id that no token has."""

    @abstractmethod
    def has_text(self, token_id: int) -> bool:
        """Whether `decode` gives text for this token."""

    @abstractmethod
    def may_change(self, token_id: int) -> bool:
        """Whether text that ends with this token may be decoded otherwise when more tokens follow.

        A character of which some bytes are missing does not count: `decode` gives U+FFFD for it.
        """

    @property
    @abstractmethod
    def unk_id(self) -> int | None:
        """The id of the unknown token; None where there is none."""

    @property
    @abstractmethod
    def pad_id(self) -> int | None:
        """An id to fill a batch with: the folder's own padding token, else the unknown token, else EOS; never a new id."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A SHA-256 over everything that determines the ids of a text, and the ids that end it."""

    @property
    def eos_text(self) -> str:
        """EOS as it is spelled (`</s>`); empty where there is none."""
        return "" if self.eos_id is None else self.spelling(self.eos_id) or ""

    @property
    def prefix(self) -> list[int]:
        """The ids before the prompt in training and in the Orca prompt: BOS, or nothing where the model has none."""
        return [] if self.bos_id is None else [self.bos_id]
