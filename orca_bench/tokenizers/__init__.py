"""Text to token ids, exactly as the model was trained with: what is loaded, checked, repaired and exported.

In: a model folder or a SentencePiece `.model` file. Out: a `Tokenizer` whose `encode` gives SentencePiece's own ids, or those
of tokenizer.json as it stands, never adds BOS or EOS (the caller does), and never reads a special token out of text.
`export` writes a tokenizer.json with which plain transformers agrees, and the chat template.
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
