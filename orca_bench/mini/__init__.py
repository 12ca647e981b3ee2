"""The embedded default: a small generated corpus, its tokenizer, and seven small generated tasks.

Everything is made from fixed seeds by the code here, so that the whole job runs on a laptop with no network. It makes input
files for training and evaluation and imports neither. Its scores say that the machinery works, nothing about a model: the
suite is marked `mini` wherever it is shown.
"""

from orca_bench.mini.embedded_files import materialize
from orca_bench.mini.embedded_names import (
    EMBEDDED_BENCHMARKS,
    is_embedded_file,
    resolve_benchmarks,
    resolve_path,
    resolve_recipe,
)

__all__ = [
    "EMBEDDED_BENCHMARKS",
    "is_embedded_file",
    "materialize",
    "resolve_benchmarks",
    "resolve_path",
    "resolve_recipe",
]
