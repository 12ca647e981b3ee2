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


def load_tokenizer(file_or_folder: str | Path) -> Tokenizer:
    """The tokenizer of a folder or of a `.model` file; one of the hub is fetched first (`models.model_folder.locate_model`).

    Raises UserError where nothing there is a tokenizer, or where there are two and nothing says which is the model's.
    """
    path = Path(file_or_folder)
    if path.is_file():
        return SentencePieceTokenizer(path)
    if not path.is_dir():
        raise UserError("no such tokenizer file or folder", where=file_or_folder)
    metadata = folder_metadata.read_token_metadata(path)
    sentencepiece_metadata = _metadata_for_sentencepiece(path, metadata)
    if sentencepiece_metadata is not None:
        return SentencePieceTokenizer(path / SENTENCEPIECE_FILE, sentencepiece_metadata)
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
    sentencepiece_path, tokenizer_json_file = folder / SENTENCEPIECE_FILE, folder / TOKENIZER_JSON_FILE
    if not sentencepiece_path.is_file():
        return None
    if not tokenizer_json_file.is_file():
        return metadata
    if not is_sentencepiece(sentencepiece_path):
        return None  # tiktoken's file of the same name
    pieces = model_proto(sentencepiece_path).pieces
    id_by_token = _id_by_token(folder_metadata.read_tokenizer_json(folder))
    normal_pieces = [(id_, piece.piece) for id_, piece in enumerate(pieces) if piece.type == NORMAL_PIECE]
    if sum(id_by_token.get(piece) == id_ for id_, piece in normal_pieces) >= _MIN_EQUAL_ID_SHARE * len(normal_pieces):
        return metadata
    if _matches_piece_count(folder, metadata.model_vocab_size, len(pieces), max(id_by_token.values(), default=-1) + 1):
        return folder_metadata.read_token_metadata(folder, with_tokenizer_json=False)
    return None


def _matches_piece_count(folder: Path, model_vocab_size: int | None, piece_count: int, token_count: int) -> bool:
    """Whether `model_vocab_size` fits tokenizer.model's pieces, not tokenizer.json's tokens."""
    fits_model_vocab = [
        model_vocab_size is not None and count <= model_vocab_size < count + _MAX_PADDING_IDS
        for count in (piece_count, token_count)
    ]
    if fits_model_vocab[0] == fits_model_vocab[1]:
        raise UserError(
            f"{SENTENCEPIECE_FILE} ({piece_count:,} pieces) and {TOKENIZER_JSON_FILE} ({token_count:,} tokens) are two "
            f"tokenizers, and the model's vocab_size "
            f"({'unknown' if model_vocab_size is None else format(model_vocab_size, ',')}) does not say which is its own",
            where=folder,
            hint="move the one away that the model was not trained with",
        )
    return fits_model_vocab[0]


def _id_by_token(tokenizer_json: dict[str, Any]) -> dict[str, int]:
    """Token to id of a tokenizer.json, added tokens included."""
    id_by_token = tokenizer_json.get("model", {}).get("vocab") or {}
    if isinstance(id_by_token, list):  # unigram: [token, score], in the order of their ids
        id_by_token = {entry[0]: id_ for id_, entry in enumerate(id_by_token)}
    return id_by_token | {token["content"]: token["id"] for token in tokenizer_json.get("added_tokens") or []}
