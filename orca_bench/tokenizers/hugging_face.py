"""The tokenizer of a folder whose model was not trained with a SentencePiece file: that of its tokenizer.json, unchanged.

Its own module because transformers 5.23.0 rebuilds the tokenizers of many classes (LlamaTokenizer, Qwen2Tokenizer, …) by its
own rules from the vocabulary, and keeps neither normaliser nor pre-tokenizer of the file; its base class takes the file as
it is. Folders of before tokenizer.json (vocab.json and merges.txt) are loaded as transformers does.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench.errors import UserError, one_line
from orca_bench.files import file_sha256
from orca_bench.tokenizers.special_tokens import TOKENIZER_JSON_FILE, TokenMetadata
from orca_bench.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

_TOKEN_KEYS = ("bos_token", "eos_token", "unk_token", "pad_token")


class FolderTokenizer(Tokenizer):
    """The ids of a folder's tokenizer.json."""

    def __init__(self, folder: Path, metadata: TokenMetadata = TokenMetadata()):
        self.source = folder
        self._model_vocab_size = metadata.model_vocab_size
        #: The tokenizer as transformers has it.
        self.transformers_tokenizer = _load_file_tokenizer(folder, metadata)
        self._backend = self.transformers_tokenizer.backend_tokenizer
        self._backend.no_truncation()  # a tokenizer.json may ask for both: training has left them in many
        self._backend.no_padding()
        added_tokens = self._backend.get_added_tokens_decoder()
        ids_with_special = self._backend.encode("a", add_special_tokens=True).ids
        ids_without_special = self._backend.encode("a", add_special_tokens=False).ids
        first_added_id = ids_with_special[0] if ids_with_special[1:] == ids_without_special else None
        self.bos_id = self.transformers_tokenizer.bos_token_id
        if self.bos_id is None and "bos_token" not in metadata.spelling_by_key:
            self.bos_id = first_added_id
        self.adds_bos = (
            self.bos_id is not None
            and ids_with_special[:1] == [self.bos_id]
            and ids_with_special != ids_without_special
        )
        eos_id = self.transformers_tokenizer.eos_token_id
        stop_ids = [id_ for id_ in metadata.stop_ids if self.spelling(id_) is not None]
        self.eos_id = eos_id if eos_id is not None else next(iter(stop_ids), None)
        self.stop_ids = tuple(dict.fromkeys(i for i in (self.eos_id, *stop_ids) if i is not None))
        self._special_ids = {id_ for id_, token in added_tokens.items() if token.special} | {*self.stop_ids}
        self.special_ids = tuple(sorted(self._special_ids))
        self._backend.encode_special_tokens = True  # means: as any other text
        vocabulary_ids = self._backend.get_vocab(with_added_tokens=False).values()
        normal_ids = [id_ for id_, token in added_tokens.items() if not token.special]
        self.vocab_size = max([*vocabulary_ids, *added_tokens]) + 1
        self.min_model_vocab_size = max([*vocabulary_ids, *normal_ids, *self.prefix, *self.stop_ids[:1]]) + 1
        self._byte_ids = self._find_byte_ids()

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer.encode`."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores."""
        try:
            encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        except (UnicodeEncodeError, TypeError) as error:
            text = next((text for text in texts if re.search("[\ud800-\udfff]", text)), "")
            raise UserError(f"text with a lone surrogate cannot be encoded: {text[:40]!r}") from error
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """See `Tokenizer.decode`."""
        return self._backend.decode([i for i in map(int, ids) if self.has_text(i)])

    def spelling(self, token_id: int) -> str | None:
        """See `Tokenizer.spelling`."""
        return self._backend.id_to_token(token_id)

    def has_text(self, token_id: int) -> bool:
        """See `Tokenizer.has_text`."""
        return token_id not in self._special_ids and self.spelling(token_id) is not None

    def may_change(self, token_id: int) -> bool:
        """See `Tokenizer.may_change`."""
        # tokenizers 0.23.3 decodes a run of byte tokens to U+FFFD as a whole when one byte of it is wrong.
        return token_id in self._byte_ids

    def _find_byte_ids(self) -> set[int]:
        decoder = self._backend.decoder
        if decoder is None or b"ByteFallback" not in decoder.__getstate__():
            return set()
        ids = (self._backend.token_to_id(f"<0x{byte:02X}>") for byte in range(256))
        return {id_ for id_ in ids if id_ is not None}

    @property
    def unk_id(self) -> int | None:
        """The id of the unknown token; None where there is none."""
        return self.transformers_tokenizer.unk_token_id

    @property
    def pad_id(self) -> int | None:
        """The folder's own padding token where the model has it, else the unknown token, else EOS."""
        pad_id = self.transformers_tokenizer.pad_token_id
        if pad_id is not None and pad_id < (self._model_vocab_size or self.vocab_size):
            return pad_id
        return self.eos_id if self.unk_id is None else self.unk_id

    @property
    def fingerprint(self) -> str:
        """A SHA-256 over tokenizer.json (the vocabulary, where there is none) and what the files beside it say."""
        tokenizer_json_path = self.source / TOKENIZER_JSON_FILE
        vocabulary_content = (
            file_sha256(tokenizer_json_path)
            if tokenizer_json_path.is_file()
            else sorted(self._backend.get_vocab().items())
        )
        fingerprint_fields = [vocabulary_content, self.bos_id, list(self.stop_ids), list(self.special_ids), self.unk_id]
        return hashlib.sha256(json.dumps(fingerprint_fields, ensure_ascii=False).encode()).hexdigest()


def _load_file_tokenizer(folder: Path, metadata: TokenMetadata) -> PreTrainedTokenizerFast:
    """The tokenizer of tokenizer.json as the file has it; without that file, as transformers loads the folder."""
    from transformers import PreTrainedTokenizerFast

    if not (folder / TOKENIZER_JSON_FILE).is_file():
        return load_transformers_tokenizer(folder)
    try:
        file_tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    except Exception as error:
        raise _loading_error(folder, error) from error
    if not {"bos_token", "eos_token"} <= metadata.spelling_by_key.keys():
        # Older folders leave the names to the class: gpt2's tokenizer_config.json has none.
        vocabulary = file_tokenizer.get_vocab()
        for name, token in _named_tokens_of_class(folder).items():
            if name not in metadata.spelling_by_key and token in vocabulary:
                setattr(file_tokenizer, name, token)
    return file_tokenizer


def _named_tokens_of_class(folder: Path) -> dict[str, str]:
    """The named tokens of a folder as its own class has them; nothing where transformers cannot load that class."""
    try:
        transformers_tokenizer = load_transformers_tokenizer(folder)
    except UserError:
        return {}
    return {
        name: getattr(transformers_tokenizer, name)
        for name in _TOKEN_KEYS
        if getattr(transformers_tokenizer, name) is not None
    }


def load_transformers_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """The folder's tokenizer as plain transformers loads it; raises UserError where it cannot."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder))
    except Exception as error:
        raise _loading_error(folder, error) from error


def _loading_error(folder: str | Path, error: Exception) -> UserError:
    reason = one_line(error, 200)
    return UserError(f"transformers cannot load a tokenizer here ({reason or type(error).__name__})", where=folder)
