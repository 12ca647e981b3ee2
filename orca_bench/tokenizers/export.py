"""A tokenizer in; its files in a model folder out, with the Orca chat template, so that plain transformers gives the same ids."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench.files import catch_write_errors, write_json
from orca_bench.prompt import chat_messages, chat_template, render
from orca_bench.recipe import CONTEXT_WINDOW
from orca_bench.tokenizers.conversion import SPECIAL_TOKEN_ESCAPE, build_fast_tokenizer, must_find_special_tokens
from orca_bench.tokenizers.hugging_face import load_transformers_tokenizer
from orca_bench.tokenizers.probes import Disagreement, first_disagreement, probe_texts
from orca_bench.tokenizers.sentencepiece_file import SENTENCEPIECE_FILE
from orca_bench.tokenizers.special_tokens import TOKENIZER_CONFIG_FILE
from orca_bench.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def export_tokenizer(tokenizer: Tokenizer, folder: Path, window_tokens: int | None = None) -> Disagreement | None:
    """Write the tokenizer and the Orca chat template into a model folder, then load it back as plain transformers does.

    `window_tokens` is the model's context window in tokens. Returns what plain transformers still disagrees on, or None.
    """
    from transformers import PreTrainedTokenizerFast

    special_id_by_name = {
        "bos": tokenizer.bos_id,
        "eos": tokenizer.eos_id,
        "unk": tokenizer.unk_id,
        "pad": tokenizer.pad_id,
    }
    special_spellings = [tokenizer.spelling(id_) or "" for id_ in tokenizer.special_ids]
    escaped_spellings = special_spellings if must_find_special_tokens(tokenizer) else []
    transformers_tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=build_fast_tokenizer(tokenizer),
        **{f"{name}_token": tokenizer.spelling(id_) for name, id_ in special_id_by_name.items() if id_ is not None},
        split_special_tokens=not escaped_spellings,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=window_tokens or CONTEXT_WINDOW,
        chat_template=chat_template(tokenizer.bos_id is not None, escaped_spellings, SPECIAL_TOKEN_ESCAPE),
    )
    with catch_write_errors(folder):
        transformers_tokenizer.save_pretrained(folder)
        needs_sentencepiece_copy = (
            tokenizer.source.is_file() and tokenizer.source.resolve() != (folder / SENTENCEPIECE_FILE).resolve()
        )
        if needs_sentencepiece_copy:
            shutil.copyfile(tokenizer.source, folder / SENTENCEPIECE_FILE)
    # transformers 5 writes its own new class name, which 4.x and other loaders do not know; both know this one.
    tokenizer_config_path = folder / TOKENIZER_CONFIG_FILE
    tokenizer_config = json.loads(tokenizer_config_path.read_text(encoding="utf-8"))
    no_bos_entry = {"bos_token": None} if tokenizer.bos_id is None else {}  # a SentencePiece model's file may name one
    write_json(tokenizer_config_path, tokenizer_config | {"tokenizer_class": "PreTrainedTokenizerFast"} | no_bos_entry)
    return _find_export_disagreement(tokenizer, load_transformers_tokenizer(folder))


def _find_export_disagreement(
    tokenizer: Tokenizer, transformers_tokenizer: PreTrainedTokenizerBase
) -> Disagreement | None:
    """The first text to which what was exported gives other ids, alone or in the chat template after BOS."""
    probes = probe_texts(300, seed=1)
    splits_special_tokens, transformers_tokenizer.split_special_tokens = (
        transformers_tokenizer.split_special_tokens,
        True,
    )
    disagreement = first_disagreement(tokenizer, transformers_tokenizer, probes)
    transformers_tokenizer.split_special_tokens = splits_special_tokens
    for text in probes[:100] if disagreement is None else []:
        expected_ids = [*tokenizer.prefix, *tokenizer.encode(render(text, text))]
        transformers_ids = transformers_tokenizer.apply_chat_template(
            chat_messages(text, text), add_generation_prompt=True
        )["input_ids"]
        if transformers_ids != expected_ids:
            return Disagreement(render(text, text), expected_ids, transformers_ids)
    return disagreement
