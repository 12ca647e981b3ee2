"""Our tokenizers in, `tokenizers.Tokenizer`s out that give the same ids: what an export writes as tokenizer.json.

An exported file is to be right in other hands: special tokens spelled out in a text stay text, and BOS, with which the chat
template begins, is BOS. tokenizers finds either all special tokens in a text or none (`encode_special_tokens`, in
transformers `split_special_tokens`). Where the model is a SentencePiece BPE it finds none, and BOS at the beginning of a text
is a piece that the pre-tokenizer sets apart. For all others it finds them, and the chat template puts `SPECIAL_TOKEN_ESCAPE`
into the special tokens that a message spells out; the normaliser takes it away again.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench.errors import UserError
from orca_bench.tokenizers.hugging_face import FolderTokenizer
from orca_bench.tokenizers.sentencepiece_file import (
    BPE_MODEL,
    BYTE_PIECE,
    NORMAL_PIECE,
    UNIGRAM_MODEL,
    UNKNOWN_PIECE,
    USER_DEFINED_PIECE,
    SentencePieceTokenizer,
    model_proto,
)
from orca_bench.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from sentencepiece.sentencepiece_model_pb2 import ModelProto
    from tokenizers import Tokenizer as FastTokenizer
    from tokenizers.decoders import Decoder
    from tokenizers.models import Model
    from tokenizers.normalizers import Normalizer
    from tokenizers.pre_tokenizers import PreTokenizer
    from tokenizers.processors import PostProcessor

#: A noncharacter of Unicode, which no text has.
SPECIAL_TOKEN_ESCAPE = "\ufdd0"

_SPACE_MARK = "▁"  # U+2581, SentencePiece's mark for a space
_GRAPHEME_SEPARATOR = "\ufff9"  # a format character that no text is expected to hold; it ends a grapheme
_UNUSED_PIECE_SCORE = -1e5  # the score of a piece that must not be found in text


def must_find_special_tokens(tokenizer: Tokenizer) -> bool:
    """Whether `build_fast_tokenizer` must find special tokens in texts, because otherwise it would not find BOS."""
    if tokenizer.bos_id is None:
        return False
    return not (isinstance(tokenizer, SentencePieceTokenizer) and tokenizer.is_bpe)


def build_fast_tokenizer(tokenizer: Tokenizer) -> FastTokenizer:
    """A `tokenizers.Tokenizer` that gives a tokenizer's ids, and BOS for the spelling of BOS at the beginning of a text.

    Raises UserError for a SentencePiece model that is neither BPE nor unigram.
    """
    if isinstance(tokenizer, SentencePieceTokenizer):
        fast_tokenizer = _from_sentencepiece(tokenizer)
    else:
        assert isinstance(tokenizer, FolderTokenizer), "there are two kinds of tokenizer"
        fast_tokenizer = copy.deepcopy(tokenizer.transformers_tokenizer.backend_tokenizer)
    fast_tokenizer.post_processor = _bos_post_processor(tokenizer)
    escapes_special_tokens = must_find_special_tokens(tokenizer)
    fast_tokenizer.encode_special_tokens = not escapes_special_tokens
    if escapes_special_tokens:
        fast_tokenizer.normalizer = _escape_removing_normalizer(fast_tokenizer.normalizer)
    return fast_tokenizer


def _bos_post_processor(tokenizer: Tokenizer) -> PostProcessor:
    """BOS where plain transformers adds it to a text; nothing else, whatever the base's tokenizer added."""
    from tokenizers import processors

    if not tokenizer.adds_bos or tokenizer.bos_id is None:
        return processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    bos_spelling = tokenizer.spelling(tokenizer.bos_id)
    return processors.TemplateProcessing(
        single=f"{bos_spelling} $A",
        pair=f"{bos_spelling} $A {bos_spelling} $B",
        special_tokens=[(bos_spelling, tokenizer.bos_id)],
    )


def _escape_removing_normalizer(normalizer: Normalizer | None) -> Normalizer:
    from tokenizers import normalizers

    remove_escapes = normalizers.Replace(SPECIAL_TOKEN_ESCAPE, "")
    return remove_escapes if normalizer is None else normalizers.Sequence([remove_escapes, normalizer])


def _from_sentencepiece(tokenizer: SentencePieceTokenizer) -> FastTokenizer:
    """Built from the SentencePiece file itself: pieces, scores, normaliser, dummy prefix; and the tokens that a folder adds.

    BPE merges are every split of a normal piece into two normal pieces, ordered by the merged piece's score, then id:
    SentencePiece merges, of all neighbouring pairs that make a piece, the pair whose piece has the best score.
    """
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as FastTokenizer

    model_protobuf = model_proto(tokenizer.source, tokenizer.promoted_control_ids)
    bos_spelling = None if tokenizer.bos_id is None else tokenizer.spelling(tokenizer.bos_id)
    fast_tokenizer = FastTokenizer(_build_model(model_protobuf, tokenizer.source))
    bos_in_text = bos_spelling if tokenizer.is_bpe else None  # as text, by the pre-tokenizer; else as a special token
    fast_tokenizer.normalizer = _build_normalizer(model_protobuf, bos_in_text)
    fast_tokenizer.pre_tokenizer = _build_pre_tokenizer(model_protobuf, bos_in_text)
    fast_tokenizer.decoder = _build_decoder(model_protobuf)
    fast_tokenizer.add_special_tokens(
        [tokenizer.spelling(id_) for id_ in tokenizer.special_ids if id_ < tokenizer.piece_count]
    )
    for id_ in range(
        tokenizer.piece_count, tokenizer.vocab_size
    ):  # tokenizers numbers added tokens in order, without gaps
        token = tokenizer.added_tokens.get(id_)
        if token is None or id_ in tokenizer.special_ids:
            fast_tokenizer.add_special_tokens([f"<unused_{id_}>" if token is None else token.content])
        else:
            flags = {"lstrip": token.lstrip, "rstrip": token.rstrip, "single_word": token.single_word}
            fast_tokenizer.add_tokens([AddedToken(token.content, normalized=False, **flags)])
    return fast_tokenizer


def _build_model(model_protobuf: ModelProto, model_file: Path) -> Model:
    from tokenizers import models

    model_type, unknown_piece = model_protobuf.trainer_spec.model_type, model_protobuf.trainer_spec.unk_piece
    byte_fallback = any(p.type == BYTE_PIECE for p in model_protobuf.pieces)
    if model_type == UNIGRAM_MODEL:
        unknown_id = next(i for i, p in enumerate(model_protobuf.pieces) if p.type == UNKNOWN_PIECE)
        # The unigram model of tokenizers would find unknown, control and byte pieces spelled out in text.
        text_types = (NORMAL_PIECE, USER_DEFINED_PIECE)
        score_of_pieces = [
            (p.piece, p.score if p.type in text_types else _UNUSED_PIECE_SCORE) for p in model_protobuf.pieces
        ]
        return models.Unigram(score_of_pieces, unknown_id, byte_fallback)
    if model_type != BPE_MODEL:
        raise UserError(
            "a SentencePiece model of type word or char has no equal in tokenizers",
            where=model_file,
            hint="use a BPE or unigram model",
        )
    id_by_piece = {p.piece: i for i, p in enumerate(model_protobuf.pieces)}
    normal_pieces = {p.piece for p in model_protobuf.pieces if p.type == NORMAL_PIECE}
    ranked_pieces = sorted(
        (-p.score, i, p.piece) for i, p in enumerate(model_protobuf.pieces) if p.type == NORMAL_PIECE
    )
    merges = [
        (piece[:split_index], piece[split_index:])
        for _, _, piece in ranked_pieces
        for split_index in range(1, len(piece))
        if piece[:split_index] in normal_pieces and piece[split_index:] in normal_pieces
    ]
    return models.BPE(
        vocab=id_by_piece,
        merges=merges,
        unk_token=unknown_piece,
        fuse_unk=True,
        byte_fallback=byte_fallback,
        # BOS and a user-defined symbol are one piece each whatever their letters are: `_build_pre_tokenizer` parts them.
        ignore_merges=True,
    )


def _build_normalizer(model_protobuf: ModelProto, bos_in_text: str | None) -> Normalizer:
    from tokenizers import Regex, normalizers

    normalizer_spec = model_protobuf.normalizer_spec
    # The start of a text: its first character, or the one after BOS.
    text_start_pattern = (
        r"\A" if bos_in_text is None else rf"(?:\A(?!{re.escape(bos_in_text)})|(?<=\A{re.escape(bos_in_text)}))"
    )
    normalizer_steps = []
    if normalizer_spec.precompiled_charsmap:
        # tokenizers 0.23.3 looks a whole grapheme up and, where only its beginning is in the map, drops the rest (a
        # no-break space before a combining accent). SentencePiece looks for the longest entry from each character on.
        # Composing first and keeping the characters apart with a mark that ends graphemes gives the same.
        normalizer_steps += [
            normalizers.NFC(),
            normalizers.Replace(Regex("(?m)(?<=.)(?=.)"), _GRAPHEME_SEPARATOR),
            normalizers.Precompiled(normalizer_spec.precompiled_charsmap),
            normalizers.Replace(_GRAPHEME_SEPARATOR, ""),
        ]
    optional_space_pattern = ""
    if normalizer_spec.remove_extra_whitespaces:
        normalizer_steps += [
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Replace(Regex(rf"[ {_SPACE_MARK}]+\z"), ""),
        ]
        optional_space_pattern = " ?"
    if normalizer_spec.add_dummy_prefix and not model_protobuf.trainer_spec.treat_whitespace_as_suffix:
        # In one step: a text that begins with a space and the spelling of BOS must not become one that begins with BOS.
        normalizer_steps.append(
            normalizers.Replace(Regex(rf"{text_start_pattern}{optional_space_pattern}(?=[\s\S])"), " ")
        )
    else:
        normalizer_steps += (
            [normalizers.Replace(Regex(rf"{text_start_pattern} "), "")] if optional_space_pattern else []
        )
        normalizer_steps += (
            [normalizers.Replace(Regex(r"(?<=[\s\S])\z"), " ")] if normalizer_spec.add_dummy_prefix else []
        )
    if normalizer_spec.escape_whitespaces:
        normalizer_steps.append(normalizers.Replace(" ", _SPACE_MARK))
    return normalizers.Sequence(normalizer_steps)


def _build_pre_tokenizer(model_protobuf: ModelProto, bos_in_text: str | None) -> PreTokenizer | None:
    """BOS at the beginning and user-defined symbols stand alone, the longest symbol first; None where there is neither."""
    from tokenizers import Regex, pre_tokenizers

    user_symbols = sorted(
        (p.piece for p in model_protobuf.pieces if p.type == USER_DEFINED_PIECE), key=len, reverse=True
    )
    isolated_patterns = ([] if bos_in_text is None else [rf"\A{re.escape(bos_in_text)}"]) + [
        re.escape(symbol) for symbol in user_symbols
    ]
    return pre_tokenizers.Split(Regex("|".join(isolated_patterns)), behavior="isolated") if isolated_patterns else None


def _build_decoder(model_protobuf: ModelProto) -> Decoder:
    from tokenizers import decoders

    decoder_steps = [decoders.Replace(_SPACE_MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    if model_protobuf.normalizer_spec.add_dummy_prefix:
        decoder_steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(decoder_steps)
