"""Pages of small results for the tests of the page."""

from orca_bench.report.html_page import page_pieces
from orca_bench.results.question_texts import QuestionTexts


def write_test_page(folder, results, lookups=None, title="t <b>", reported=None, absence_reasons=()):
    """Write the page of some results; `lookups` are None where the words of no question are known."""
    file = folder / "index.html"
    with open(file, "w", encoding="utf-8") as handle:
        for piece in page_pieces(title, results, reported, lookups or [None] * len(results), absence_reasons):
            handle.write(piece)
    return file


def lookup_of(question="What is it?", choices=(), context="the context\nof two lines", passage="", stop=("\n",)):
    """A lookup that gives every question the same words."""
    continuations = [f" {choice}" for choice in choices] or [None]
    requests = tuple((context, continuation, () if choices else stop) for continuation in continuations)
    return lambda part, row: QuestionTexts(question.replace("ROW", str(row)), passage, tuple(choices), requests)
