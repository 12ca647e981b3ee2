"""Screenshots of a page that `orca-bench page` or `publish` wrote, for the README.

    python tests/support/screenshot.py PAGE OUT.png                    the head, the table and the first picture
    python tests/support/screenshot.py PAGE OUT.png gsm8k/17           the questions, with that one open

Needs playwright and a Chromium on the PATH.
"""

import sys
from pathlib import Path

from browsers import chromium_program, open_browser
from playwright.sync_api import sync_playwright

_WIDTH, _HEIGHT = 1280, 900  # pixels


def main() -> None:
    page, out, *question = sys.argv[1:]
    program = chromium_program()
    if program is None:
        sys.exit("no Chromium on the PATH")
    with sync_playwright() as playwright_session:
        browser = open_browser(playwright_session, program)
        tab = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
        tab.goto(Path(page).resolve().as_uri() + (f"#{question[0]}" if question else ""))
        tab.wait_for_selector("html[data-ready]", state="attached")
        print(f"ready after {tab.get_attribute('html', 'data-ready')} ms")
        if question:
            tab.wait_for_selector("#detail .request")
            tab.locator("#questions").screenshot(path=out)
        else:
            tab.screenshot(path=out, clip={"x": 0, "y": 0, "width": _WIDTH, "height": _bottom(tab)}, full_page=True)
        browser.close()


def _bottom(tab) -> float:
    """Where the first picture ends, in pixels."""
    return tab.evaluate("document.querySelector('figure').getBoundingClientRect().bottom + scrollY + 16")


if __name__ == "__main__":
    main()
