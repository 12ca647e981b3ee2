"""A headless Chromium for tests, benchmarks and screenshots of the page."""

import shutil

_QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def chromium_program():
    """The path of a Chromium on the PATH, or None."""
    return shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")


def open_browser(playwright, program):
    """A running Chromium without windows and without traffic of its own."""
    return playwright.chromium.launch(executable_path=program, args=[*_QUIET, "--disable-sync", "--no-first-run"])
