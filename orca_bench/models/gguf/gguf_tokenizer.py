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
from orca_bench.files import read_json, write_json, write_text
from orca_bench.models.gguf.gguf_file import GgufFile
from orca_bench.prompt import chat_template
from orca_bench.tokenizers.conversion import SPECIAL_TOKEN_ESCAPE
from orca_bench.tokenizers.export import export_tokenizer
from orca_bench.tokenizers.loading import load_tokenizer
from orca_bench.tokenizers.probes import probe_texts
from orca_bench.tokenizers.sentencepiece_file import BPE_MODEL, SENTENCEPIECE_FILE, SentencePieceTokenizer, model_proto
from orca_bench.tokenizers.special_tokens import TOKENIZER_CONFIG_FILE, TOKENIZER_JSON_FILE
from orca_bench.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer
    from tokenizers.pre_tokenizers import PreTokenizer

# Values of tokenizer.ggml.token_type (gguf/constants.py, TokenType); SentencePiece's own are the same.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

#: What an exported student's tokenizer.json has where special tokens must be found in text (tokenizers/conversion.py).
_ESCAPE_NORMALIZER = {"type": "Replace", "pattern": {"String": SPECIAL_TOKEN_ESCAPE}, "content": ""}
CHAT_TEMPLATE_FILE = "chat_template.jinja"
_PROBE_COUNT = 1000  # texts that tell one way of splitting from another

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
    """How text is split before merges: expressions applied one after another; whether a whole word of the vocabulary is taken.

    `adds_bos` is llama.cpp's default for files that do not say it.
    """

    expressions: tuple[str, ...]
    ignores_merges: bool = False
    adds_bos: bool = False


_SPLITTINGS_BY_NAMES = {
    ("gpt-2", "phi-2", "mpt", "olmo", "jina-es", "jina-de", "gigachat", "granite-docling"): _Splitting((_GPT2,)),
    ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"): _Splitting((r"\p{N}", _GPT2)),
    ("llama-bpe", "llama3", "llama-v3", "falcon3"): _Splitting((_LLAMA3,), ignores_merges=True, adds_bos=True),
    ("dbrx", "smaug-bpe"): _Splitting((_LLAMA3,)),
    ("qwen2", "stablelm2", "deepseek-r1-qwen", "megrez"): _Splitting((_QWEN2,)),
    ("tekken",): _Splitting((_TEKKEN,), ignores_merges=True, adds_bos=True),
}
_SPLITTINGS = {name: splitting for names, splitting in _SPLITTINGS_BY_NAMES.items() for name in names}


def write_tokenizer(file: GgufFile, folder: Path) -> None:
    """Write the tokenizer's files, and the chat template where the file has one, to a folder.

    Raises UserError for a kind of tokenizer that is not known, and for a vocabulary that contradicts itself.
    """
    kind = file.get("tokenizer.ggml.model", str)
    tokens = file.get("tokenizer.ggml.tokens", list)
    types = file.get("tokenizer.ggml.token_type", list, [NORMAL] * len(tokens))
    if len(types) != len(tokens):
        raise UserError(f"{len(tokens)} tokens and {len(types)} types of tokens", where=file.path)
    unknown_types = sorted({str(type_) for type_ in types if type_ not in range(NORMAL, BYTE + 1)})
    if unknown_types or not all(isinstance(token, str) for token in tokens):
        raise UserError(
            f"types of tokens that are not known: {', '.join(unknown_types) or 'not texts'}", where=file.path
        )
    if file.get("tokenizer.ggml.add_eos_token", bool, False):
        raise UserError(
            "the model's texts end with EOS before they are read (add_eos_token): not supported", where=file.path
        )
    if kind == "llama":
        _write_sentencepiece(file, tokens, types, folder / SENTENCEPIECE_FILE)
    elif kind == "gpt2":
        _byte_level_tokenizer(file, tokens, types).save(str(folder / TOKENIZER_JSON_FILE))
    else:
        raise UserError(
            f"a tokenizer of kind {kind!r}; llama (SentencePiece) and gpt2 (byte-level BPE) can be read",
            where=file.path,
        )
    _write_settings(file, tokens, types, folder)
    if kind == "llama":
        # The same tokenizer as tokenizer.json, for plain transformers; with it comes the Orca prompt's template.
        export_tokenizer(load_tokenizer(folder), folder, file.get("llama.context_length", int))
        (folder / CHAT_TEMPLATE_FILE).unlink(missing_ok=True)
    if template := file.get("tokenizer.chat_template", str, None):
        write_text(folder / CHAT_TEMPLATE_FILE, template)


def adds_bos(file: GgufFile) -> bool:
    """Whether the model's texts begin with BOS; llama.cpp's default where the file does not say it.

    That is yes for SentencePiece, and for a byte-level BPE by how it splits text (Llama 3's files came without the key).
    """
    is_sentencepiece = file.get("tokenizer.ggml.model", str) == "llama"
    return file.get("tokenizer.ggml.add_bos_token", bool, is_sentencepiece or _splitting(file).adds_bos)


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
    trainer.model_type, trainer.vocab_size, trainer.byte_fallback = BPE_MODEL, len(tokens), BYTE in types
    trainer.unk_id, trainer.bos_id = (
        ids.get("unk", types.index(UNKNOWN) if UNKNOWN in types else -1),
        ids.get("bos", -1),
    )
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
    from tokenizers import AddedToken, Tokenizer, decoders, models, processors

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
    tokenizer.pre_tokenizer = _pre_tokenizer(splitting)
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


def _pre_tokenizer(splitting: _Splitting) -> PreTokenizer:
    from tokenizers import Regex, pre_tokenizers

    splits = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in splitting.expressions]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


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
    """Write tokenizer_config.json."""
    ids = _special_ids(file, len(tokens))
    settings: dict[str, Any] = {f"{name}_token": tokens[id_] for name, id_ in ids.items()}
    settings["bos_token"] = settings.get("bos_token")  # null says that there is none
    write_json(
        folder / TOKENIZER_CONFIG_FILE,
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
            "tokenizer_class": "LlamaTokenizer"
            if (folder / SENTENCEPIECE_FILE).is_file()
            else "PreTrainedTokenizerFast",
        },
    )


def vocabulary_metadata(
    tokenizer: Tokenizer, folder: Path, vocabulary_size: int
) -> dict[str, str | int | bool | list[Any]]:
    """The metadata of a GGUF file for a folder's tokenizer: keys of `tokenizer.`, as `write_tokenizer` reads them.

    Raises UserError for a tokenizer that GGUF cannot express.
    """
    if isinstance(tokenizer, SentencePieceTokenizer):
        metadata = _sentencepiece_metadata(tokenizer, vocabulary_size)
    else:
        metadata = _byte_level_metadata(folder, vocabulary_size)
    ids = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "unknown": tokenizer.unk_id, "padding": tokenizer.pad_id}
    metadata |= {f"tokenizer.ggml.{name}_token_id": id_ for name, id_ in ids.items() if id_ is not None}
    metadata |= {"tokenizer.ggml.add_bos_token": tokenizer.adds_bos, "tokenizer.ggml.add_eos_token": False}
    template_file = folder / CHAT_TEMPLATE_FILE
    if template_file.is_file():
        template = template_file.read_text(encoding="utf-8")
        # An exported student's template may need a normalizer that takes its escapes away; GGUF has none.
        has_escapes = SPECIAL_TOKEN_ESCAPE in template
        metadata["tokenizer.chat_template"] = chat_template(tokenizer.bos_id is not None) if has_escapes else template
    return metadata


def _sentencepiece_metadata(tokenizer: SentencePieceTokenizer, vocabulary_size: int) -> dict[str, Any]:
    proto = model_proto(tokenizer.source)
    if proto.trainer_spec.model_type != BPE_MODEL:
        raise UserError(
            "a SentencePiece model of another kind than BPE cannot be written as GGUF", where=tokenizer.source
        )
    tokens = [piece.piece for piece in proto.pieces]
    scores = [piece.score for piece in proto.pieces]
    types = [int(piece.type) for piece in proto.pieces]
    for id_ in range(len(tokens), vocabulary_size):
        spelling = tokenizer.spelling(id_)
        tokens.append(spelling if spelling is not None else f"[PAD{id_}]")
        types.append(UNUSED if spelling is None else USER_DEFINED if tokenizer.has_text(id_) else CONTROL)
        scores.append(-1000.0)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.add_space_prefix": bool(proto.normalizer_spec.add_dummy_prefix),
        "tokenizer.ggml.remove_extra_whitespaces": bool(proto.normalizer_spec.remove_extra_whitespaces),
    }


def _byte_level_metadata(folder: Path, vocabulary_size: int) -> dict[str, Any]:
    """Tokens and merges of a folder's tokenizer.json, and llama.cpp's name for how it splits text."""
    from tokenizers import Tokenizer as FastTokenizer

    tokenizer_file = folder / TOKENIZER_JSON_FILE
    description = read_json(tokenizer_file)
    if description["model"]["type"] != "BPE" or description.get("normalizer") not in (None, _ESCAPE_NORMALIZER):
        raise UserError("only a byte-level BPE without a normalizer can be written as GGUF", where=tokenizer_file)
    fast_tokenizer = FastTokenizer.from_file(str(tokenizer_file))
    vocabulary = fast_tokenizer.get_vocab(with_added_tokens=True)
    token_by_id = {id_: token for token, id_ in vocabulary.items()}
    added_tokens = {token["id"]: token for token in description["added_tokens"]}
    tokens, types = [], []
    for id_ in range(max(vocabulary_size, len(token_by_id))):
        tokens.append(token_by_id.get(id_, f"[PAD{id_}]"))
        types.append(_token_type(added_tokens.get(id_), id_ in token_by_id))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in description["model"]["merges"]]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _splitting_name(
            fast_tokenizer, bool(description["model"].get("ignore_merges")), tokenizer_file
        ),
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": merges,
    }


def _token_type(added_token: dict[str, Any] | None, is_in_vocabulary: bool) -> int:
    """The type of a token; `added_token` is its entry in tokenizer.json's list of added ones."""
    if not is_in_vocabulary:
        return UNUSED
    if added_token is None:
        return NORMAL
    return CONTROL if added_token["special"] else USER_DEFINED


def _splitting_name(fast_tokenizer: FastTokenizer, ignores_merges: bool, tokenizer_file: Path) -> str:
    """llama.cpp's name for how a tokenizer splits text: of the known ones, the one that splits adversarial texts alike."""
    texts = probe_texts(_PROBE_COUNT, seed=4)
    pieces = [fast_tokenizer.pre_tokenizer.pre_tokenize_str(text) for text in texts]
    for names, splitting in _SPLITTINGS_BY_NAMES.items():
        pre_tokenizer = _pre_tokenizer(splitting)
        same_pieces = all(
            pre_tokenizer.pre_tokenize_str(text) == expected for text, expected in zip(texts, pieces, strict=True)
        )
        if same_pieces and splitting.ignores_merges == ignores_merges:
            return names[0]
    raise UserError(
        "this tokenizer splits text in a way that has no name in GGUF, as far as is known here", where=tokenizer_file
    )
