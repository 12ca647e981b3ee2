"""MMLU by subject for every model of a part: which subjects a model knows.

Up to four models: a line for each subject with an interval for each model, the subjects in the order of their mean score. More
models: a table of numbers whose shade is the score, for twenty intervals in a line cannot be read. Its own module because MMLU
alone has subjects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orca_bench.report.model_colors import ModelStyle
from orca_bench.report.pictures.axes import (
    CHANCE_SYMBOL,
    chance_line,
    interval_shapes,
    round_scale,
    symbol,
    vertical_grid,
)
from orca_bench.report.pictures.drawing import (
    SMALL_SIZE,
    Area,
    Canvas,
    Drawing,
    Group,
    Label,
    Line,
    Point,
    Role,
    Shape,
)
from orca_bench.report.pictures.parts import Part, Score, StyledResult, number_range, percent_score
from orca_bench.report.pictures.picture import NARROW_WIDTH, WIDE_WIDTH, Picture, start_canvas
from orca_bench.report.pictures.text_layout import plain_text, text_width, wrap_text
from orca_bench.suite import MMLU

_MAX_INTERVAL_MODELS = 4
_SHADE_STYLE = ModelStyle(0)
_MAX_SHADE = 0.65  # opacity of a score of 100: text on it can still be read
_CELL_WIDTH, _CELL_HEIGHT = 27.0, 17.0
_MEAN_DASH = (7, 3)


@dataclass(frozen=True)
class _Model:
    """One model's mean and scores by subject."""

    name: str
    style: ModelStyle
    mean: float
    scores: dict[str, Score]


@dataclass(frozen=True)
class _Subject:
    """A subject: its key in results, its name in words, and how many questions it has."""

    key: str
    name: str
    question_text: str

    @property
    def label(self) -> str:
        """Its name and how many questions it has."""
        return f"{self.name} ({self.question_text})"


def draw_subjects(part: Part) -> Picture | None:
    """The picture of a part; None where no result of it has subjects."""
    models = [_model(styled_result) for styled_result in part.styled_results if _has_subjects(styled_result)]
    if not models:
        return None
    mmlu_part = Part(part.suite, part.protocol, tuple(filter(_has_subjects, part.styled_results)), part.name_suffix)
    subjects = _sorted_subjects(mmlu_part, models)
    title = f"{mmlu_part.models_text}: {MMLU.title} by subject"
    draw = _draw_intervals if len(models) <= _MAX_INTERVAL_MODELS else _draw_table
    return Picture(
        "subjects",
        f"mmlu{part.name_suffix}",
        title,
        _description(models, subjects),
        draw(mmlu_part, models, subjects, title, False),
        draw(mmlu_part, models, subjects, title, True),
    )


def _has_subjects(styled_result: StyledResult) -> bool:
    task_result = styled_result.result.tasks.get(MMLU.name)
    return task_result is not None and bool(task_result.subjects)


def _model(styled_result: StyledResult) -> _Model:
    task_result = styled_result.result.tasks[MMLU.name]
    scores = {name: percent_score(entry) for name, entry in (task_result.subjects or {}).items()}
    return _Model(styled_result.name, styled_result.style, 100 * task_result.value, scores)


def _sorted_subjects(part: Part, models: Sequence[_Model]) -> list[_Subject]:
    """All subjects, the one with the highest mean over the models first."""
    counts: dict[str, list[int]] = {}
    for styled_result in part.styled_results:
        for name, entry in (styled_result.result.tasks[MMLU.name].subjects or {}).items():
            counts.setdefault(name, []).append(entry.n)

    def mean_score(key: str) -> float:
        scores = [model.scores[key].value for model in models if key in model.scores]
        return sum(scores) / len(scores)

    keys = sorted(counts, key=lambda key: (-mean_score(key), key))
    return [_Subject(key, plain_text(key.replace("_", " ")), number_range(counts[key])) for key in keys]


def _description(models: Sequence[_Model], subjects: Sequence[_Subject]) -> str:
    """The means, and each model's highest and lowest subjects: all numbers would be too many to listen to."""
    sentences = [f"{MMLU.title} by subject, {len(subjects)} subjects."]
    names = {subject.key: subject.name for subject in subjects}
    for model in models:
        keys = sorted(model.scores, key=lambda key: (-model.scores[key].value, key))
        high, low = ([f"{names[key]} {model.scores[key].value:.1f}" for key in part] for part in (keys[:3], keys[-3:]))
        sentences.append(
            f"{model.name}: mean {model.mean:.2f} percent; highest {', '.join(high)}; lowest {', '.join(low)}."
        )
    return " ".join(sentences)


def _subject_words(subject: _Subject, models: Sequence[_Model]) -> str:
    scores = [f"{model.name} {model.scores[subject.key].words}" for model in models if subject.key in model.scores]
    return f"{subject.name}, n {subject.question_text}: {'; '.join(scores)}"


def _draw_intervals(
    part: Part, models: Sequence[_Model], subjects: Sequence[_Subject], title: str, is_narrow: bool
) -> Drawing:
    canvas = start_canvas(NARROW_WIDTH if is_narrow else WIDE_WIDTH, title, part.measurement_text(MMLU.name))
    entries: list[tuple[Sequence[Shape], str]] = [
        (symbol(model.style), f"{model.name}, mean {model.mean:.2f} (dashed)") for model in models
    ]
    if MMLU.chance_percent is not None:
        entries.append((CHANCE_SYMBOL, "chance"))
    canvas.legend(entries)
    canvas.y += SMALL_SIZE + 12
    label_width = max(text_width(subject.label, SMALL_SIZE) for subject in subjects)
    left = canvas.left + (8 if is_narrow else min(label_width, canvas.inner_width / 2) + 14)
    numbers = [number for model in models for score in model.scores.values() for number in (score.low, score.high)]
    numbers += [0.0] if MMLU.chance_percent is None else [0.0, MMLU.chance_percent]
    scale = round_scale(numbers, left, canvas.right - 10)
    pitch = 10.0 if len(models) < 3 else 8.0
    lines_height = max(10.0, pitch * len(models))
    row_height = lines_height + (19 if is_narrow else 6)
    top = canvas.y
    bottom = top + row_height * len(subjects)
    row_tops = [top + index * row_height for index in range(len(subjects))]
    # In the narrow layout the subject's name stands above its intervals, and no line crosses it.
    bands = [(row_top + 17, row_top + row_height) for row_top in row_tops] if is_narrow else [(top, bottom)]
    canvas.add(*vertical_grid(scale, bands, bottom))
    for tick in scale.ticks:
        canvas.add(Label(scale.pixel(tick), top - 5, f"{tick:g}", SMALL_SIZE, "middle", Role.MUTED))
    for model in models:
        x = scale.pixel(model.mean)
        canvas.add(
            *(Line(((x, band_top), (x, band_bottom)), model.style, 1.2, _MEAN_DASH) for band_top, band_bottom in bands)
        )
    if MMLU.chance_percent is not None:
        x = scale.pixel(MMLU.chance_percent)
        canvas.add(*(chance_line(x, band_top, band_bottom) for band_top, band_bottom in bands))
    for subject in subjects:
        area = Area(canvas.left, canvas.y, canvas.inner_width, row_height, Role.BACKGROUND, 0)
        shapes: list[Shape] = [area, *_subject_labels(canvas, subject, row_height, None if is_narrow else left - 14)]
        first_y = canvas.y + row_height - 3 - lines_height + (lines_height - pitch * (len(models) - 1)) / 2
        for index, model in enumerate(models):
            if subject.key in model.scores:
                score, y = model.scores[subject.key], first_y + index * pitch
                shapes += interval_shapes(scale, y, score.low, score.high, model.style, 1.2, cap=2.5)
                shapes.append(Point(scale.pixel(score.value), y, model.style.marker, model.style, 3.6))
        canvas.add(Group(tuple(shapes), MMLU.name, _subject_words(subject, models)))
        canvas.y += row_height
    canvas.y += SMALL_SIZE + 8
    text = "accuracy in percent; bars are 95 % intervals; in brackets the number of questions"
    canvas.paragraph(text, SMALL_SIZE, Role.MUTED)
    return canvas.finish()


def _subject_labels(canvas: Canvas, subject: _Subject, row_height: float, right: float | None) -> list[Label]:
    """A subject's name left of its line, so that it ends at `right`; None puts it above the line."""
    if right is None:
        return [Label(canvas.left, canvas.y + 14, subject.label, SMALL_SIZE)]
    lines = wrap_text(subject.label, SMALL_SIZE, right - canvas.left)
    first_y = canvas.y + row_height / 2 + 4.3 - (len(lines) - 1) * 7
    return [Label(right, first_y + 14 * index, line, SMALL_SIZE, "end") for index, line in enumerate(lines)]


def _draw_table(
    part: Part, models: Sequence[_Model], subjects: Sequence[_Subject], title: str, is_narrow: bool
) -> Drawing:
    """Models in columns under their numbers in the legend; on a narrow screen several tables, one below the other."""
    canvas = start_canvas(NARROW_WIDTH if is_narrow else WIDE_WIDTH, title, part.measurement_text(MMLU.name))
    canvas.legend(
        [
            ([Point(0, 0, model.style.marker, model.style)], f"{number}: {model.name}, mean {model.mean:.2f}")
            for number, model in enumerate(models, 1)
        ]
    )
    canvas.y += 6
    reaches = [(score.high - score.low) / 2 for model in models for score in model.scores.values()]
    intervals = f"95 % intervals reach ± {min(reaches):.0f} to {max(reaches):.0f} points"
    canvas.paragraph(
        f"accuracy in percent; the stronger the shade, the higher (0 to 100); {intervals}", SMALL_SIZE, Role.MUTED
    )
    label_width = 150.0 if is_narrow else 230.0
    most_columns = int((canvas.inner_width - label_width) // _CELL_WIDTH)
    table_count = -(-len(models) // most_columns)
    column_count = -(-len(models) // table_count)
    for start in range(0, len(models), column_count):
        columns = list(enumerate(models, 1))[start : start + column_count]
        canvas.y += 8
        for index, (number, model) in enumerate(columns):
            x = canvas.left + label_width + (index + 0.5) * _CELL_WIDTH
            canvas.add(Point(x, canvas.y + 8, model.style.marker, model.style))
            canvas.add(Label(x, canvas.y + 28, str(number), SMALL_SIZE, "middle", is_bold=True))
        canvas.y += 34
        for subject in subjects:
            canvas.add(_table_row(canvas, subject, [model for _, model in columns], label_width))
    return canvas.finish()


def _table_row(canvas: Canvas, subject: _Subject, models: Sequence[_Model], label_width: float) -> Group:
    """One subject's numbers. Their shade does not depend on the others, so that small differences look small."""
    row = Canvas(canvas.left + label_width + 6, y=canvas.y)
    row.paragraph(subject.name, 11 if label_width < 200 else SMALL_SIZE)
    height = max(_CELL_HEIGHT, row.y - canvas.y + 2)
    shapes: list[Shape] = [Area(canvas.left, canvas.y, canvas.inner_width, height, Role.BACKGROUND, 0)]
    shapes += [shape for shape in row.shapes if not isinstance(shape, Group)]
    for index, model in enumerate(models):
        score = model.scores.get(subject.key)
        if score is None:
            continue
        x = canvas.left + label_width + index * _CELL_WIDTH
        opacity = round(_MAX_SHADE * score.value / 100, 3)
        shapes.append(Area(x + 0.5, canvas.y + 0.5, _CELL_WIDTH - 1, height - 1, _SHADE_STYLE, opacity))
        shapes.append(Label(x + _CELL_WIDTH / 2, canvas.y + height / 2 + 4, f"{score.value:.0f}", 11, "middle"))
    canvas.y += height
    return Group(tuple(shapes), MMLU.name, _subject_words(subject, models))
