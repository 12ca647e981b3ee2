"""Results in, pictures out: differences of two results, scores by task, MMLU by subject, scores over training steps.

`build_pictures` makes them, `Picture.html` gives the HTML of a page (with PICTURE_CSS and model_colors.css_properties in its
style sheet), `write_picture` a PNG and an SVG file. Results of several suites or protocols get a picture each.
"""

from __future__ import annotations

from collections.abc import Sequence

from orca_bench.errors import UserError
from orca_bench.report.comparison import Comparison
from orca_bench.report.pictures.differences import draw_differences
from orca_bench.report.pictures.parts import Part, split_into_parts
from orca_bench.report.pictures.picture import PICTURE_CSS, Picture, PictureFiles, write_picture
from orca_bench.report.pictures.scores import draw_scores
from orca_bench.report.pictures.steps import draw_known_steps, draw_steps
from orca_bench.report.pictures.subjects import draw_subjects
from orca_bench.report.reported_comparison import compare_two_where_possible
from orca_bench.report.reported_scores import ReportedScores
from orca_bench.results.reading import ResultFile

__all__ = [
    "PICTURE_CSS",
    "Picture",
    "PictureFiles",
    "build_pictures",
    "build_step_pictures",
    "missing_difference_notes",
    "write_picture",
]


def build_pictures(result_files: Sequence[ResultFile], reported_scores: ReportedScores | None = None) -> list[Picture]:
    """All pictures of some results, those of one suite and protocol after another.

    Differences where a suite and protocol has two results that can be compared, scores, MMLU by subject where a result has
    subjects, and scores over steps where results say their run and step.
    """
    pictures: list[Picture] = []
    for part in split_into_parts(result_files):
        comparison = _comparison_of(part)
        if comparison is not None:
            pictures.append(draw_differences(part, comparison))
        pictures.append(draw_scores(part, reported_scores))
        pictures += [picture for picture in (draw_subjects(part), draw_known_steps(part)) if picture is not None]
    return pictures


def missing_difference_notes(result_files: Sequence[ResultFile]) -> list[str]:
    """A line for each two results of one suite and protocol whose differences cannot be drawn by question, and why."""
    notes = []
    for part in split_into_parts(result_files):
        lacking = [item for item in part.styled_results if not item.result_file.questions_by_task]
        if len(part.styled_results) == 2 and lacking:
            names = " and ".join(str(item.result_file.path) for item in lacking)
            notes.append(f"no differences by question are drawn: the questions of {names} are not beside the result")
    return notes


def build_step_pictures(result_files: Sequence[ResultFile], steps: Sequence[int] | None = None) -> list[Picture]:
    """Scores over steps alone; `steps` are those of the results, None takes them from the results or their names.

    Raises UserError where the step of a result is not known or occurs twice, and for another number of steps than results.
    """
    if steps is not None and len(steps) != len(result_files):
        raise UserError(f"{len(steps)} steps for {len(result_files)} results", where="--steps")
    pictures = []
    for part in split_into_parts(result_files):
        part_files = [styled_result.result_file for styled_result in part.styled_results]
        part_steps = None if steps is None else [steps[result_files.index(result_file)] for result_file in part_files]
        pictures.append(draw_steps(part, part_files, part_steps))
    return pictures


def _comparison_of(part: Part) -> Comparison | None:
    if len(part.styled_results) != 2:
        return None
    base, candidate = part.styled_results
    return compare_two_where_possible(base.result_file, candidate.result_file)
