"""What the tests of reports share: real results of the mini suite, and a browser that opens pages."""

from pathlib import Path

import pytest
from browsers import chromium_program, open_browser
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


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, closed after the file's tests: while playwright runs, no other event loop can in its process."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = chromium_program()
    if program is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as started:
        running = open_browser(started, program)
        yield running
        running.close()


@pytest.fixture
def open_page(browser):
    """Open a file of a page; gives its tab and a log of its console, dialogs and network."""
    contexts = []

    def open_file(file, link="", **context_options):
        context = browser.new_context(**context_options)
        contexts.append(context)
        tab, log = context.new_page(), []
        tab.on("console", lambda message: log.append(message.text))
        tab.on("pageerror", lambda error: log.append(str(error)))
        tab.on("dialog", lambda dialog: (log.append("dialog"), dialog.dismiss()))
        tab.on(
            "request", lambda request: request.url.startswith(("file:", "data:", "blob:")) or log.append(request.url)
        )
        tab.goto(f"{Path(file).as_uri()}{link}")
        tab.wait_for_selector("html[data-ready]", state="attached")
        return tab, log

    yield open_file
    for context in contexts:
        context.close()
