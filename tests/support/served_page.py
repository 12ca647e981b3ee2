"""What one does on the page of `orca-bench serve`: ask, read answers, and let answers come that no model here writes."""

import json

from orca_bench import prompt
from orca_bench.system_messages import DEFAULT_SYSTEM_ID, SYSTEM_MESSAGES

#: The window of the second model, in tokens: two turns fill it.
SMALL_WINDOW = 192


def set_numbers(tab, **values):
    for name, value in values.items():
        tab.fill(f"#{name}", value)


def ask(tab, instruction, input=None):
    """Ask and wait until all answers are over."""
    tab.fill("#instruction", instruction)
    if input is not None:
        tab.click("#toggle-input")
        tab.fill("#input", input)
    tab.click("#send")
    wait_for_end(tab)


def wait_for_end(tab):
    tab.wait_for_selector("#send:visible")


def answer_texts(tab):
    return [element.text_content() for element in tab.locator(".answer pre").all()]


def chat(server, model, messages, **options):
    """The server's answer to some messages, greedy and as short as the page's here."""
    options = {"temperature": 0, "max_tokens": 12, "logprobs": True, "top_logprobs": 5} | options
    return server.post("/v1/chat/completions", model=model, messages=messages, **options).json()["choices"][0]


def messages_of(instruction, input=None, earlier_turns=()):
    return prompt.chat_messages(SYSTEM_MESSAGES[DEFAULT_SYSTEM_ID], instruction, input, earlier_turns)


def answer_with(tab, status=200, headers=None, lines=(), body=""):
    """Let the server's part in the next answers be this, for what no model here writes and no server here does."""
    body = body or "".join(f"data: {line}\n\n" for line in lines)
    headers = {"Content-Type": "text/event-stream" if lines else "application/json"} | (headers or {})
    tab.route("**/v1/chat/completions", lambda route: route.fulfill(status=status, headers=headers, body=body))


def event_of(text):
    """An event of a stream that adds a text, as one token."""
    token = {"token": text, "logprob": -0.5, "bytes": list(text.encode("utf-8", "replace"))}
    choice = {"index": 0, "delta": {"content": text}, "logprobs": {"content": [token | {"top_logprobs": [token]}]}}
    return json.dumps({"choices": [choice | {"finish_reason": None}]})


#: The last events of a stream.
END = (json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}), "[DONE]")
