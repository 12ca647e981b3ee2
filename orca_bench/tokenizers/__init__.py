"""Text in, the token ids that the model was trained with out: tokenizers are loaded, checked, repaired and exported here.

`load` reads a model folder or a SentencePiece `.model` file and gives a `Tokenizer`. Its `encode` gives SentencePiece's own
ids, or those of an unchanged tokenizer.json. It never adds BOS or EOS (the caller does), and it never takes the spelling of
a special token in a text for that token. `export` writes a tokenizer.json with which plain transformers gives the same ids,
and the chat template.
"""

from orca_bench.tokenizers.conversion import build_fast
from orca_bench.tokenizers.export import export
from orca_bench.tokenizers.hugging_face import FolderTokenizer
from orca_bench.tokenizers.loading import load
from orca_bench.tokenizers.probes import Disagreement, check_folder, explain, first_disagreement, probe_texts
from orca_bench.tokenizers.sentencepiece_file import SENTENCEPIECE_FILE, SentencePieceTokenizer
from orca_bench.tokenizers.tokenizer import Tokenizer

__all__ = [
    "SENTENCEPIECE_FILE",
    "Disagreement",
    "FolderTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "build_fast",
    "check_folder",
    "explain",
    "export",
    "first_disagreement",
    "load",
    "probe_texts",
]
