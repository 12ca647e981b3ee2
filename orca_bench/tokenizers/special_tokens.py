"""The JSON files beside a vocabulary in; its added and special tokens, BOS, EOS and all ids that end a text out.

Its own module because every generation of transformers wrote these facts elsewhere: added_tokens.json (2023),
tokenizer_config.json (`added_tokens_decoder`), tokenizer.json (`added_tokens`), special_tokens_map.json, config.json and
generation_config.json. They are read here, not through transformers, because a folder with a SentencePiece file must be
usable whatever transformers makes of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca_bench.errors import UserError
from orca_bench.files import read_json

CONFIG_FILE, GENERATION_CONFIG_FILE, TOKENIZER_CONFIG_FILE = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
)
SPECIAL_TOKENS_MAP_FILE, ADDED_TOKENS_FILE, TOKENIZER_JSON_FILE = (
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
)

_MAX_ID_DIGITS = 10  # an id has fewer


@dataclass(frozen=True)
class AddedToken:
    """A token that is listed apart from the vocabulary. The flags are those of `tokenizers.AddedToken`."""

    content: str
    special: bool
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False


@dataclass(frozen=True)
class TokenMetadata:
    """What a folder's files say of its tokens.

    `spelling_by_key` maps bos_token, eos_token, pad_token and unk_token to their spelling: None where a file says that there is
    none; an absent key, and the empty names of early conversions, say nothing.
    """

    added_token_by_id: dict[int, AddedToken] = field(default_factory=dict)
    spelling_by_key: dict[str, str | None] = field(default_factory=dict)
    #: `eos_token_id` of generation_config.json, then of config.json.
    stop_ids: tuple[int, ...] = ()
    #: `bos_token_id` of config.json.
    bos_id: int | None = None
    #: `add_bos_token` of tokenizer_config.json.
    adds_bos: bool | None = None
    #: `vocab_size` of config.json, how many ids the model takes. None where there is no config.json.
    model_vocab_size: int | None = None
    #: Tokens that the files list and the model's vocabulary is too small for, with their ids.
    ids_beyond_model: dict[str, int] = field(default_factory=dict)


def read_token_metadata(folder: Path, with_tokenizer_json: bool = True) -> TokenMetadata:
    """Read a folder's files, without tokenizer.json where that is another tokenizer's; an absent file says nothing.

    Raises UserError for a file that is not what it should be.
    """
    tokenizer_config, model_config = _read_object(folder, TOKENIZER_CONFIG_FILE), _read_object(folder, CONFIG_FILE)
    text_config = model_config.get("text_config")  # models of text and images nest the decoder's
    decoder_config = text_config if isinstance(text_config, dict) else {}
    generation_config = _read_object(folder, GENERATION_CONFIG_FILE)
    stop_ids = [
        *_checked_token_ids(generation_config.get("eos_token_id"), folder / GENERATION_CONFIG_FILE),
        *_checked_token_ids(model_config.get("eos_token_id", decoder_config.get("eos_token_id")), folder / CONFIG_FILE),
    ]
    configured_size = model_config.get("vocab_size", decoder_config.get("vocab_size"))
    vocab_size = configured_size if isinstance(configured_size, int) and configured_size > 0 else None
    spelling_by_key, listed_spellings = _special_spellings(folder, tokenizer_config)
    bos_ids = _checked_token_ids(
        model_config.get("bos_token_id", decoder_config.get("bos_token_id")), folder / CONFIG_FILE
    )
    adds_bos = tokenizer_config.get("add_bos_token")
    # The empty one, which some conversions list, stands between any two characters.
    added_tokens = {
        id_: token
        for id_, token in _added_tokens(folder, tokenizer_config, listed_spellings, with_tokenizer_json)
        if token.content
    }
    return TokenMetadata(
        # A model cannot be fed a token beyond its vocabulary: `[PAD]` was often added to a tokenizer alone.
        added_token_by_id={
            id_: token for id_, token in added_tokens.items() if id_ >= 0 and (vocab_size is None or id_ < vocab_size)
        },
        spelling_by_key=spelling_by_key,
        stop_ids=tuple(dict.fromkeys(id_ for id_ in stop_ids if id_ >= 0 and (vocab_size is None or id_ < vocab_size))),
        bos_id=bos_ids[0] if bos_ids else None,
        adds_bos=adds_bos if isinstance(adds_bos, bool) else None,
        model_vocab_size=vocab_size,
        ids_beyond_model={
            token.content: id_ for id_, token in added_tokens.items() if vocab_size is not None and id_ >= vocab_size
        },
    )


def _read_object(folder: Path, file_name: str) -> dict[str, Any]:
    """The JSON object of a file; empty where there is no such file."""
    path = folder / file_name
    if not path.is_file():
        return {}
    json_content = read_json(path)
    if not isinstance(json_content, dict):
        raise UserError("not a JSON object", where=path)
    return json_content


def _checked_token_ids(id_or_ids: Any, where: Path) -> list[int]:
    token_ids = id_or_ids if isinstance(id_or_ids, list) else [id_or_ids]
    if any(id_ is not None and type(id_) is not int for id_ in token_ids):
        raise UserError(f"a token id that is not an integer: {str(id_or_ids)[:60]}", where=where)
    return [id_ for id_ in token_ids if id_ is not None]


def _special_spellings(folder: Path, tokenizer_config: dict[str, Any]) -> tuple[dict[str, str | None], set[str]]:
    """The four named tokens, and the spelling of all tokens that are listed as special."""
    special_tokens_map = _read_object(folder, SPECIAL_TOKENS_MAP_FILE)
    spelling_by_key: dict[str, str | None] = {}
    for key in ("bos_token", "eos_token", "pad_token", "unk_token"):
        for source_json in (tokenizer_config, special_tokens_map):
            if key in source_json and _spelling(source_json[key]) != "":
                spelling_by_key[key] = _spelling(source_json[key])
                break
    listed_spellings = {name for name in spelling_by_key.values() if name}
    for source_json in (tokenizer_config, special_tokens_map):
        for key in ("additional_special_tokens", "extra_special_tokens"):
            value = source_json.get(key)
            values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
            listed_spellings |= {spelling for spelling in map(_spelling, values) if spelling}
    return spelling_by_key, listed_spellings


def _spelling(token_entry: Any) -> str | None:
    token_entry = token_entry.get("content") if isinstance(token_entry, dict) else token_entry
    return token_entry if isinstance(token_entry, str) else None


def _added_tokens(
    folder: Path, tokenizer_config: dict[str, Any], special_spellings: set[str], with_tokenizer_json: bool
) -> Iterator[tuple[int, AddedToken]]:
    """Added tokens and their ids, those of the file that is believed most last."""
    for content, id_ in _read_object(
        folder, ADDED_TOKENS_FILE
    ).items():  # has no flags: normal, unless named as special
        if type(id_) is not int:
            raise UserError(f"the token {content!r} has no integer as its id", where=folder / ADDED_TOKENS_FILE)
        yield id_, AddedToken(content, content in special_spellings)
    for token in (read_tokenizer_json(folder).get("added_tokens") if with_tokenizer_json else None) or []:
        yield token.get("id"), _added_token(token, special_spellings, folder / TOKENIZER_JSON_FILE)
    added_tokens_decoder = tokenizer_config.get("added_tokens_decoder")
    for id_, token in (added_tokens_decoder if isinstance(added_tokens_decoder, dict) else {}).items():
        if not (id_.isascii() and id_.isdecimal() and len(id_) < _MAX_ID_DIGITS):
            raise UserError(f"added_tokens_decoder has the id {id_[:60]!r}", where=folder / TOKENIZER_CONFIG_FILE)
        yield int(id_), _added_token(token, special_spellings, folder / TOKENIZER_CONFIG_FILE)


def _added_token(token_entry: Any, special_spellings: set[str], where: Path) -> AddedToken:
    if not isinstance(token_entry, dict) or not isinstance(token_entry.get("content"), str):
        raise UserError(f"an added token without content: {str(token_entry)[:60]}", where=where)
    content = token_entry["content"]
    flags = {name: token_entry.get(name) is True for name in ("lstrip", "rstrip", "single_word")}
    return AddedToken(content, token_entry.get("special") is True or content in special_spellings, **flags)


def read_tokenizer_json(folder: Path) -> dict[str, Any]:
    """A folder's tokenizer.json, empty where there is none; raises UserError where it is not one."""
    if not (folder / TOKENIZER_JSON_FILE).is_file():
        return {}
    tokenizer_json = _read_object(folder, TOKENIZER_JSON_FILE)
    added_tokens = tokenizer_json.get("added_tokens") or []
    if not (
        isinstance(tokenizer_json.get("model"), dict)
        and isinstance(added_tokens, list)
        and all(isinstance(token, dict) and isinstance(token.get("id"), int) for token in added_tokens)
    ):
        raise UserError("not the file of a tokenizer", where=folder / TOKENIZER_JSON_FILE)
    return tokenizer_json
