"""Instructions with a reference answer to records, without a teacher: each under a system message drawn by a seed.

How the card's author assigned messages to WizardLM, Alpaca and Dolly is not published, so the policy is a parameter: one
uniform, seeded draw a row from the chosen ids. Which id was drawn stands in each record.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from orca_bench.data import instructions
from orca_bench.files import make_folder, write_text
from orca_bench.system_messages import system_message

#: The fifteen messages that have text, as the card used them.
DEFAULT_SYSTEMS = tuple(range(2, 17))


def convert(
    paths: Sequence[Path],
    out: Path,
    systems: Sequence[int] = DEFAULT_SYSTEMS,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> Counter:
    """Write the records of all files to `out`.

    Returns counts of `records`, and of rows `without an answer`, which are left out.
    """
    counts: Counter = Counter()

    def lines() -> Iterator[str]:
        rng = random.Random(seed)
        for path in paths:
            for item in instructions.read(path):
                system_id = rng.choice(list(systems))
                if not item.reference.strip() or not item.instruction.strip():
                    counts["without an answer"] += 1
                    continue
                counts["records"] += 1
                if counts["records"] % 1000 == 0:
                    progress(counts["records"])
                yield json.dumps(_record(item, system_id), ensure_ascii=False) + "\n"

    text = "".join(lines())
    make_folder(out.parent)
    write_text(out, text)
    return counts


def _record(item: instructions.Instruction, system_id: int) -> dict:
    return {
        "id": f"{item.source}-{item.row}",
        "source": item.source,
        "teacher": "reference",
        "system_id": system_id,
        "system": system_message(system_id),
        "instruction": item.instruction,
        "input": item.input,
        "response": item.reference,
    }
