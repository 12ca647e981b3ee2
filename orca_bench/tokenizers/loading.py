"""A folder or a SentencePiece file in, the tokenizer that its model uses out.

A folder may hold the files of two tokenizers. Where both files have one vocabulary, SentencePiece's file counts. Where they
have two, the size of the model's vocabulary decides, and nothing is guessed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orca_bench.errors import UserError
from orca_bench.tokenizers import special_tokens as folder_metadata
from orca_bench.tokenizers.hugging_face import FolderTokenizer
from orca_bench.tokenizers.sentencepiece_file import (
    NORMAL_PIECE,
    SENTENCEPIECE_FILE,
    SentencePieceTokenizer,
    is_sentencepiece,
    model_proto,
)
from orca_bench.tokenizers.special_tokens import TOKENIZER_JSON_FILE, TokenMetadata
from orca_bench.tokenizers.tokenizer import Tokenizer

_MAX_PADDING_IDS = 1024  # ids: a model's vocabulary is up to so much larger than its tokenizer's
_MIN_EQUAL_ID_SHARE = 0.99  # of the pieces have the same id in both files of one tokenizer


def load_tokenizer(where: str | Path) -> Tokenizer:
    """The tokenizer of a folder or of a `.model` file; one of the hub is fetched first (`models.model_folder.locate_model`).

    Raises UserError where nothing there is a tokenizer, or where there are two and nothing says which is the model's.
    """
    path = Path(where)
    if path.is_file():
        return SentencePieceTokenizer(path)
    if not path.is_dir():
        raise UserError("no such tokenizer file or folder", where=where)
    metadata = folder_metadata.read_token_metadata(path)
    added = _metadata_for_sentencepiece(path, metadata)
    if added is not None:
        return SentencePieceTokenizer(path / SENTENCEPIECE_FILE, added)
    if (path / TOKENIZER_JSON_FILE).is_file() or (path / "vocab.json").is_file():
        return FolderTokenizer(path, metadata)
    raise UserError(
        "no tokenizer here",
        where=path,
        hint=f"expected {SENTENCEPIECE_FILE} or {TOKENIZER_JSON_FILE} beside config.json",
    )


def _metadata_for_sentencepiece(folder: Path, metadata: TokenMetadata) -> TokenMetadata | None:
    """What the folder adds to its SentencePiece file; None where its model does not use that file, or it has none.

    Raises UserError where the files do not decide it.
    """
    model_file, json_file = folder / SENTENCEPIECE_FILE, folder / TOKENIZER_JSON_FILE
    if not model_file.is_file():
        return None
    if not json_file.is_file():
        return metadata
    if not is_sentencepiece(model_file):
        return None  # tiktoken's file of the same name
    pieces = model_proto(model_file).pieces
    token_ids = _vocabulary(folder_metadata.read_tokenizer_json(folder))
    normal_pieces = [(id_, piece.piece) for id_, piece in enumerate(pieces) if piece.type == NORMAL_PIECE]
    if sum(token_ids.get(piece) == id_ for id_, piece in normal_pieces) >= _MIN_EQUAL_ID_SHARE * len(normal_pieces):
        return metadata
    if _matches_piece_count(folder, metadata.model_vocab_size, len(pieces), max(token_ids.values(), default=-1) + 1):
        return folder_metadata.read_token_metadata(folder, with_tokenizer_json=False)
    return None


def _matches_piece_count(folder: Path, model_vocab_size: int | None, piece_count: int, token_count: int) -> bool:
    """Whether `model_vocab_size` fits tokenizer.model's pieces, not tokenizer.json's tokens."""
    fits = [
        model_vocab_size is not None and count <= model_vocab_size < count + _MAX_PADDING_IDS
        for count in (piece_count, token_count)
    ]
    if fits[0] == fits[1]:
        raise UserError(
            f"{SENTENCEPIECE_FILE} ({piece_count:,} pieces) and {TOKENIZER_JSON_FILE} ({token_count:,} tokens) are two "
            f"tokenizers, and the model's vocab_size "
            f"({'unknown' if model_vocab_size is None else format(model_vocab_size, ',')}) does not say which is its own",
            where=folder,
            hint="move the one away that the model was not trained with",
        )
    return fits[0]


def _vocabulary(tokenizer_data: dict[str, Any]) -> dict[str, int]:
    """Token to id of a tokenizer.json, added tokens included."""
    vocabulary = tokenizer_data.get("model", {}).get("vocab") or {}
    if isinstance(vocabulary, list):  # unigram: [token, score], in the order of their ids
        vocabulary = {entry[0]: id_ for id_, entry in enumerate(vocabulary)}
    return vocabulary | {token["content"]: token["id"] for token in tokenizer_data.get("added_tokens") or []}
