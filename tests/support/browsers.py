"""A headless Chromium for tests, benchmarks and screenshots of pages."""

import shutil

_QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def chromium_program():
    """The path of a Chromium on the PATH, or None."""
    return shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")


def open_browser(playwright, program):
    """A running Chromium without windows and without traffic of its own."""
    return playwright.chromium.launch(executable_path=program, args=[*_QUIET, "--disable-sync", "--no-first-run"])


def serious_violations(tab):
    """What axe finds in an open page that keeps people from using it, a line each; axe-playwright-python is there."""
    from axe_playwright_python.sync_playwright import Axe

    report = Axe().run(tab)
    assert len(report.response["passes"]) > 10, "it has looked at the page"
    return [
        f"{violation['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:200]}"
        for violation in report.response["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"][:3]
    ]
