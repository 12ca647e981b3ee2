"""Whatever a model, a data set or a result's name says is shown as text, and never runs."""

import re

import pytest
from hostile_texts import HOSTILE
from page_files import lookup_of, write_test_page
from synthetic_results import listed_result


def test_without_a_browser_nothing_hostile_stands_in_the_file_as_it_is(tmp_path):
    text = HOSTILE[0]
    result = listed_result(tmp_path / "r.json", "<script>alert(1)</script>", [("gsm8k", 0, 0.0, text, [text])])
    page = write_test_page(tmp_path, [result], [lookup_of(text, context=text)], absence_reasons=[text])
    content = page.read_text(encoding="utf-8")
    assert "document.title='owned'" not in content and "<script>alert" not in content
    scripts = content.count("<script")
    assert scripts == content.count("</script>") == 7  # index, words, the page's own, texts, answers, requests, lines
    assert "http" not in content.split("<body>")[0].replace("http-equiv", "")


def test_a_name_turns_no_text_of_the_page_around(tmp_path):
    result = listed_result(tmp_path / "r.json", "a\u202eb\x1b", [("gsm8k", 0, 0.0, "x", ["x"])])
    content = write_test_page(tmp_path, [result], [None], absence_reasons=["\u202e"]).read_text(encoding="utf-8")
    elements = re.sub(r"<script.*?</script>", "", content, flags=re.DOTALL)
    assert "a\ufffdb\ufffd" in elements and not {"\u202e", "\x1b"} & set(elements)


@pytest.mark.parametrize("place", range(len(HOSTILE)))
def test_whatever_a_model_wrote_is_shown_and_does_not_run(open_page, tmp_path, place):
    text = HOSTILE[place]
    name = text[:40].encode("utf-8", "replace").decode()
    result = listed_result(tmp_path / "r.json", name, [("gsm8k", 7, 0.0, text, [text]), ("drop", 1, 1.0, "x", ["x"])])
    tab, log = open_page(write_test_page(tmp_path, [result], [lookup_of(text, context=text)]), "#gsm8k/7")
    title = tab.title()
    answer = tab.wait_for_selector("#detail .answer pre")
    if len(text) > 700:
        assert len(answer.text_content()) == 700
        tab.click("#detail .answer .more")
    answer_text = answer.text_content()
    assert answer_text.startswith("half a pair ") if "half a pair" in text else answer_text == text
    tab.click("#detail .request summary")
    context = tab.wait_for_selector("#detail pre.context").text_content()
    assert context.startswith("half a pair ") if "half a pair" in text else context == text
    assert tab.title() == title and not log
    assert tab.locator("#detail script, #detail img, #detail svg").count() == 0


def test_the_policy_lets_no_other_script_run(open_page, tmp_path):
    result = listed_result(tmp_path / "r.json", "m", [("gsm8k", 0, 0.0, "x", ["x"])])
    page = write_test_page(tmp_path, [result])
    page.write_text(
        page.read_text(encoding="utf-8").replace("</body>", "<script>document.title='owned'</script></body>")
    )
    tab, log = open_page(page)
    assert tab.title() == "t <b>" and any("Content Security Policy" in line for line in log)
