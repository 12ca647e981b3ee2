"""A tokenizer in, its files in a model folder out, with which plain transformers agrees, and the Orca chat template."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from orca_bench.files import write_json, writing
from orca_bench.prompt import CHAT_TEMPLATE
from orca_bench.tokenizers.conversion import build_fast
from orca_bench.tokenizers.hugging_face import FolderTokenizer, load_plain
from orca_bench.tokenizers.probes import Disagreement, first_disagreement, probe_texts
from orca_bench.tokenizers.sentencepiece_file import SENTENCEPIECE_FILE, Tokenizer


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
    return first_disagreement(tokenizer, load_plain(folder), probe_texts(300, seed=1))
