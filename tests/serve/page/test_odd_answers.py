"""The page of `orca-bench serve` and answers that are hostile, refused or broken off, and a server that asks for a key."""

import json
import math

import pytest
from hostile_texts import HOSTILE
from model_servers import serving
from served_page import END, answer_texts, answer_with, ask, event_of, set_numbers, wait_for_end

LONGEST_ANSWER = 100_000  # characters


@pytest.mark.parametrize("place", range(len(HOSTILE)))
def test_whatever_a_model_writes_is_text(page, place):
    text = HOSTILE[place][:LONGEST_ANSWER]
    tab, log = page()
    title = tab.title()
    answer_with(tab, lines=[event_of(text), *END])
    ask(tab, text[:2000], text[:2000])
    answer_text = answer_texts(tab)[0]
    assert answer_text.startswith("half a pair ") if "half a pair" in text else answer_text == text
    for token in tab.locator(".answer .token").all():
        token.hover(position={"x": 2, "y": 8})
        tab.wait_for_selector("#token-card:visible")
    tab.reload()
    tab.wait_for_selector(".answer .foot button")
    assert answer_texts(tab) == [answer_text]
    tab.keyboard.press("Alt+p")
    tab.wait_for_selector("#prompt-text:visible, #prompt-problem:visible")
    refusals = [line for line in log if "400" in line]  # no tokenizer takes half a character
    assert tab.title() == title and log == refusals and (not log or "half a pair" in text)
    assert tab.locator("main script, main img, main svg, dialog img, dialog script").count() == 0


def test_a_character_of_several_tokens_is_one_and_the_text_counts(page):
    lizard = "🦎".encode()
    tokens = [{"token": "\ufffd", "logprob": -0.25, "bytes": [byte], "top_logprobs": []} for byte in lizard]
    events = [
        {"choices": [{"delta": {"content": text}, "logprobs": {"content": entries}}]}
        for text, entries in (("", tokens[:3]), ("🦎", tokens[3:]), (" and more", []))
    ]
    tab, log = page()
    answer_with(tab, lines=[*map(json.dumps, events), *END])
    ask(tab, "Which?")
    assert answer_texts(tab) == ["🦎 and more"]
    assert tab.locator(".token").all_text_contents() == ["🦎"]
    tab.locator(".token").hover()
    assert tab.text_content("#token-card .percent.chosen") == f"{100 * math.exp(-1):.1f} %"
    assert not log


def test_what_the_server_refuses_is_said_in_words_and_can_be_asked_again(page):
    tab, _ = page()
    answer_with(tab, 429, {"Retry-After": "7"}, body=json.dumps({"error": {"message": "queue is full"}}))
    ask(tab, "Where?")
    assert tab.text_content(".problem") == "The server has no room for another request now. Try again in 7 s."
    tab.unroute("**/v1/chat/completions")
    answer_with(tab, lines=[event_of("a pond")])
    tab.locator(".answer button", has_text="Again").click()
    wait_for_end(tab)
    assert tab.text_content(".problem") == "The connection broke before the end of the answer."
    assert answer_texts(tab) == ["a pond"], "what was there stays"
    tab.unroute("**/v1/chat/completions")
    tab.route("**/v1/chat/completions", lambda route: route.abort())
    tab.locator(".answer button", has_text="Again").click()
    wait_for_end(tab)
    assert tab.text_content(".problem") == "The server does not answer. Is orca-bench serve still running?"
    tab.unroute("**/v1/chat/completions")
    tab.locator(".answer button", has_text="Again").click()
    wait_for_end(tab)
    assert not tab.is_visible(".problem") and answer_texts(tab)[0]
    ask(tab, "word " * 3000)
    assert tab.is_visible(".problem") and "1024" in tab.text_content(".problem").replace(",", "")


def test_a_server_with_a_key_is_asked_with_it(open_tab, tiny_model):
    with serving(tiny_model, api_key="right-key") as server:
        tab, log = open_tab(f"{server.url}/", f"{server.url}/", ready="#key-dialog[open]")
        tab.fill("#key", "wrong-key")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("#key-title:text-is('The server does not take this key')")
        tab.fill("#key", "right-key")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("html[data-ready]", state="attached")
        set_numbers(tab, max_tokens="4")
        ask(tab, "Where?")
        assert answer_texts(tab)[0]
        tab.reload()
        tab.wait_for_selector("html[data-ready]", state="attached")
        stored = tab.evaluate("[JSON.stringify(sessionStorage), JSON.stringify(localStorage)]")
        assert "right-key" in stored[0] and "right-key" not in stored[1]
        assert all("401" in line for line in log)
