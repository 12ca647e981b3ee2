"""A row's texts and a seed in, a choice out: its system message, and whether it is in a sample.

Every choice is a hash of the seed and the row's own texts, so that the order, the selection and the number of workers change
none. Its own module because the conversion of reference answers and the requests to a teacher choose alike.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from orca_bench.data.instructions import Instruction
from orca_bench.system_messages import IDS_BY_FLAN_COLLECTION, IDS_WITH_TEXT, MULTIPLE_CHOICE_IDS

#: How questions list their choices: FLAN's templates under `OPTIONS:`, others in lines that begin with `(A)`, `A.` or `[A]`.
_OPTIONS_HEADING = re.compile(
    r"^\s*(options|choices|answer choices|possible answers)\s*:", re.IGNORECASE | re.MULTILINE
)
_OPTION_LINE = re.compile(r"^\s*(?:\(?[A-Ha-h1-8][).:]|\[[A-Ha-h1-8]\])\s+\S", re.MULTILINE)


def choose_system_id(instruction: Instruction, system_ids: Sequence[int], seed: int) -> int:
    """One of `system_ids`, each as likely as any other, by `seed` and the row's texts."""
    return system_ids[_text_hash(instruction, seed) % len(system_ids)]


def sample_hash(instruction: Instruction, seed: int) -> int:
    """64 bits by `seed` and the row's texts, independent of the system message; a sample has the rows with the smallest."""
    return _text_hash(instruction, seed, b"sample")


def policy_system_ids(policy: str, instruction: Instruction) -> Sequence[int]:
    """The ids that a policy of a data recipe chooses among for a row: `uniform`, or a collection of FLAN-v2."""
    if policy == "uniform":
        return IDS_WITH_TEXT
    collection_ids = IDS_BY_FLAN_COLLECTION[policy]
    asks_to_choose = policy == "flan2021" and is_multiple_choice(instruction)
    return (*collection_ids, *MULTIPLE_CHOICE_IDS) if asks_to_choose else collection_ids


def is_multiple_choice(instruction: Instruction) -> bool:
    """Whether a question lists its choices: below `OPTIONS:` or the like, or in two or more lines that begin as `A.` does."""
    text = f"{instruction.instruction_text}\n{instruction.input_text}"
    return bool(_OPTIONS_HEADING.search(text)) or len(_OPTION_LINE.findall(text)) >= 2


def _text_hash(instruction: Instruction, seed: int, purpose: bytes = b"") -> int:
    """64 bits of `seed` and the row's texts; other ones, independent of the first, for another `purpose` (16 bytes at most)."""
    hash_input = "\0".join(
        (str(seed), instruction.instruction_text, instruction.input_text, instruction.reference_answer)
    )
    return int.from_bytes(hashlib.blake2b(hash_input.encode(), digest_size=8, person=purpose).digest(), "big")
