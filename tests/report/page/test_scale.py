"""Tens of thousands of questions of several models open at once; bench_page.py measures the largest page."""

import time

from bench_page import invent_result, invent_texts
from page_files import write_test_page

#: The limits are those of a common machine; one that is this many times slower, or as busy, passes too.
SLOWEST = 10
QUESTIONS = 6000


def test_a_page_of_many_questions_opens_and_scrolls(open_page, tmp_path):
    texts = invent_texts(QUESTIONS)
    results = [invent_result(number, texts) for number in range(3)]
    lookup = lambda part, row: texts.get((part, row))  # noqa: E731
    file = write_test_page(tmp_path, results, [lookup] * 3)
    assert file.stat().st_size < 20 * 2**20
    tab, log = open_page(file)
    ready = int(tab.get_attribute("html", "data-ready"))
    print(f"{file.stat().st_size / 2**20:.1f} MiB, ready after {ready} ms")
    assert ready < 1000 * SLOWEST
    frames = tab.evaluate(
        """() => new Promise((done) => {
            const list = document.getElementById("list"), times = [];
            let last = performance.now(), n = 0;
            const step = (now) => {
                times.push(now - last); last = now;
                list.scrollTop = (n * 7919) % (6000 * 50);
                if (++n < 60) requestAnimationFrame(step); else done(times.slice(2));
            };
            requestAnimationFrame(step);
        })"""
    )
    assert sorted(frames)[len(frames) // 2] < 50 * SLOWEST
    assert tab.locator("#rows .line").count() < 60
    start = time.monotonic()
    tab.focus("#list")
    tab.keyboard.press("End")
    tab.wait_for_selector(f"#detail[data-question='{len(texts) - 1}']")
    assert time.monotonic() - start < SLOWEST
    start = time.monotonic()
    tab.fill("#search", "word-that-no-question-has")
    tab.wait_for_selector(f"#count:text-is('0 of {len(texts):,} questions')")
    assert time.monotonic() - start < 2 * SLOWEST
    assert not log


def test_what_models_have_in_common_is_stored_once(tmp_path):
    texts = invent_texts(500)
    lookup = lambda part, row: texts.get((part, row))  # noqa: E731
    one = write_test_page(tmp_path, [invent_result(0, texts)], [lookup]).stat().st_size
    four = write_test_page(tmp_path, [invent_result(n, texts) for n in range(4)], [lookup] * 4).stat().st_size
    assert four < 1.6 * one
