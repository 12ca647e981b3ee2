"""Groups of results in, the head of the page as HTML out: what this is, of what, when, and the sentence of what was found.

Its own module because it is what a reader with ten seconds reads.
"""

from __future__ import annotations

from collections.abc import Sequence

from orca_bench.counts import counted
from orca_bench.report.grid_formats import escape_html
from orca_bench.report.page.page_groups import FEW_RESULTS, PageGroup
from orca_bench.report.page.score_tables import model_name


def page_heading(title: str, groups: Sequence[PageGroup], conclusions: Sequence[str], question_count: int) -> str:
    """The head; `conclusions` has a sentence for each group. With several groups each has its sentence in its own section."""
    facts: dict[str, str] = {"Models": _models_html(groups)}
    if len(groups) == 1:
        facts |= _group_facts(groups[0])
    else:
        facts["Sections"] = f"{len(groups)}: results of other suites or protocols are not ranked together"
        dates = sorted({date for group in groups for date in group.dates})
        facts |= {"Measured": _range(dates)} if dates else {}
    if question_count:
        facts["Questions"] = f"{question_count:,}"
    conclusion = (
        f'<p class="conclusion">{escape_html(conclusions[0])}</p>' if len(groups) == 1 else _links_to_groups(groups)
    )
    return (
        '<a class="skip" href="#list">Skip to the questions</a>\n<header>\n'
        '<p class="kind">orca-bench · scores of language models, with every question and answer</p>\n'
        f"<h1><bdi>{escape_html(title)}</bdi></h1>\n{conclusion}\n"
        f"{_facts_html(facts)}{_contents(groups, question_count > 0)}</header>\n"
    )


def group_heading(group: PageGroup, number: int, conclusion: str) -> str:
    """The head of one of several groups."""
    facts = _group_facts(group) | {"Questions": f"{group.question_count:,}"}
    return (
        f'<h2 id="group-{number}">{escape_html(group.suite_name)} suite, protocol {escape_html(group.protocol_name)}</h2>\n'
        f'<p class="conclusion">{escape_html(conclusion)}</p>\n{_facts_html(facts)}'
    )


def _group_facts(group: PageGroup) -> dict[str, str]:
    """Suite, protocol, limit and date of a group, each as HTML."""
    facts = {"Suite": escape_html(group.suite_name), "Protocol": escape_html(group.protocol_name)}
    note = group.results[0].result.suite.note
    if note:
        facts["Suite"] += f" <small>({escape_html(note)})</small>"
    if group.limit_text:
        facts["Limit"] = escape_html(group.limit_text)
    if group.dates:
        facts["Measured"] = escape_html(_range(group.dates))
    return facts


def _facts_html(facts: dict[str, str]) -> str:
    """Names and values, which are HTML, as a list."""
    items = "".join(f"<div><dt>{escape_html(name)}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{items}</dl>\n'


def _contents(groups: Sequence[PageGroup], has_questions: bool) -> str:
    links = {"pictures-0": "Pictures"} if len(groups) == 1 else {}
    links |= {"questions": "Questions"} if has_questions else {}
    links |= {"provenance": "Where the numbers come from", "verify": "How to verify them"}
    items = "".join(f'<a href="#{target}">{text}</a>' for target, text in links.items())
    return f'<nav class="contents" aria-label="Parts of the page">{items}</nav>\n'


def _models_html(groups: Sequence[PageGroup]) -> str:
    """The models with their colours; of many only how many there are, because the table has their names."""
    names: dict[str, None] = {}
    for group in groups:
        for styled_result in group.styled_results:
            names[model_name(styled_result.result_file.label, styled_result.style)] = None
    if len(names) > FEW_RESULTS:
        return str(len(names))
    return '<span class="models">' + " ".join(f"<span>{name}</span>" for name in names) + "</span>"


def _links_to_groups(groups: Sequence[PageGroup]) -> str:
    links = "".join(
        f'<li><a href="#group-{number}">{escape_html(group.suite_name)} suite, protocol {escape_html(group.protocol_name)}</a>: '
        f"{counted(len(group.results), 'result')}</li>"
        for number, group in enumerate(groups)
    )
    kinds = ["suites"] if len({group.suite_name for group in groups}) > 1 else []
    kinds += ["protocols"] if len({group.protocol_name for group in groups}) > 1 or not kinds else []
    sentence = f"Results of several {' and '.join(kinds)}: numbers of different kinds, each kind in its own section."
    return f'<p class="conclusion">{sentence}</p><ul>{links}</ul>'


def _range(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}"
