"""A SentencePiece `.model` file in, its own token ids out: the right ones for every model that was trained with such a file.

Its own module because transformers' own conversion of such a file disagrees with SentencePiece wherever two spaces meet and
turns a literal `</s>` in a question into the end of the sequence (seen with transformers 5.23.0): a model trained through
one tokenizer and evaluated through another is measured wrongly without any error. What the JSON files beside it add (tokens
after the last piece, another EOS, pieces that are special) comes in as `Metadata`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench.errors import UserError
from orca_bench.files import file_sha256, lfs_pointer_hint
from orca_bench.tokenizers.special_tokens import AddedToken, TokenMetadata
from orca_bench.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor
    from sentencepiece.sentencepiece_model_pb2 import ModelProto

SENTENCEPIECE_FILE = "tokenizer.model"

# Values of sentencepiece_model.proto (sentencepiece 0.2.3).
NORMAL_PIECE, UNKNOWN_PIECE, CONTROL_PIECE, USER_DEFINED_PIECE, BYTE_PIECE = 1, 2, 3, 4, 6
UNIGRAM_MODEL, BPE_MODEL = 1, 2


class SentencePieceTokenizer(Tokenizer):
    """SentencePiece's ids, and the ids of the tokens that the folder adds.

    A text that holds added tokens that are not special is parted at them, and each part encoded alone, as the slow tokenizers
    of 2023 did, with which such models were trained.
    """

    def __init__(self, model_file: Path, metadata: TokenMetadata = TokenMetadata()):
        self.source = model_file
        self._metadata = metadata
        self._processor = _load_processor(model_file)
        self.piece_count: int = self._processor.vocab_size()
        #: Tokens that the file does not have, by id.
        self.added_tokens = {
            id_: token for id_, token in sorted(metadata.added_token_by_id.items()) if id_ >= self.piece_count
        }
        self._added_id_by_content = {token.content: id_ for id_, token in self.added_tokens.items()}
        self.bos_id = self._resolve_special_id("bos_token", self._processor.bos_id(), metadata.bos_id)
        self.eos_id = self._resolve_special_id(
            "eos_token", self._processor.eos_id(), next(iter(metadata.stop_ids), None)
        )
        self.stop_ids = tuple(dict.fromkeys(i for i in (self.eos_id, *metadata.stop_ids) if i is not None))
        self.adds_bos = self.bos_id is not None and metadata.adds_bos is not False
        self._hide_special_tokens()
        self._added_tokens_pattern = (
            _added_token_pattern([self.added_tokens[id_] for id_ in self._text_by_added_id])
            if self._text_by_added_id
            else None
        )
        self.special_ids = self._find_special_ids()
        self.vocab_size = max([self.piece_count - 1, *self.added_tokens]) + 1
        self.min_model_vocab_size = (
            max([self.piece_count - 1, *self._text_by_added_id, *self.prefix, *self.stop_ids[:1]]) + 1
        )

    def _hide_special_tokens(self) -> None:
        """Settle which tokens have no text, and keep SentencePiece from reading any of them out of text."""
        special_ids = {id_ for id_, token in self._metadata.added_token_by_id.items() if token.special} | {
            *self.prefix,
            *self.stop_ids,
        }
        special_piece_ids = {id_ for id_ in special_ids if id_ < self.piece_count and not self._is_control(id_)}
        pieces = model_proto(self.source).pieces if special_piece_ids else []
        #: Pieces that the folder makes special and the file does not: Gemma's `<start_of_turn>` is a user-defined symbol of it.
        self.promoted_control_ids = tuple(
            sorted(id_ for id_ in special_piece_ids if pieces[id_].type == USER_DEFINED_PIECE)
        )
        if self.promoted_control_ids:
            self._processor = _load_processor(self.source, self.promoted_control_ids)
        self._textless_ids = special_piece_ids | {id_ for id_ in special_ids if id_ >= self.piece_count}
        self._text_by_added_id = {
            id_: token.content for id_, token in self.added_tokens.items() if id_ not in self._textless_ids
        }

    def _resolve_special_id(self, token_key: str, file_id: int, configured_id: int | None) -> int | None:
        """The id of BOS or EOS: as the folder names it, else the file's own, else that of the model's configuration."""
        spelling = self._metadata.spelling_by_key.get(token_key)
        if spelling:
            id_ = self._find_id(spelling)
            if id_ is None:
                raise self._missing_token_error(token_key, spelling)
            return id_
        if token_key == "bos_token" and token_key in self._metadata.spelling_by_key:
            return None  # null: there is none
        if file_id >= 0:
            return file_id
        return configured_id if configured_id is not None and self.spelling(configured_id) is not None else None

    def _missing_token_error(self, token_key: str, spelling: str) -> UserError:
        """The error for a spelling that belongs to no token of the model."""
        if spelling in self._metadata.ids_beyond_model:
            vocab_size, id_ = self._metadata.model_vocab_size, self._metadata.ids_beyond_model[spelling]
            return UserError(
                f"{token_key} is {spelling!r} with the id {id_}, and the model's vocab_size is {vocab_size}",
                where=self.source.parent,
            )
        spaced_spelling = "▁" + spelling.replace(" ", "▁")
        similar_piece = next(
            (piece for piece in (spaced_spelling[1:], spaced_spelling) if self._find_id(piece) is not None), None
        )
        hint = f"the vocabulary has {similar_piece!r}" if similar_piece else None
        return UserError(
            f"{token_key} is {spelling!r}, and no token of the vocabulary is spelled so",
            where=self.source.parent,
            hint=hint,
        )

    def _find_id(self, spelling: str) -> int | None:
        """The id of the token that is spelled so; None where there is none."""
        if spelling in self._added_id_by_content:
            return self._added_id_by_content[spelling]
        id_ = self._processor.piece_to_id(spelling)  # that of the unknown piece where there is none
        if self._processor.id_to_piece(id_) == spelling:
            return id_
        # A folder may spell a piece otherwise: `<reserved_106>` became `<|im_end|>`.
        return next((id_ for id_, token in self._metadata.added_token_by_id.items() if token.content == spelling), None)

    def _is_control(self, id_: int) -> bool:
        return self._processor.is_control(id_) or self._processor.is_unknown(id_)

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer.encode`."""
        if self._added_tokens_pattern is None:
            return self._encode_text(text)
        segments = self._split_at_added(text, self._added_tokens_pattern)
        return [
            id_
            for segment in segments
            for id_ in ([segment] if isinstance(segment, int) else self._encode_text(segment))
        ]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores."""
        if self._added_tokens_pattern is None:
            try:
                return self._processor.encode(list(texts), num_threads=-1)
            except (UnicodeEncodeError, RuntimeError):
                pass  # the loop names the text
        return [self.encode(text) for text in texts]

    def _encode_text(self, text: str) -> list[int]:
        """SentencePiece's own ids."""
        try:
            return self._processor.encode(text)
        except (UnicodeEncodeError, RuntimeError) as error:  # sentencepiece 0.2.3 raises the one or the other
            raise UserError(f"text with a lone surrogate cannot be encoded: {text[:40]!r}") from error

    def _split_at_added(self, text: str, added_pattern: re.Pattern[str]) -> Iterator[int | str]:
        """The text parted at its added tokens, of which the ids are given."""
        previous_end = 0
        for match in added_pattern.finditer(text):
            yield text[previous_end : match.start()]
            yield self._added_id_by_content[match[match.lastindex or 0]]
            previous_end = match.end()
        yield text[previous_end:]

    def decode(self, ids: Sequence[int]) -> str:
        """See `Tokenizer.decode`."""
        decoded_texts: list[str] = []
        piece_ids: list[int] = []
        for id_ in map(int, ids):
            if id_ in self._text_by_added_id:
                decoded_texts += [self._processor.decode(piece_ids), self._text_by_added_id[id_]]
                piece_ids = []
            elif self.has_text(id_):
                piece_ids.append(id_)
        return "".join([*decoded_texts, self._processor.decode(piece_ids)])

    def spelling(self, token_id: int) -> str | None:
        """See `Tokenizer.spelling`."""
        if 0 <= token_id < self.piece_count:
            return self._processor.id_to_piece(token_id)
        token = self.added_tokens.get(token_id)
        return token.content if token else None

    def has_text(self, token_id: int) -> bool:
        """See `Tokenizer.has_text`."""
        return token_id in self._text_by_added_id or (
            0 <= token_id < self.piece_count and token_id not in self._textless_ids
        )

    def may_change(self, token_id: int) -> bool:
        """See `Tokenizer.may_change`."""
        return False

    @property
    def unk_id(self) -> int:
        """The id of the unknown piece, which every SentencePiece file has."""
        return self._processor.unk_id()

    @property
    def pad_id(self) -> int:
        """The padding token that the folder names or the file has, else the unknown piece."""
        pad_spelling = self._metadata.spelling_by_key.get("pad_token")
        pad_id = self._find_id(pad_spelling) if pad_spelling else None
        if pad_id is None and self._processor.pad_id() >= 0:
            pad_id = self._processor.pad_id()
        return self.unk_id if pad_id is None else pad_id

    def _find_special_ids(self) -> tuple[int, ...]:
        controls = (id_ for id_ in range(self.piece_count) if self._is_control(id_))
        return tuple(sorted({*controls, *self._textless_ids}))

    @property
    def is_bpe(self) -> bool:
        """Whether the file is a BPE model, not a unigram one."""
        return model_proto(self.source).trainer_spec.model_type == BPE_MODEL

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the SentencePiece file; where the folder adds something to it, of that and of what is added."""
        file_hash = file_sha256(self.source)
        added_tokens = {id_: asdict(token) for id_, token in self.added_tokens.items()}
        fingerprint_fields = [added_tokens, list(self.promoted_control_ids), self.bos_id, list(self.stop_ids)]
        if fingerprint_fields == [{}, [], self._processor.bos_id(), [self._processor.eos_id()]]:
            return file_hash
        return hashlib.sha256(json.dumps([file_hash, *fingerprint_fields], ensure_ascii=False).encode()).hexdigest()


def model_proto(model_file: Path, promoted_control_ids: Sequence[int] = ()) -> ModelProto:
    """A SentencePiece file as a protocol buffer; the pieces `controls` become control pieces, which no text gives."""
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    model_protobuf = sentencepiece_model_pb2.ModelProto()
    try:
        model_protobuf.ParseFromString(Path(model_file).read_bytes())
    except DecodeError as error:
        raise _not_sentencepiece_error(model_file) from error
    for id_ in promoted_control_ids:
        model_protobuf.pieces[id_].type = CONTROL_PIECE
    return model_protobuf


def is_sentencepiece(path: Path) -> bool:
    """Whether a file is a SentencePiece model; tiktoken's vocabularies have the same name and are text."""
    try:
        _load_processor(path)
    except UserError:
        return False
    return True


def _load_processor(model_file: Path, promoted_control_ids: Sequence[int] = ()) -> SentencePieceProcessor:
    import sentencepiece

    try:
        if promoted_control_ids:
            model_bytes = model_proto(model_file, promoted_control_ids).SerializeToString()
            processor = sentencepiece.SentencePieceProcessor(model_proto=model_bytes)
        else:
            processor = sentencepiece.SentencePieceProcessor(model_file=str(model_file))
        processor.id_to_piece(list(range(processor.vocab_size())))  # raises where a piece is no UTF-8
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        raise _not_sentencepiece_error(model_file) from error
    return processor


def _not_sentencepiece_error(model_file: Path) -> UserError:
    return UserError("not a SentencePiece model", where=model_file, hint=lfs_pointer_hint(model_file))


def _added_token_pattern(added_tokens: Sequence[AddedToken]) -> re.Pattern[str]:
    """Finds added tokens in text as tokenizers does: the leftmost, of those the longest; one group a token."""
    token_patterns = []
    for token in sorted(added_tokens, key=lambda token: len(token.content), reverse=True):
        token_pattern = f"({re.escape(token.content)})"
        token_pattern = rf"(?<!\w){token_pattern}(?!\w)" if token.single_word else token_pattern
        token_patterns.append((r"\s*" if token.lstrip else "") + token_pattern + (r"\s*" if token.rstrip else ""))
    return re.compile("|".join(token_patterns))
