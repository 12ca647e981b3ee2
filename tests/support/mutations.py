"""Damage that hypothesis chooses, for the fuzz tests of whatever reads a user's file."""

import copy
import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

#: 100 examples a test; ORCA_BENCH_FUZZ says how many else (`make fuzz`: 2,000).
EXAMPLES = settings(
    max_examples=int(os.environ.get("ORCA_BENCH_FUZZ", "100")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

#: Values of every type that JSON or YAML can hold, those among them that trip arithmetic and paths.
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**30),
    st.floats(),
    st.sampled_from(["", " ", "\x00", "/", "..", "nan", "1e999", "\ud800", "[/]", "²", "-", "ünï"]),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.just([[]]),
    st.just({"": None}),
)


@st.composite
def damaged_bytes(draw, data: bytes) -> bytes:
    """`data` with some bytes changed, cut out or cut off."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 6))):
        if not changed:
            break
        place = draw(st.integers(0, len(changed) - 1))
        kind = draw(st.sampled_from(["change", "delete", "insert", "cut"]))
        if kind == "change":
            changed[place] = draw(st.integers(0, 255))
        elif kind == "delete":
            del changed[place : place + draw(st.integers(1, 20))]
        elif kind == "insert":
            changed[place:place] = draw(st.binary(max_size=4))
        elif draw(st.booleans()):
            del changed[place:]
    return bytes(changed)


@st.composite
def damaged_tree(draw, tree):
    """A tree of mappings and lists in which some values are dropped, renamed or replaced by values of other types."""
    changed = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 4))):
        places = list(_places(changed))
        if not places:
            break
        parent, key = draw(st.sampled_from(places))
        kind = draw(st.sampled_from(["drop", "replace", "rename"]))
        if kind == "replace" or (kind == "rename" and isinstance(parent, list)):
            parent[key] = copy.deepcopy(draw(VALUES))
        elif kind == "rename":
            parent[draw(st.text(max_size=5))] = parent.pop(key)
        else:
            del parent[key]
    return changed


def _places(node):
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in entries:
        yield node, key
        yield from _places(value)
