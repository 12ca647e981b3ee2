"""A SentencePiece file in, a `tokenizers.Tokenizer` out that gives the same ids: what an export writes as tokenizer.json."""

from __future__ import annotations

from pathlib import Path

from orca_bench.errors import UserError

# Values of sentencepiece_model.proto (sentencepiece 0.2.3).
_UNIGRAM, _BPE = 1, 2
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
_SPACE = "▁"  # U+2581, SentencePiece's mark for a space
_APART = "\ufff9"  # a format character that no text is expected to hold; it ends a grapheme
_NEVER = -1e5  # the score of a piece that must not be found in text


def build_fast(model_file: Path):
    """A `tokenizers.Tokenizer` built from the SentencePiece file itself: pieces, scores, normaliser, dummy prefix.

    BPE merges are every split of a normal piece into two normal pieces, ordered by the merged piece's score, then id:
    SentencePiece merges, of all neighbouring pairs that make a piece, the pair whose piece has the best score. Special
    tokens are registered so that they have ids, and are not looked for in text (`encode_special_tokens`).
    Raises UserError for a SentencePiece model that is neither BPE nor unigram.
    """
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import AddedToken, processors
    from tokenizers import Tokenizer as FastTokenizer

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(Path(model_file).read_bytes())
    fast = FastTokenizer(_model(proto, model_file))
    fast.normalizer = _normalizer(proto)
    fast.pre_tokenizer = _symbol_splitter(proto)
    fast.decoder = _decoder(proto)
    specials = [p.piece for p in proto.pieces if p.type in (_UNKNOWN, _CONTROL)]
    fast.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in specials])
    fast.encode_special_tokens = True
    bos = proto.trainer_spec.bos_piece
    fast.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, fast.token_to_id(bos))]
    )
    return fast


def _model(proto, model_file: Path):
    from tokenizers import models

    kind, unknown = proto.trainer_spec.model_type, proto.trainer_spec.unk_piece
    byte_fallback = any(p.type == _BYTE for p in proto.pieces)
    if kind == _UNIGRAM:
        unknown_id = next(i for i, p in enumerate(proto.pieces) if p.type == _UNKNOWN)
        # The unigram model of tokenizers would find unknown, control and byte pieces spelled out in text.
        found = (_NORMAL, _USER_DEFINED)
        scores = [(p.piece, p.score if p.type in found else _NEVER) for p in proto.pieces]
        return models.Unigram(scores, unknown_id, byte_fallback)
    if kind != _BPE:
        raise UserError(
            "a SentencePiece model of type word or char has no equal in tokenizers",
            where=model_file,
            hint="use a BPE or unigram model",
        )
    vocab = {p.piece: i for i, p in enumerate(proto.pieces)}
    normal = {p.piece for p in proto.pieces if p.type == _NORMAL}
    ranked = sorted((-p.score, i, p.piece) for i, p in enumerate(proto.pieces) if p.type == _NORMAL)
    merges = [
        (piece[:cut], piece[cut:])
        for _, _, piece in ranked
        for cut in range(1, len(piece))
        if piece[:cut] in normal and piece[cut:] in normal
    ]
    return models.BPE(
        vocab=vocab,
        merges=merges,
        unk_token=unknown,
        fuse_unk=True,
        byte_fallback=byte_fallback,
        # A user-defined symbol is one piece whatever its letters are; `_symbol_splitter` hands it over alone.
        ignore_merges=any(p.type == _USER_DEFINED for p in proto.pieces),
    )


def _normalizer(proto):
    from tokenizers import Regex, normalizers

    spec = proto.normalizer_spec
    steps = []
    if spec.precompiled_charsmap:
        # tokenizers 0.23.3 looks a whole grapheme up and, where only its beginning is in the map, drops the rest (a
        # no-break space before a combining accent). SentencePiece looks for the longest entry from each character on.
        # Composing first and keeping the characters apart with a mark that ends graphemes gives the same.
        steps += [
            normalizers.NFC(),
            normalizers.Replace(Regex("(?m)(?<=.)(?=.)"), _APART),
            normalizers.Precompiled(spec.precompiled_charsmap),
            normalizers.Replace(_APART, ""),
        ]
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Replace(Regex(rf"\A |[ {_SPACE}]+\z"), "")]
    if spec.add_dummy_prefix:
        suffix = proto.trainer_spec.treat_whitespace_as_suffix
        steps.append(normalizers.Replace(Regex(r"(?<=[\s\S])\z"), " ") if suffix else normalizers.Prepend(" "))
    if spec.escape_whitespaces:
        steps.append(normalizers.Replace(" ", _SPACE))
    return normalizers.Sequence(steps)


def _symbol_splitter(proto):
    """User-defined symbols stand alone, longest first; None where the file has none."""
    import re

    from tokenizers import Regex, pre_tokenizers

    symbols = sorted((p.piece for p in proto.pieces if p.type == _USER_DEFINED), key=len, reverse=True)
    if not symbols:
        return None
    return pre_tokenizers.Split(Regex("|".join(re.escape(symbol) for symbol in symbols)), behavior="isolated")


def _decoder(proto):
    from tokenizers import decoders

    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if proto.normalizer_spec.add_dummy_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(steps)
