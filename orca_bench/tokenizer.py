"""Text to token ids, exactly as SentencePiece: what is loaded, checked, repaired and exported.

In: a model folder, a SentencePiece `.model` file, or a hub id. Out: a `Tokenizer` whose `encode` gives SentencePiece's own
ids, never adds BOS or EOS (the caller does), and never reads a special token out of text. Its own module because
transformers' own conversion of such a file disagrees with SentencePiece wherever two spaces meet and turns a literal
`</s>` in a question into the end of the sequence (seen with transformers 5.23.0): a model trained through one tokenizer
and evaluated through another is measured wrongly without any error. So SentencePiece's answer is the truth here, and
`export` writes a `tokenizer.json` built from the SentencePiece file itself, with which plain transformers agrees.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orca_bench.errors import UserError
from orca_bench.files import sha256, write_json, writing
from orca_bench.prompt import CHAT_TEMPLATE

SENTENCEPIECE_FILE = "tokenizer.model"

# Values of sentencepiece_model.proto (sentencepiece 0.2.3).
_UNIGRAM, _BPE = 1, 2
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
_SPACE = "▁"  # U+2581, SentencePiece's mark for a space
_APART = "\ufff9"  # a format character that no text is expected to hold; it ends a grapheme
_NEVER = -1e5  # the score of a piece that must not be found in text


class Tokenizer:
    """SentencePiece's ids. `bos_id` and `eos_id` are for the caller to place; `encode` never adds them."""

    def __init__(self, model_file: Path):
        import sentencepiece

        self.source = model_file
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_file=str(model_file))
        except (OSError, RuntimeError) as error:
            raise UserError("not a SentencePiece model", where=model_file) from error
        self.bos_id: int = self._processor.bos_id()
        self.eos_id: int = self._processor.eos_id()
        self.vocab_size: int = self._processor.vocab_size()
        if self.bos_id < 0 or self.eos_id < 0:
            raise UserError(
                "this SentencePiece model has no BOS or no EOS piece",
                where=model_file,
                hint="train it with bos_id and eos_id set; the Orca prompt starts with the one and ends with the other",
            )

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without BOS and EOS. Special tokens spelled out in the text stay text."""
        try:
            return self._processor.encode(text)
        except (UnicodeEncodeError, RuntimeError) as error:  # sentencepiece 0.2.3 raises the one or the other
            raise UserError(f"text with a lone surrogate cannot be encoded: {text[:40]!r}") from error

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores."""
        try:
            return self._processor.encode(list(texts), num_threads=-1)
        except (UnicodeEncodeError, RuntimeError):
            return [self.encode(text) for text in texts]  # names the text

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids; BOS, EOS and other control pieces have no text."""
        return self._processor.decode([int(i) for i in ids])

    @property
    def eos_text(self) -> str:
        """EOS as it is spelled: `</s>`."""
        return self._processor.id_to_piece(self.eos_id)

    @property
    def unk_id(self) -> int:
        """The id of the unknown piece."""
        return self._processor.unk_id()

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the SentencePiece file."""
        return sha256(self.source)


class FolderTokenizer:
    """The tokenizer of a folder without a SentencePiece file (newer LLaMAs): transformers' own, asked the same way."""

    def __init__(self, folder: str):
        self.source = Path(folder)
        self._tokenizer = _plain(folder)
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


def load(where: str | Path) -> Tokenizer | FolderTokenizer:
    """The tokenizer of a folder, of a `.model` file, or of a hub id.

    Raises UserError where nothing there is a tokenizer.
    """
    path = Path(where)
    if path.is_file():
        return Tokenizer(path)
    if path.is_dir():
        if (path / SENTENCEPIECE_FILE).is_file():
            return Tokenizer(path / SENTENCEPIECE_FILE)
        if (path / "tokenizer.json").is_file():
            return FolderTokenizer(str(path))
        raise UserError(
            "no tokenizer here", where=path, hint=f"expected {SENTENCEPIECE_FILE} or tokenizer.json beside config.json"
        )
    return load(_from_hub(str(where)))


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=["tokenizer*", "special_tokens_map.json", "config.json"]))
    except HFValidationError:
        raise UserError("no such file or folder, and not a hub id", where=name) from None
    except Exception as error:  # the hub client raises a dozen kinds; for the user they are one
        raise UserError(
            f"no such folder here, and the hub did not give it ({type(error).__name__})",
            where=name,
            hint="give the path of a downloaded model folder",
        ) from error


def _plain(folder: str | Path):
    """The folder's tokenizer as plain transformers loads it."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder))
    except Exception as error:
        raise UserError(f"transformers cannot load a tokenizer here ({type(error).__name__})", where=folder) from error


# --- checking -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Disagreement:
    """One text on which a folder's tokenizer and its SentencePiece model give different ids."""

    text: str
    truth: list[int]
    other: list[int]

    def __str__(self) -> str:
        return f"{self.text!r} is {self.truth} to SentencePiece and {self.other} to the folder's tokenizer"


_FIXED_PROBES = (
    "  lead", "two  spaces", "trail  ", " ", "   ", "\t", "\n", "\n\n", " \n ", "a\n  b", "x\r\ny", "\u00a0nbsp\u3000wide",
    "</s>", "a </s> b", "<s>", "<unk>", "<0x0A>", "[INST] x [/INST]", "▁", "a▁b", "▁▁", "def f(x):\n    return x  # two",
    "### System:\nS\n\n### User:\nU\n\n### Response:\n", "1,234.56 + 7 = ?", "é e\u0301 ﬁ ½ Å", "日本語 中文 한국어",
    "🙂👩‍👩‍👧🏽 🇩🇪",
    "\u200b\ufeff\u2028", "\x00\x01\x7f", "ZZzz" * 9, "https://a.b/c?d=e&f=%20",
)  # fmt: skip

_PROBE_PARTS = (
    " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "the", " The", "answer", "Explain", "### ", "Response:", "1", "42", "3.14",
    "</s>", "<s>", "<unk>", "<0x41>", "▁", "▁▁", "é", "ß", "ñ", "Ω", "ж", "中", "語", "한", "🙂", "👩‍👧", "🏽", "½", "ﬁ",
    "\u00a0", "\u200b", "if (x) {", "}", "    return", "==", "!=", "->", "\\n", "\"", "'", "`", "$", "%", ".", ",", "?", ":",
    "a", "b", "Z", "qu", "ing", "ion", "\u0301", "\x07",
)  # fmt: skip


def probe_texts(count: int, seed: int = 0) -> list[str]:
    """`count` deterministic adversarial texts: runs of spaces, line breaks, code, emoji, markers and rare letters."""
    generator = random.Random(seed)
    texts = list(_FIXED_PROBES[:count])
    while len(texts) < count:
        texts.append("".join(generator.choices(_PROBE_PARTS, k=generator.randint(1, 24))))
    return texts


def first_disagreement(truth: Tokenizer, plain, texts: Iterable[str]) -> Disagreement | None:
    """The first of `texts` to which the transformers tokenizer `plain` gives other ids than `truth`, or None."""
    for text in texts:
        expected, found = truth.encode(text), plain(text, add_special_tokens=False)["input_ids"]
        if expected != found:
            return Disagreement(text, expected, list(found))
    return None


def check_folder(folder: str | Path, probes: int = 300) -> Disagreement | None:
    """Whether plain transformers, loading a folder or hub id, agrees with its SentencePiece model; None where it does.

    A folder without a SentencePiece file, and such a file alone, have nothing to disagree with.
    """
    if Path(folder).is_file():
        return None
    if not Path(folder).is_dir():
        folder = _from_hub(str(folder))
    model_file = Path(folder) / SENTENCEPIECE_FILE
    if not model_file.is_file():
        return None
    return first_disagreement(Tokenizer(model_file), _plain(folder), probe_texts(probes))


def explain(disagreement: Disagreement) -> str:
    """What a person is told of a folder whose tokenizer is not its SentencePiece model."""
    return (
        f"as transformers loads it, this folder's tokenizer is not its SentencePiece model ({disagreement}); "
        "SentencePiece's ids are used, and what training exports is repaired"
    )


# --- repair and export --------------------------------------------------------------------------------------------


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


def export(tokenizer: Tokenizer | FolderTokenizer, folder: Path, max_length: int | None = None) -> Disagreement | None:
    """Write the tokenizer and the Orca chat template into a model folder, then load it back as plain transformers does.

    `max_length` is the model's context window in tokens. Returns what plain transformers still disagrees on, or None.
    """
    from transformers import PreTrainedTokenizerFast

    if isinstance(tokenizer, FolderTokenizer):
        plain = tokenizer._tokenizer
        plain.chat_template = CHAT_TEMPLATE
        plain.split_special_tokens = True
        with writing(folder):
            plain.save_pretrained(folder)
        return None
    fast = build_fast(tokenizer.source)
    plain = PreTrainedTokenizerFast(
        tokenizer_object=fast,
        bos_token=fast.id_to_token(tokenizer.bos_id),
        eos_token=fast.id_to_token(tokenizer.eos_id),
        unk_token=fast.id_to_token(tokenizer._processor.unk_id()),
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
        model_max_length=max_length or 2048,
        chat_template=CHAT_TEMPLATE,
    )
    with writing(folder):
        plain.save_pretrained(folder)
        if tokenizer.source.resolve() != (folder / SENTENCEPIECE_FILE).resolve():
            shutil.copyfile(tokenizer.source, folder / SENTENCEPIECE_FILE)
    # transformers 5 writes its own new class name, which 4.x and other loaders do not know; both know this one.
    config_file = folder / "tokenizer_config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    write_json(config_file, config | {"tokenizer_class": "PreTrainedTokenizerFast"})
    return first_disagreement(tokenizer, _plain(folder), probe_texts(300, seed=1))
