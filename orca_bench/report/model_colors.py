"""Results in, a colour, a marker and a line style for each out, so that a model looks the same in every picture and page.

The colour belongs to the model's name, not to its place: a hash of the name chooses it, and where two names of one report
choose the same, the next free one is taken. Each colour has a contrast of at least 3:1 (WCAG 2.2, 1.4.11) on white and on
the page's dark background, and any two are told apart by readers who do not see red, green or blue. More than eight models
differ in marker and line style as well. Its own module because pictures, page and cards need the same colours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from orca_bench.report.result_groups import setting_indices
from orca_bench.results.reading import ResultFile

#: The backgrounds on which every colour can be read.
LIGHT_BACKGROUND, DARK_BACKGROUND = "#ffffff", "#16181b"

#: Chosen by search: the largest smallest distance (OKLab) of any two, for usual sight and for protanopia, deuteranopia and
#: tritanopia (Machado et al. 2009), among the colours with enough contrast on both backgrounds.
PALETTE = ("#0078b4", "#d86000", "#783cf0", "#9c8478", "#3c9cc0", "#905478", "#9078fc", "#c03030")

#: Names of the shapes of a point, as orca_bench.report.pictures draws them.
MARKERS = ("circle", "square", "diamond", "triangle up", "triangle down", "plus", "cross", "pentagon")

#: Lengths of dash and gap in pixels: solid, dashed, dotted, dash-dotted. A line style is for eight models.
LINE_DASHES_BY_PALETTE_ROUND: tuple[tuple[float, ...], ...] = ((), (6, 3), (1.5, 2.5), (8, 2.5, 1.5, 2.5))

_HASH_SALT = "orca-bench colour 11814 "  # any; this one gives the demo's two models blue and orange
_MARKER_SHIFT = 3  # markers of the next eight models are moved by it, so that no two models share colour and marker


@dataclass(frozen=True)
class ModelStyle:
    """How a model is drawn; `slot` counts the styles from 0, and the page calls its colour `--model-1` for slot 0."""

    slot: int

    @property
    def color(self) -> str:
        """The colour as #rrggbb, the same on a light and on a dark background."""
        return PALETTE[self.slot % len(PALETTE)]

    @property
    def css_color(self) -> str:
        """The colour for a style sheet: the custom property, and the colour itself where the page defines none."""
        return f"var(--model-{self.slot + 1}, {self.color})"

    @property
    def marker(self) -> str:
        """The shape of its points, one of MARKERS."""
        return MARKERS[(self.slot + _MARKER_SHIFT * (self.slot // len(PALETTE))) % len(MARKERS)]

    @property
    def dash(self) -> tuple[float, ...]:
        """Lengths of dash and gap of its lines, in pixels; empty for a solid line."""
        return LINE_DASHES_BY_PALETTE_ROUND[self.slot // len(PALETTE) % len(LINE_DASHES_BY_PALETTE_ROUND)]


def result_styles(result_files: Sequence[ResultFile]) -> list[ModelStyle]:
    """The style of each result, in their order: results of one model under other protocols or suites look the same.

    Where several results of one model stand beside each other (same suite and protocol), the second, third, … of them in
    the order of `result_files` look like models of their own.
    """
    name_by_index: dict[int, str] = {}
    for indices in setting_indices(result_files):
        count_by_model: dict[str, int] = {}
        for index in indices:
            model_name = result_files[index].result.model.name
            count = count_by_model[model_name] = count_by_model.get(model_name, 0) + 1
            name_by_index[index] = model_name if count == 1 else f"{model_name} {count}"
    style_names = [name_by_index[index] for index in range(len(result_files))]
    styles = name_styles(style_names)
    return [styles[name] for name in style_names]


def name_styles(names: Sequence[str]) -> dict[str, ModelStyle]:
    """A style for each name; which one depends on the names alone, not on their order."""
    styles: dict[str, ModelStyle] = {}
    remaining_names, first_slot = sorted(set(names)), 0
    while remaining_names:
        free_slots = list(range(first_slot, first_slot + len(PALETTE)))
        # First those who get the slot of their hash, so that one collision moves one model only.
        for choose in (_slot_of_hash, _next_free_slot):
            for name in [name for name in remaining_names if name not in styles]:
                slot = choose(name, first_slot, free_slots)
                if slot in free_slots:
                    free_slots.remove(slot)
                    styles[name] = ModelStyle(slot)
        remaining_names = [name for name in remaining_names if name not in styles]
        first_slot += len(PALETTE)
    return styles


def css_properties(style_count: int = 24) -> str:
    """Declarations of `--model-1`, `--model-2`, … for a style sheet's `:root`."""
    return " ".join(f"--model-{slot + 1}: {ModelStyle(slot).color};" for slot in range(style_count))


def _slot_of_hash(name: str, first_slot: int, _free_slots: Sequence[int]) -> int:
    digest = hashlib.sha256((_HASH_SALT + name).encode("utf-8", "surrogatepass")).digest()
    return first_slot + int.from_bytes(digest[:8], "big") % len(PALETTE)


def _next_free_slot(name: str, first_slot: int, free_slots: Sequence[int]) -> int | None:
    """The free slot that follows the slot of the hash, around; None where none is free."""
    wanted_slot = _slot_of_hash(name, first_slot, free_slots)
    later_slots = [slot for slot in free_slots if slot > wanted_slot]
    return min(later_slots or free_slots, default=None)
