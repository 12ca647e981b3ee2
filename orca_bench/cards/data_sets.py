"""The name of a set of records in, what is known of it out: which published set it is by its name, licence, language.

The licences are those that the data's authors state; of a set that is not in the table nothing is claimed. Its own module
because these are facts of the world, to be corrected in one place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class DataSet:
    """A published instruction set: its title, what its name looks like, the licence of its data, its language (ISO 639-1)."""

    title: str
    name_pattern: str
    licence: str
    language: str = "en"


#: What orca-bench makes itself for its demonstration.
GENERATED_CORPUS = DataSet(
    "the generated corpus of orca-bench", r"^mini/|^mini:|(^|/)mini-files/records\.jsonl$", "Apache-2.0"
)
#: Alpaca's, WizardLM's and Dolly's licences: their repositories' own statements (DATA_LICENSE, README).
KNOWN_DATA_SETS = (
    GENERATED_CORPUS,
    DataSet("Alpaca", r"(^|[^a-z])alpaca([^a-z]|$)", "CC BY-NC 4.0"),
    DataSet("WizardLM", r"(^|[^a-z])wizard[-_]?lm([^a-z]|$)", "CC BY-NC 4.0"),
    DataSet("Dolly", r"(^|[^a-z])dolly([^a-z]|$)", "CC BY-SA 3.0"),
    DataSet("GSM8K", r"(^|[^a-z])gsm8k([^a-z0-9]|$)", "MIT"),
    DataSet("FLAN", r"(^|[^a-z])flan([^a-z]|$)", "Apache-2.0, and that of each of its parts"),
)


def known_data_set(name: str) -> DataSet | None:
    """The published set that a file, a hub id or the `source` of records is by its name, None for any other."""
    name = name.replace("\\", "/").casefold()
    return next((data_set for data_set in KNOWN_DATA_SETS if re.search(data_set.name_pattern, name)), None)
