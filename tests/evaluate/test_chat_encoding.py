"""Protocol `chat` in token ids: prompts, responses, cuts and ends of texts, for the templates of the field."""

import json

import pytest
from chat_templates import TEMPLATES, tokenizer_folder

from orca_bench.errors import UserError
from orca_bench.evaluate import benchmark_rows, chat_encoding
from orca_bench.evaluate.chat_encoding import ChatEncoding
from orca_bench.evaluate.protocols import Chat, ChatSettings
from orca_bench.evaluate.protocols.chat import messages_of_context
from orca_bench.evaluate.tasks import SUITE
from orca_bench.models.model_folder import ModelFolder

BY_NAME = {task.name: task for task in SUITE}
#: Templates whose generation prompt is not how the assistant's turn begins, or does not end where the answer begins.
OTHER_TURNS = ("deepseek", "qwen3")
#: In byte-level BPE the space after `ASSISTANT:` and the answer's first word are one token.
MERGING = ("plain_text",)


@pytest.fixture(scope="module")
def encoding_of(tmp_path_factory, byte_level):
    """A function that gives the encoding of a template of TEMPLATES for a window."""
    folder = tmp_path_factory.mktemp("templates")
    paths = {name: tokenizer_folder(folder / name, byte_level, text) for name, text in TEMPLATES.items()}

    def make(name, window_tokens=100_000):
        model_folder = ModelFolder(str(paths[name]))
        return chat_encoding.encoding_of_model("chat", model_folder, model_folder.tokenizer, window_tokens)

    return make


def chat_requests(mini, task_names, limit=2, **settings):
    protocol = Chat(settings.pop("system", None), {}, ChatSettings(**settings))
    tasks = [BY_NAME[name] for name in task_names]
    return [
        request
        for task in tasks
        for document in protocol.documents(task, benchmark_rows.load_task_rows(task, mini["mini:benchmarks"]), limit)
        for request in document.requests
    ]


def apply(encoding, messages, **options):
    """The ids that transformers gives, by the template as it is pinned."""
    from transformers import AutoTokenizer

    if not hasattr(encoding, "theirs"):
        encoding.theirs = AutoTokenizer.from_pretrained(encoding.template.source)
    options = {"chat_template": encoding.template.pinned_text} | options
    return encoding.theirs.apply_chat_template(messages, tokenize=True, **options)["input_ids"]


@pytest.mark.parametrize("few_shot", ["turns", "one-turn"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_prompt_and_response_are_the_beginning_of_the_whole_chat(encoding_of, mini, name, few_shot):
    """For every record: the prompt is that of `add_generation_prompt`, and with the response it begins the assistant's turn."""
    encoding = encoding_of(name)
    for request in chat_requests(mini, [task.name for task in SUITE], few_shot=few_shot):
        messages = messages_of_context(request.context)
        prompt_ids = apply(encoding, messages, add_generation_prompt=True)
        if request.continuation is None:
            assert encoding.encode_prompt(request.context, 0, 256).token_ids == prompt_ids
            continue
        pair = encoding.encode_pair(request.context, request.continuation, request.fixed_prefix_characters)
        whole_ids = apply(encoding, [*messages, {"role": "assistant", "content": request.continuation}])
        if name in MERGING:  # the line break after the answer is in one token with its last full stop
            shared_count = len(pair.token_ids) - 1
            assert encoding.theirs.decode(whole_ids).startswith(encoding.theirs.decode(pair.token_ids))
        else:
            shared_count = len(pair.token_ids)
        assert pair.token_ids[:shared_count] == whole_ids[:shared_count]
        scored_text = encoding.theirs.decode(pair.token_ids[pair.scored_start :])
        if name not in (*OTHER_TURNS, *MERGING):
            assert pair.token_ids[: pair.scored_start] == prompt_ids
        assert scored_text.strip() == encoding.template.response_text(request.continuation).strip()
    assert (encoding.merged_response_count > 0) == (name in MERGING)
    assert encoding.shortened_context_count == 0


def test_a_real_models_ids_are_those_of_apply_chat_template(real_tokenizer_folder, mini):
    """SmolLM2's own template and its tokenizer of 49,152 tokens, as they are imported from its GGUF file."""
    model_folder = ModelFolder(str(real_tokenizer_folder))
    encoding = chat_encoding.encoding_of_model("chat", model_folder, model_folder.tokenizer, 8192)
    assert encoding.template.default_system_text.startswith("You are a helpful AI assistant named SmolLM")
    for request in chat_requests(mini, [task.name for task in SUITE], 1):
        messages = messages_of_context(request.context)
        prompt_ids = apply(encoding, messages, add_generation_prompt=True)
        if request.continuation is None:
            assert encoding.encode_prompt(request.context, 0, 256).token_ids == prompt_ids
            continue
        pair = encoding.encode_pair(request.context, request.continuation)
        whole_ids = apply(encoding, [*messages, {"role": "assistant", "content": request.continuation}])
        assert pair.token_ids[: pair.scored_start] == prompt_ids
        end_ids = [*encoding.template.end_ids, *encoding.template.encode("\n")]
        assert [*pair.token_ids, *end_ids] == whole_ids
    assert encoding.merged_response_count == 0


def test_a_choice_is_scored_after_what_the_assistants_turn_begins_with(encoding_of):
    context = json.dumps([{"role": "user", "content": "2 + 2?"}])
    for name, ending in (("qwen3", "assistant\n<think>\n\n</think>\n\n"), ("deepseek", "<|Assistant|>")):
        encoding = encoding_of(name)
        pair = encoding.encode_pair(context, "It is 4.")
        apply(encoding, [{"role": "user", "content": "?"}])
        assert encoding.theirs.decode(pair.token_ids[: pair.scored_start]).endswith(ending)
        note, thought_note = chat_encoding.template_notes(encoding.template, None)
        assert "choices are scored after" in note and "a thought before an answer" in thought_note
    assert "begins an answer that is generated with '<|User|>?<|Assistant|><think>\\n'" in note.replace(
        "<|begin_of_text|>", ""
    )
    assert chat_encoding.template_notes(encoding_of("chatml").template, None) == []


def test_a_token_that_reaches_over_the_boundary_is_scored_with_the_response(encoding_of):
    encoding = encoding_of("plain_text")
    context = json.dumps([{"role": "user", "content": "2 + 2?"}])
    pair = encoding.encode_pair(context, "the sum")
    prompt = encoding.encode_prompt(context, 0, 8).token_ids
    assert encoding.merged_response_count == 1
    assert pair.scored_start == len(prompt) - 1 and pair.token_ids[: pair.scored_start] == prompt[:-1]
    assert "1 responses begin with a token" in chat_encoding.merge_warning(1)


@pytest.mark.parametrize("name", ["chatml", "llama2", "llama3", "qwen3", "plain_text"])
def test_a_chat_that_is_too_long_loses_its_oldest_examples_first(encoding_of, mini, name):
    system = "Be brief." if name != "plain_text" else None
    request = chat_requests(mini, ["mmlu"], 1, system=system)[0]
    messages = messages_of_context(request.context)
    head = messages[: len(messages) % 2 == 0]  # the system message
    turns = messages[len(head) :]
    description = turns[0]["content"][: request.fixed_prefix_characters]
    assert description.endswith("\n\n") and "multiple choice questions" in description and len(turns) == 11
    whole = encoding_of(name).encode_pair(request.context, request.continuation, request.fixed_prefix_characters)
    for dropped in (1, 3, 5):
        first = {"role": "user", "content": description + turns[2 * dropped]["content"]}
        shorter = json.dumps([*head, first, *turns[2 * dropped + 1 :]])
        expected = encoding_of(name).encode_pair(shorter, request.continuation)
        encoding = encoding_of(name, len(expected.token_ids) - 1)  # the last one is not fed
        pair = encoding.encode_pair(request.context, request.continuation, request.fixed_prefix_characters)
        assert pair == expected and len(pair.token_ids) < len(whole.token_ids)
        assert encoding.shortened_context_count == 1
        prompt = encoding_of(name).encode_prompt(shorter, 0, 8)
        encoding = encoding_of(name, len(prompt.token_ids) + 8)
        assert encoding.encode_prompt(request.context, request.fixed_prefix_characters, 8) == prompt


def test_a_question_that_is_too_long_keeps_system_message_description_and_its_end(encoding_of, mini):
    request = chat_requests(mini, ["mmlu"], 1, system="Be brief.")[0]
    encoding = encoding_of("chatml", 110)
    pair = encoding.encode_pair(request.context, request.continuation, request.fixed_prefix_characters)
    assert len(pair.token_ids) == 111
    apply(encoding, [{"role": "user", "content": "?"}])
    text = encoding.theirs.decode(pair.token_ids)
    assert text.startswith(
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nThe following are multiple choice"
    )
    assert text.endswith(f"\nAnswer:<|im_end|>\n<|im_start|>assistant\n{request.continuation}")
    question = messages_of_context(request.context)[-1]["content"]
    question_end = text.partition("\n\n")[2].removesuffix(f"<|im_end|>\n<|im_start|>assistant\n{request.continuation}")
    assert question.endswith(question_end) and 0 < len(question_end) < len(question)


@pytest.mark.parametrize("name", ["chatml", "qwen3"])
def test_a_question_of_which_nothing_is_left_is_refused(encoding_of, mini, name):
    """What the template writes after the question stays, in every window in which a token of the question does."""
    request = chat_requests(mini, ["mmlu"], 1, system="Be brief.")[0]
    endings = {True: "<think>\n\n</think>\n\n" if name == "qwen3" else "", False: ""}
    are_refused = []
    for window_tokens in range(60, 124, 8):
        for is_scored, ending in endings.items():
            encoding = encoding_of(name, window_tokens)
            apply(encoding, [{"role": "user", "content": "?"}])
            try:
                if is_scored:
                    ids = encoding.encode_pair(request.context, "A", request.fixed_prefix_characters).token_ids[:-1]
                else:
                    ids = encoding.encode_prompt(request.context, request.fixed_prefix_characters, 1).token_ids
            except UserError as error:
                assert f"a context window of {window_tokens} tokens has no place for the question" in str(error)
                are_refused.append(True)
            else:
                text = encoding.theirs.decode(ids)
                assert text.endswith(f"<|im_end|>\n<|im_start|>assistant\n{ending}") and "mathematics.\n\n" in text
                are_refused.append(False)
    assert are_refused[:2] == [True, True] and are_refused[-2:] == [False, False]


def test_choices_of_a_question_are_cut_once(encoding_of, mini, monkeypatch):
    request = chat_requests(mini, ["mmlu"], 1)[0]
    encoding = encoding_of("chatml", 150)
    renderings = []
    render = encoding.template.render
    monkeypatch.setattr(
        encoding.template, "render", lambda *args, **options: renderings.append(1) or render(*args, **options)
    )
    counts = []
    for choice in ("A", "B", "C and D"):
        encoding.encode_pair(request.context, choice, request.fixed_prefix_characters)
        counts.append(len(renderings))
    assert counts[0] > 5 and counts[0] == counts[1] == counts[2] and encoding.shortened_context_count == 3


def test_a_text_ends_with_its_turn_or_at_a_stop_string(encoding_of):
    encoding = encoding_of("chatml")
    end_id = encoding.template.end_ids[0]
    assert end_id not in encoding.tokenizer.stop_ids  # or this test could not fail
    ids = encoding.tokenizer.encode("It is 4.")
    more = encoding.tokenizer.encode("\n\nQuestion: what?")
    assert not encoding.is_finished(ids, ["\n\nQuestion:"])
    assert encoding.is_complete([*ids, end_id], []) and encoding.is_complete([*ids, encoding.tokenizer.eos_id], [])
    assert encoding.is_complete([*ids, *more], ["\n\nQuestion:"])
    assert encoding.text([*ids, end_id, *more], []) == "It is 4."
    assert encoding.text([*ids, *more], ["\n\nQuestion:"]) == "It is 4."
    assert encoding.end_strings == ("<|im_end|>",)  # which only a server sends as text
    plain = encoding_of("plain_text")
    ids = plain.tokenizer.encode("It is 4.\nUSER:")
    assert plain.is_complete(ids, []) and plain.text(ids, []) == "It is 4.\n"


def test_what_a_result_says_of_a_template(encoding_of):
    smollm2, llama3 = encoding_of("smollm2").template, encoding_of("llama3").template
    own = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert chat_encoding.describe_template(smollm2, None) == {"template_sha256": smollm2.sha256, "template_system": own}
    assert chat_encoding.describe_template(smollm2, "") == {"template_sha256": smollm2.sha256}
    assert chat_encoding.describe_template(llama3, None) == {
        "template_sha256": llama3.sha256,
        "template_date": "2024-07-26",
    }
    assert own in chat_encoding.template_notes(smollm2, None)[0] and not chat_encoding.template_notes(smollm2, "S")
    assert "2024-07-26" in chat_encoding.template_notes(llama3, None)[0]


def test_other_protocols_have_their_own_encodings(encoding_of):
    template = encoding_of("chatml").template
    folder = ModelFolder(str(template.source))
    for name in ("orca", "leaderboard", "plain"):
        assert not isinstance(chat_encoding.encoding_of_model(name, folder, folder.tokenizer, 512), ChatEncoding)
