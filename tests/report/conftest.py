"""What the tests of reports share: real results of the mini suite, and pages of them in a browser."""

from pathlib import Path

import pytest
from changed_results import change_result, random_scores


@pytest.fixture(scope="module")
def in_results_folder(in_mini_folder):
    """A model that knows HellaSwag and Winogrande (good.json), and the same with HellaSwag forgotten (bad.json).

    The fixture is the command that works in their folder.
    """
    folder = in_mini_folder.folder
    change_result(folder, "a.json", "good.json", random_scores(1, hellaswag=1, winogrande=0.9, arc_challenge=0.4))
    change_result(folder, "good.json", "bad.json", random_scores(2, hellaswag=0.1))
    return in_mini_folder


@pytest.fixture
def open_page(open_tab):
    """Open a file of a page; gives its tab and a log of its console, dialogs and network."""
    return lambda file, link="", **context_options: open_tab(f"{Path(file).as_uri()}{link}", "file:", **context_options)
