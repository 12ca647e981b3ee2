"""The faults that a record may have, as data: the key in a report, what a table says of it, whether `--remove` takes it out.

Its own module because the check writes them, the removal selects by them, and the command line shows them.
"""

from __future__ import annotations

from dataclasses import dataclass

from orca_bench.results.data_report import OVERLAP_KINDS, OverlapKind


@dataclass(frozen=True)
class FindingKind:
    """One fault: its key in a report, its title in a table, and what else holds of it.

    `is_unusable` says that training would leave the row out or refuse it: it is no record that is trained on, so that its
    length, duplicates and overlap are not counted. `is_removed` says that `--remove` takes such records out by default.
    """

    key: str
    title: str
    is_unusable: bool = False
    is_removed: bool = False


UNKNOWN_COLUMNS = FindingKind("unknown_columns", "columns of no known shape, or no texts in them", True, True)
UNUSABLE_CONVERSATION = FindingKind("unusable_conversation", "not one question and one answer", True, True)
EMPTY_INSTRUCTION = FindingKind("empty_instruction", "no instruction", True, True)
EMPTY_RESPONSE = FindingKind("empty_response", "no response", True, True)
PLACEHOLDER_RESPONSE = FindingKind("placeholder_response", "a placeholder for a response", True, True)
PLACEHOLDER_INPUT = FindingKind("placeholder_input", "a placeholder for an input")
REFUSAL = FindingKind("refusal", "a refusal instead of a response", is_removed=True)
TRUNCATED_RESPONSE = FindingKind("truncated_response", "a response that breaks off")
UNPUNCTUATED_RESPONSE = FindingKind("unpunctuated_response", "a long response without an end mark")
EXACT_DUPLICATE = FindingKind(
    "exact_duplicate", "the same texts as an earlier record, its system message too", is_removed=True
)
NEAR_DUPLICATE = FindingKind("near_duplicate", "nearly the texts of an earlier record")

#: All kinds, in the order of tables and reports.
FINDING_KINDS = (
    UNKNOWN_COLUMNS,
    UNUSABLE_CONVERSATION,
    EMPTY_INSTRUCTION,
    EMPTY_RESPONSE,
    PLACEHOLDER_RESPONSE,
    PLACEHOLDER_INPUT,
    REFUSAL,
    TRUNCATED_RESPONSE,
    UNPUNCTUATED_RESPONSE,
    EXACT_DUPLICATE,
    NEAR_DUPLICATE,
)
#: The kinds of overlap as `--remove-kinds` names them.
REMOVAL_KEY_BY_OVERLAP: dict[OverlapKind, str] = {kind: f"{kind}_overlap" for kind in OVERLAP_KINDS}

#: All that `--remove-kinds` may name, and what is removed where it is not given.
REMOVAL_KEYS = (*(kind.key for kind in FINDING_KINDS), *REMOVAL_KEY_BY_OVERLAP.values())
DEFAULT_REMOVAL_KEYS = (*(kind.key for kind in FINDING_KINDS if kind.is_removed), REMOVAL_KEY_BY_OVERLAP["test"])

#: What was noticed of a record is kept as one number of 16 bits.
BIT_BY_KEY = {key: 1 << number for number, key in enumerate(REMOVAL_KEYS)}
UNUSABLE_BITS = sum(BIT_BY_KEY[kind.key] for kind in FINDING_KINDS if kind.is_unusable)
