"""The vocabulary of a GGUF file in, the tokenizer files of a model folder out: SentencePiece's, or a byte-level BPE's.

A GGUF file names its tokenizer's kind (`tokenizer.ggml.model`) and, for a byte-level BPE, how text is split before merges are
applied (`tokenizer.ggml.pre`). llama.cpp has the expressions of each of these names in its code (src/llama-vocab.cpp,
`llm_tokenizer_bpe`), not in the file; those known here are below, and any other name is refused, because a text that is split
otherwise gets other ids without any error.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_bench.errors import UserError
from orca_bench.files import write_json, write_text
from orca_bench.models.gguf.gguf_file import GgufFile
from orca_bench.tokenizers.sentencepiece_file import BPE, SENTENCEPIECE_FILE
from orca_bench.tokenizers.special_tokens import TOKENIZER_CONFIG, TOKENIZER_JSON

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer

# Values of tokenizer.ggml.token_type (gguf/constants.py, TokenType); SentencePiece's own are the same.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

_CONTRACTIONS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _CONTRACTIONS + _WORDS + r"|\p{N}{1,3}" + _REST
_QWEN2 = _CONTRACTIONS + _WORDS + r"|\p{N}" + _REST
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class _Splitting:
    """How text is split before merges: expressions applied one after another; whether a whole word of the vocabulary is taken."""

    expressions: tuple[str, ...]
    ignores_merges: bool = False


_SPLITTINGS_BY_NAMES = {
    ("gpt-2", "phi-2", "mpt", "olmo", "jina-es", "jina-de", "gigachat", "granite-docling"): _Splitting((_GPT2,)),
    ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"): _Splitting((r"\p{N}", _GPT2)),
    ("llama-bpe", "llama3", "llama-v3", "falcon3", "dbrx", "smaug-bpe"): _Splitting((_LLAMA3,), ignores_merges=True),
    ("qwen2", "stablelm2", "deepseek-r1-qwen", "megrez"): _Splitting((_QWEN2,)),
    ("tekken",): _Splitting((_TEKKEN,), ignores_merges=True),
}
# Of these, llama.cpp takes whole words for Llama 3's own names only.
_SPLITTINGS = {
    name: (_Splitting(splitting.expressions) if name in ("dbrx", "smaug-bpe") else splitting)
    for names, splitting in _SPLITTINGS_BY_NAMES.items()
    for name in names
}


def write_tokenizer(file: GgufFile, folder: Path) -> None:
    """Write the tokenizer's files, and the chat template where the file has one, to a folder.

    Raises UserError for a kind of tokenizer that is not known, and for a vocabulary that contradicts itself.
    """
    kind = file.get("tokenizer.ggml.model", str)
    tokens = file.get("tokenizer.ggml.tokens", list)
    types = file.get("tokenizer.ggml.token_type", list, [NORMAL] * len(tokens))
    if len(types) != len(tokens):
        raise UserError(f"{len(tokens)} tokens and {len(types)} types of tokens", where=file.path)
    if kind == "llama":
        _write_sentencepiece(file, tokens, types, folder / SENTENCEPIECE_FILE)
    elif kind == "gpt2":
        _byte_level_tokenizer(file, tokens, types).save(str(folder / TOKENIZER_JSON))
    else:
        raise UserError(
            f"a tokenizer of kind {kind!r}; llama (SentencePiece) and gpt2 (byte-level BPE) can be read", where=file.path
        )
    _write_settings(file, tokens, types, folder)


def adds_bos(file: GgufFile) -> bool:
    """Whether the model's texts begin with BOS; llama.cpp's default where the file does not say it: SentencePiece's do."""
    return file.get("tokenizer.ggml.add_bos_token", bool, file.get("tokenizer.ggml.model", str) == "llama")


def _special_ids(file: GgufFile, token_count: int) -> dict[str, int]:
    """Ids by name: bos, eos, unk and pad, as far as the file has them."""
    ids: dict[str, int] = {}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        id_ = file.get(f"tokenizer.ggml.{key}_token_id", int, None)
        if id_ is None:
            continue
        if not 0 <= id_ < token_count:
            raise UserError(f"tokenizer.ggml.{key}_token_id is {id_}, of {token_count} tokens", where=file.path)
        ids[name] = id_
    return ids


def _write_sentencepiece(file: GgufFile, tokens: list[str], types: list[int], model_file: Path) -> None:
    """A SentencePiece model of the file's pieces and scores; how it treats spaces stands in the metadata."""
    from sentencepiece.sentencepiece_model_pb2 import ModelProto

    scores = file.get("tokenizer.ggml.scores", list, [0.0] * len(tokens))
    if len(scores) != len(tokens):
        raise UserError(f"{len(tokens)} tokens and {len(scores)} scores", where=file.path)
    ids = _special_ids(file, len(tokens))
    proto = ModelProto()
    for id_, (token, score, type_) in enumerate(zip(tokens, scores, types, strict=True)):
        proto.pieces.add(piece=token, score=score, type=UNKNOWN if id_ == ids.get("unk") else type_)
    trainer = proto.trainer_spec
    trainer.model_type, trainer.vocab_size, trainer.byte_fallback = BPE, len(tokens), BYTE in types
    trainer.unk_id, trainer.bos_id = ids.get("unk", types.index(UNKNOWN) if UNKNOWN in types else -1), ids.get("bos", -1)
    trainer.eos_id, trainer.pad_id = ids.get("eos", -1), ids.get("pad", -1)
    for name in ("unk", "bos", "eos", "pad"):
        if (id_ := getattr(trainer, f"{name}_id")) >= 0:
            setattr(trainer, f"{name}_piece", tokens[id_])
    normalizer = proto.normalizer_spec
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = file.get("tokenizer.ggml.add_space_prefix", bool, True)
    normalizer.remove_extra_whitespaces = file.get("tokenizer.ggml.remove_extra_whitespaces", bool, False)
    normalizer.escape_whitespaces = True
    model_file.write_bytes(proto.SerializeToString())


def _byte_level_tokenizer(file: GgufFile, tokens: list[str], types: list[int]) -> FastTokenizer:
    """The byte-level BPE of the file's tokens and merges."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

    splitting = _splitting(file)
    vocabulary = {token: id_ for id_, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise UserError(f"{len(tokens) - len(vocabulary)} tokens of the vocabulary stand in it twice", where=file.path)
    merges = []
    for merge in file.get("tokenizer.ggml.merges", list):
        left, separator, right = merge.partition(" ")
        if not separator or left not in vocabulary or right not in vocabulary or left + right not in vocabulary:
            raise UserError(f"the merge {merge!r:.60} is not one of two tokens to a third", where=file.path)
        merges.append((left, right))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=splitting.ignores_merges))
    splits = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in splitting.expressions]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added_tokens = [
        AddedToken(token, special=type_ == CONTROL, normalized=False)
        for token, type_ in zip(tokens, types, strict=True)
        if type_ in (CONTROL, USER_DEFINED)
    ]
    tokenizer.add_tokens(added_tokens)
    if adds_bos(file):
        bos_id = _special_ids(file, len(tokens)).get("bos")
        if bos_id is None:
            raise UserError("texts begin with BOS, and tokenizer.ggml.bos_token_id is missing", where=file.path)
        bos = tokens[bos_id]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[bos, "$A"], pair=[bos, "$A", bos, "$B:1"], special_tokens=[(bos, bos_id)]
        )
    return tokenizer


def _splitting(file: GgufFile) -> _Splitting:
    name = file.get("tokenizer.ggml.pre", str, None)
    if name is None:
        raise UserError(
            "the file does not say how its tokenizer splits text (tokenizer.ggml.pre)",
            where=file.path,
            hint="it is from before May 2024; convert the model again",
        )
    if name not in _SPLITTINGS:
        raise UserError(
            f"a tokenizer that splits text as {name!r} does; known: {', '.join(sorted(_SPLITTINGS))}",
            where=file.path,
            hint="the model's own folder has a tokenizer.json, which can be used instead",
        )
    return _SPLITTINGS[name]


def _write_settings(file: GgufFile, tokens: list[str], types: list[int], folder: Path) -> None:
    """tokenizer_config.json, and chat_template.jinja where the file has a template."""
    ids = _special_ids(file, len(tokens))
    settings: dict[str, Any] = {f"{name}_token": tokens[id_] for name, id_ in ids.items()}
    settings["bos_token"] = settings.get("bos_token")  # null says that there is none
    write_json(
        folder / TOKENIZER_CONFIG,
        {
            "add_bos_token": adds_bos(file),
            "add_eos_token": False,
            "added_tokens_decoder": {
                str(id_): {"content": tokens[id_], "special": types[id_] == CONTROL}
                | dict.fromkeys(("lstrip", "rstrip", "single_word", "normalized"), False)
                for id_ in range(len(tokens))
                if types[id_] in (CONTROL, USER_DEFINED)
            },
            **settings,
            "clean_up_tokenization_spaces": False,
            "model_max_length": file.get("llama.context_length", int),
            "tokenizer_class": "LlamaTokenizer" if (folder / SENTENCEPIECE_FILE).is_file() else "PreTrainedTokenizerFast",
        },
    )
    template = file.get("tokenizer.chat_template", str, None)
    if template:
        write_text(folder / "chat_template.jinja", template)
