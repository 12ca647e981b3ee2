"""Whatever stands in a server's answer, it is an answer or an error in one line, and never a traceback."""

import copy

import pytest
from completions_server import JsonHandler, QuietServer

from orca_bench.errors import UserError
from orca_bench.evaluate.request_encoding import GenerationPrompt, ScoredSequence, encoding_of_protocol
from orca_bench.models.model_folder import ModelFolder

PROMPT_IDS = [4, 8, 5]
SGLANG_ANSWER = {
    "text": "ab",
    "output_ids": [7, 9],
    "meta_info": {
        "prompt_tokens": 3,
        "cached_tokens": 0,
        "finish_reason": {"type": "length", "length": 2},
        "input_token_logprobs": [[None, 4, None], [-1.0, 8, None], [-2.0, 5, None]],
        "input_top_logprobs": [None, [[-0.5, 9, None]], [[-0.7, 9, None]]],
        "output_token_logprobs": [[-0.1, 7, "a"], [-0.2, 9, "b"]],
        "output_top_logprobs": [[[-0.1, 7, None]], [[-0.2, 9, None]]],
    },
}
COMPLETION = {
    "id": "1",
    "object": "text_completion",
    "created": 0,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "text": "ab",
            "finish_reason": "length",
            "logprobs": {
                "token_logprobs": [None, -1.0, -2.0, -0.1],
                "top_logprobs": [None, {"x": -0.5}, {"x": -0.7}, {"x": -0.1}],
                "tokens": ["a", "b"],
            },
            "prompt_token_ids": PROMPT_IDS,
            "token_ids": [7, 9],
        }
    ],
    "usage": {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 2},
    },
}
MODELS = {
    "object": "list",
    "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "vllm", "max_model_len": 1024}],
}
ANSWERS = {"sglang": SGLANG_ANSWER, "vllm": COMPLETION}
WRONG_VALUES = (None, "x", 5, [], [[]], {"x": "y"})


def changed_answers(answer):
    """The path and a copy of an answer for each value in it and each wrong one in its place, or none there."""

    def paths(value, path=()):
        yield path
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, item in items:
            yield from paths(item, (*path, key))

    for path in paths(answer):
        for wrong_value in WRONG_VALUES:
            if not path:
                yield path, wrong_value, wrong_value
                continue
            changed = copy.deepcopy(answer)
            parent = changed
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = copy.deepcopy(wrong_value)
            yield path, wrong_value, changed
        if path:
            del parent[path[-1]]
            yield path, "missing", changed


@pytest.fixture(params=ANSWERS)
def fixed_server(request, start_in_thread):
    """The address of a server of each kind, and the server: it lists its `models` and answers every request with its `answer`."""

    class Handler(JsonHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self._send_json(*((200, server.models) if self.path == "/v1/models" else (404, {})))

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self._send_json(200, server.answer)

    server = QuietServer(("127.0.0.1", 0), Handler)
    server.answer, server.models = ANSWERS[request.param], copy.deepcopy(MODELS)
    server.models["data"][0]["owned_by"] = request.param
    return start_in_thread(server)


@pytest.mark.parametrize("operation", ["score", "generate"])
def test_an_answer_in_another_format_is_an_answer_or_an_error_in_one_line(connect, fixed_server, tiny_model, operation):
    url, server = fixed_server
    engine = connect(url)
    encoding = encoding_of_protocol("orca", ModelFolder(str(tiny_model)).tokenizer, 1024)

    def request():
        if operation == "score":
            return engine.log_likelihoods([ScoredSequence(PROMPT_IDS, 1)])[0].log_probability
        return engine.generate([GenerationPrompt(PROMPT_IDS, 2, 1)], [["stop"]], encoding)[0].text

    assert request() == (-3.0 if operation == "score" else "b")
    faults, refused_count = [], 0
    for path, wrong_value, answer in list(changed_answers(server.answer)):
        server.answer = answer
        try:
            request()
        except UserError:
            refused_count += 1
        except Exception as error:
            faults.append((path, wrong_value, repr(error)))
    assert not faults and refused_count > 20


@pytest.mark.parametrize("fixed_server", ["vllm"], indirect=True)
def test_a_list_of_models_in_another_format_is_read_or_an_error_in_one_line(connect, fixed_server):
    url, server = fixed_server
    assert connect(url).window_tokens == 1024
    faults, refused_count = [], 0
    for path, wrong_value, models in list(changed_answers(MODELS)):
        server.models = models
        try:
            connect(url)
        except UserError:
            refused_count += 1
        except Exception as error:
            faults.append((path, wrong_value, repr(error)))
    assert not faults and refused_count > 5
