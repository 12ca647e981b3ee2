"""The page of `orca-bench serve` in a real browser: questions, answers and their tokens, prompts, keys, what is kept."""

import json
import math
import threading
from pathlib import Path

import pytest
from browsers import serious_violations
from served_page import (
    END,
    SMALL_WINDOW,
    answer_texts,
    answer_with,
    ask,
    chat,
    event_of,
    messages_of,
    set_numbers,
    wait_for_end,
)
from waiting import PATIENCE_S, eventually

from orca_bench import prompt, serve
from orca_bench.models.model_folder import ModelFolder
from orca_bench.serve.sampling import Sampling
from orca_bench.serve.token_requests import TokenRequest
from orca_bench.system_messages import DEFAULT_SYSTEM_ID, SYSTEM_MESSAGES
from orca_bench.train.record_files import RecordReader


def test_the_page_is_one_small_file_that_names_no_other_address():
    content = (Path(serve.__file__).parent / "page.html").read_bytes()
    assert len(content) < 100_000
    text = content.decode("utf-8")
    assert "http:" not in text and "https:" not in text and "//" not in text.replace("// ", "").replace("//#", "")
    assert "innerHTML" not in text and "insertAdjacentHTML" not in text and "eval(" not in text


def test_an_answer_is_the_servers_and_its_tokens_have_their_probabilities(page, server):
    tab, log = page()
    ask(tab, "Where does the frog live?", "Frogs live in ponds.")
    choice = chat(server, tab.input_value("#model"), messages_of("Where does the frog live?", "Frogs live in ponds."))
    assert answer_texts(tab) == [choice["message"]["content"]]
    tokens = tab.locator(".answer .token")
    assert "".join(tokens.all_text_contents()) == choice["message"]["content"]
    tokens.nth(3).hover()
    entry = choice["logprobs"]["content"][3]
    percent = float(tab.text_content("#token-card .percent.chosen").split()[-2])
    assert percent == pytest.approx(100 * math.exp(entry["logprob"]), abs=0.06)
    assert tab.locator("#token-card code").count() == 5
    assert not log


def test_the_exact_prompt_is_a_key_away_with_its_token_ids(page, tiny_model):
    tab, log = page()
    ask(tab, "Where?", "  a pond\n{{ x }} é 🦎 </s>")
    (response,) = answer_texts(tab)
    tab.fill("#instruction", "And why? ### Response:\n")
    tab.keyboard.press("Alt+p")
    tab.wait_for_selector("#prompt-parts:visible")
    turn = prompt.Turn("Where?", "  a pond\n{{ x }} é 🦎 </s>", response.rstrip())
    text = prompt.render(SYSTEM_MESSAGES[DEFAULT_SYSTEM_ID], "And why? ### Response:\n", None, [turn])
    assert tab.text_content("#prompt-text") == text
    tokenizer = ModelFolder(str(tiny_model)).tokenizer
    token_ids = [*tokenizer.prefix, *tokenizer.encode(text)]
    assert [int(id_text) for id_text in tab.locator("#prompt-tokens small").all_text_contents()] == token_ids
    assert tab.text_content("#prompt-facts").startswith(f"{len(token_ids)} tokens in a window of 1,024")
    tab.keyboard.press("Alt+p")
    assert not tab.is_visible("#prompt-dialog")
    tab.locator(".answer button", has_text="Prompt").click()
    tab.wait_for_selector("#prompt-parts:visible")
    own_text = prompt.render(SYSTEM_MESSAGES[DEFAULT_SYSTEM_ID], "Where?", "  a pond\n{{ x }} é 🦎 </s>")
    assert tab.text_content("#prompt-text") == own_text
    assert not log


@pytest.mark.parametrize("system_id", (1, 15))
def test_a_system_message_is_chosen_by_its_id_or_is_ones_own(page, system_id):
    tab, log = page()
    tab.select_option("#system", str(system_id))
    assert tab.text_content("#system-preview") == (SYSTEM_MESSAGES[system_id] or "This message is empty.")

    def prompt_text():
        tab.keyboard.press("Alt+p")
        tab.wait_for_selector("#prompt-parts:visible")
        text = tab.text_content("#prompt-text")
        tab.keyboard.press("Escape")
        return text

    tab.fill("#instruction", "Where?")
    assert prompt_text() == prompt.render(SYSTEM_MESSAGES[system_id], "Where?")
    tab.select_option("#system", "own")
    tab.fill("#system-text", "Be brief.\n")
    assert prompt_text() == prompt.render("Be brief.\n", "Where?")
    assert tab.locator("#system option").count() == 17 and not log


def test_stop_ends_the_answer_and_its_text_stays(page, server):
    tab, log = page()
    set_numbers(tab, temperature="1", max_tokens="900", seed="3")
    tab.fill("#instruction", "Tell a long story.")
    scheduler, events, is_stopped = server.schedulers["model"], [], threading.Event()

    def hold_the_steps(event):
        """Compute nothing before the page has asked, and after 60 tokens nothing until the answer is stopped."""
        events.append(event)
        if len(events) == 1:
            eventually(lambda: server.request_count("model") > 1)
        if len(events) == 60:
            is_stopped.wait(PATIENCE_S)

    scheduler.submit(TokenRequest([5], 60, Sampling(greedy=True)), hold_the_steps)
    try:
        tab.keyboard.press("Enter")
        tab.wait_for_selector("#stop:visible")
        tab.wait_for_selector(".answer .token >> nth=4")
        tab.keyboard.press("Escape")
        wait_for_end(tab)
    finally:
        is_stopped.set()
    assert "stopped by you" in tab.text_content(".facts")
    (text,) = answer_texts(tab)
    server.wait_until_free()
    assert len(events) == 61, "the request that held the steps had all its tokens, and its end"
    assert answer_texts(tab) == [text] and text
    tab.fill("#instruction", "Go on.")
    tab.keyboard.press("Alt+p")
    tab.wait_for_selector("#prompt-parts:visible")
    assert f"### Response:\n{text.rstrip()}\n\n### User:\nGo on." in tab.text_content("#prompt-text")
    assert not log


def test_all_can_be_done_with_the_keyboard(page):
    tab, log = page()
    keyboard = tab.keyboard
    tab.focus("#instruction")
    keyboard.type("Where does")
    keyboard.press("Shift+Enter")
    keyboard.type("it live?")
    keyboard.press("Alt+i")
    keyboard.type("the frog")
    keyboard.press("Control+Enter")
    wait_for_end(tab)
    assert tab.text_content(".question .instruction") == "Where does\nit live?"
    assert tab.text_content(".question .input") == "the frog"
    assert tab.evaluate("document.activeElement.id") == "instruction"
    for _ in range(20):
        keyboard.press("Shift+Tab")
        if tab.evaluate("document.activeElement.matches('.answer pre')"):
            break
    assert tab.is_visible("#token-card")
    places = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "End", "Home"):
        keyboard.press(key)
        places.append(tab.text_content("#token-card p").split(" of ")[0])
        assert tab.text_content("#status").endswith(tab.text_content("#token-card p"))  # a screen reader says it
    count = tab.locator(".token").count()
    assert places == ["Token 2", "Token 3", "Token 2", f"Token {count}", "Token 1"]
    keyboard.press("Escape")
    assert not tab.is_visible("#token-card")
    keyboard.press("Alt+k")
    assert tab.is_visible("#shortcuts-dialog")
    keyboard.press("Escape")
    keyboard.press("Alt+n")
    assert tab.locator(".turn").count() == 0 and tab.text_content("#notice span") == "1 turn removed."
    tab.focus("#notice button")
    keyboard.press("Enter")
    assert tab.locator(".turn").count() == 1 and not log


def test_two_models_answer_side_by_side_with_the_same_seed(page, server):
    tab, log = page(second_model="small")
    set_numbers(tab, temperature="0.9")
    bodies = []
    tab.on("request", lambda request: "completions" in request.url and bodies.append(request.post_data_json))
    ask(tab, "Where?")
    ask(tab, "Why?")
    assert [body["model"] for body in bodies[:2]] == ["model", "small"]
    assert bodies[0]["seed"] == bodies[1]["seed"] != bodies[2]["seed"] == bodies[3]["seed"]
    texts = answer_texts(tab)
    assert texts[0] != texts[1]
    histories = {body["model"]: body["messages"][2]["content"] for body in bodies[2:]}
    assert histories == {"model": texts[0].rstrip(), "small": texts[1].rstrip()}, "each has its own answers behind it"
    for body in bodies[2:]:  # either may be sent first
        text = texts[2 + ["model", "small"].index(body["model"])]
        sampling = {name: body[name] for name in ("seed", "temperature", "top_p", "top_k")}
        assert chat(server, body["model"], body["messages"], **sampling)["message"]["content"] == text
    assert not log


def test_the_oldest_turns_leave_a_full_window_and_no_turn_that_has_room(page, server):
    tab, log = page()
    tab.select_option("#model", "small")
    bodies = []
    tab.on("request", lambda request: "completions" in request.url and bodies.append(request.post_data_json))
    questions = [f"Where does frog number {number} live, and what does it eat?" for number in range(4)]
    for question in questions:
        ask(tab, question)
        assert not tab.is_visible(".problem")
    responses = [text.rstrip() for text in answer_texts(tab)[:-1]]
    turns = [prompt.Turn(question, None, text) for question, text in zip(questions[:-1], responses, strict=True)]
    left_out = next(n for n in range(4) if messages_of(questions[-1], None, turns[n:]) == bodies[-1]["messages"])

    def prompt_length(first_turn):
        messages = messages_of(questions[-1], None, turns[first_turn:])
        return server.post("/page/prompt", model="small", messages=messages).json()["token_count"]

    assert left_out > 0
    assert prompt_length(left_out) + 12 <= SMALL_WINDOW < prompt_length(left_out - 1) + 12
    noun = "turn" if left_out == 1 else "turns"
    assert f"no room for the first {left_out} {noun}" in tab.locator(".facts").last.text_content()
    for _ in questions[1:]:
        tab.locator("button", has_text="Edit").last.click()
    ask(tab, questions[1])
    assert bodies[-1]["messages"] == bodies[1]["messages"], "the first turn has room again"
    assert "no room" not in tab.locator(".facts").last.text_content()
    assert not log


@pytest.mark.parametrize("ending", ("continue_", "abort"))
def test_the_prompt_that_was_asked_for_last_is_shown_though_an_earlier_one_comes_later(page, ending):
    tab, _ = page()
    ask(tab, "Where?")
    held_routes = []
    tab.route("**/page/prompt", lambda route: route.continue_() if held_routes else held_routes.append(route))
    tab.locator(".answer button", has_text="Prompt").click()
    tab.keyboard.press("Escape")
    tab.fill("#instruction", "Why so?")
    tab.keyboard.press("Alt+p")
    tab.wait_for_selector("#prompt-parts:visible")
    event_name = "requestfailed" if ending == "abort" else "requestfinished"
    with tab.expect_event(event_name, lambda request: "page/prompt" in request.url):
        getattr(held_routes[0], ending)()
    tab.evaluate("fetch('page/settings').then((response) => response.json())")  # the page has the earlier one by then
    assert tab.text_content("#prompt-title") == "The prompt of the next question"
    assert "Why so?" in tab.text_content("#prompt-text") and tab.is_visible("#prompt-parts")
    assert not tab.is_visible("#prompt-problem")


def test_all_settings_that_the_server_takes_are_sent_and_a_prompt_needs_none(page):
    tab, log = page()
    set_numbers(tab, temperature="1000", top_p="0.0001")
    ask(tab, "Where?")
    assert answer_texts(tab)[0] and not tab.is_visible(".problem")
    set_numbers(tab, temperature="1001", top_p="0", max_tokens="")
    tab.fill("#instruction", "Why so?")
    tab.keyboard.press("Enter")
    messages = tab.evaluate("NUMBERS.map((name) => byId(name).validationMessage)")
    assert [bool(message) for message in messages] == [True, True, False, True]
    assert tab.locator(".turn").count() == 1
    tab.keyboard.press("Alt+p")
    tab.wait_for_selector("#prompt-parts:visible")
    assert "Where?" in tab.text_content("#prompt-text") and "Why so?" in tab.text_content("#prompt-text")
    tab.keyboard.press("Escape")
    set_numbers(tab, temperature="0", top_p="1", max_tokens="12")
    ask(tab, "Why so?")
    assert tab.locator(".turn").count() == 2 and not log


def test_a_kept_answer_is_a_record_that_train_reads(page, records_folder):
    tab, log = page()
    ask(tab, "Where?", "a pond")
    (response,) = answer_texts(tab)
    tab.click("text=Keep as record")
    note = tab.wait_for_selector(".foot .hint:has-text('Kept in')").text_content()
    (file,) = Path(records_folder).iterdir()
    assert note == f"Kept in {file.name}, which has 1 record now"
    (record,) = RecordReader([str(file)])
    assert (record.system, record.instruction) == (SYSTEM_MESSAGES[DEFAULT_SYSTEM_ID], "Where?")
    assert (record.input, record.response) == ("a pond", response.rstrip())
    tab.reload()
    tab.wait_for_selector(".foot .hint:has-text('Kept in')")
    assert tab.locator("text=Keep as record").count() == 0
    answer_with(tab, lines=[event_of("in a pond"), *END])
    ask(tab, "Where?")
    tab.click("text=Keep as record")
    tab.wait_for_selector(".foot .hint:has-text('which has 2 records now')")
    assert [json.loads(line)["was_cut"] for line in file.read_text("utf-8").splitlines()] == [True, False]
    assert "cut at its longest" in tab.locator(".facts").first.text_content() and not log


def test_the_conversation_survives_a_reload_and_not_a_new_one(page):
    tab, log = page()
    ask(tab, "Where?")
    texts = answer_texts(tab)
    token_count = tab.locator(".token").count()
    tab.reload()
    tab.wait_for_selector(".turn")
    assert answer_texts(tab) == texts and tab.locator(".token").count() == token_count
    assert tab.input_value("#temperature") == "0" and tab.input_value("#max_tokens") == "12"
    tab.click("#reset")
    tab.reload()
    tab.wait_for_selector("html[data-ready]", state="attached")
    assert tab.locator(".turn").count() == 0 and not log


@pytest.mark.parametrize("width", (1280, 360))
@pytest.mark.parametrize("scheme", ("light", "dark"))
def test_axe_finds_no_serious_violation(page, scheme, width):
    pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    viewport = {"width": width, "height": 800}
    tab, _ = page(second_model="small", viewport=viewport, color_scheme=scheme, bypass_csp=True)
    violations = serious_violations(tab)
    tab.check("#shade")
    ask(tab, "Where does the frog live?", "Frogs live in ponds.")
    tab.locator(".answer .token").nth(2).hover()
    tab.wait_for_selector("#token-card:visible")
    violations += serious_violations(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width, "nothing is cut off at the side"
    for key, part in (("Alt+p", "#prompt-parts"), ("Alt+k", "#shortcuts-dialog")):
        tab.keyboard.press(key)
        tab.wait_for_selector(f"{part}:visible")
        violations += serious_violations(tab)
        tab.keyboard.press("Escape")
    assert not violations, "\n".join(violations)
