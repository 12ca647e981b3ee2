"""Text in, the token ids that the model was trained with out: tokenizers are loaded, checked, repaired and exported here.

`load_tokenizer` reads a model folder or a SentencePiece `.model` file and gives a `Tokenizer`. Its `encode` gives
SentencePiece's own ids, or those of an unchanged tokenizer.json. It never adds BOS or EOS (the caller does), and it never takes
the spelling of a special token in a text for that token. `export_tokenizer` writes a tokenizer.json with which plain
transformers gives the same ids, and the chat template.
"""

from orca_bench.tokenizers.conversion import build_fast_tokenizer
from orca_bench.tokenizers.export import export_tokenizer
from orca_bench.tokenizers.hugging_face import FolderTokenizer
from orca_bench.tokenizers.loading import load_tokenizer
from orca_bench.tokenizers.probes import (
    Disagreement,
    explain_disagreement,
    find_folder_disagreement,
    first_disagreement,
    probe_texts,
)
from orca_bench.tokenizers.sentencepiece_file import SENTENCEPIECE_FILE, SentencePieceTokenizer
from orca_bench.tokenizers.tokenizer import Tokenizer

__all__ = [
    "SENTENCEPIECE_FILE",
    "Disagreement",
    "FolderTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "build_fast_tokenizer",
    "find_folder_disagreement",
    "explain_disagreement",
    "export_tokenizer",
    "first_disagreement",
    "load_tokenizer",
    "probe_texts",
]
