"""Screenshots of a page that `orca-bench page` or `publish` wrote, for the README.

    python tests/support/screenshot.py PAGE OUT.png                    the table and the pictures
    python tests/support/screenshot.py PAGE OUT.png gsm8k/17           the viewer, with that question open

Needs playwright and a Chromium on the PATH.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

_WIDTH, _HEIGHT = 1280, 900  # pixels


def main() -> None:
    page, out, *question = sys.argv[1:]
    program = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if program is None:
        sys.exit("no Chromium on the PATH")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
        tab.goto(Path(page).resolve().as_uri() + (f"#{question[0]}" if question else ""))
        tab.wait_for_selector("html[data-ready]", state="attached")
        print(f"ready after {tab.get_attribute('html', 'data-ready')} ms")
        if question:
            tab.wait_for_selector("#detail pre")
            tab.locator("#questions").screenshot(path=out)
        else:
            tab.screenshot(path=out, clip={"x": 0, "y": 0, "width": _WIDTH, "height": _top(tab)}, full_page=True)
        browser.close()


def _top(tab) -> float:
    """Where the questions begin, in pixels."""
    return tab.evaluate("document.getElementById('questions').getBoundingClientRect().top + scrollY")


if __name__ == "__main__":
    main()
