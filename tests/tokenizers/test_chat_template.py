"""Chat templates of the field: what they write, how it is encoded, what they add by themselves and what they refuse."""

import datetime
import json

import pytest
from chat_templates import GEMMA, LLAMA3, QWEN3, SMOLLM2, TEMPLATES, tokenizer_folder

from orca_bench import prompt, tokenizers
from orca_bench.errors import UserError
from orca_bench.models.model_folder import ModelFolder
from orca_bench.tokenizers.chat_template import PINNED_DATE, load_chat_template

QUESTION, ANSWER = {"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "It is 4."}
SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.fixture(scope="module")
def template_of(tmp_path_factory, byte_level):
    """A function that puts a template into a folder like LLaMA 3's and loads it from there."""
    folder = tmp_path_factory.mktemp("templates")

    def load(template, base=byte_level):
        path = tokenizer_folder(folder / str(len(list(folder.iterdir()))), base, template)
        return load_chat_template(tokenizers.load_tokenizer(path), path, splits_special_tokens=True)

    return load


@pytest.fixture(scope="module")
def templates(template_of):
    return {name: template_of(text) for name, text in TEMPLATES.items()}


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("base", ["byte_level", "byte_fallback"])
def test_ids_are_those_of_apply_chat_template(template_of, request, name, base):
    from transformers import AutoTokenizer

    template = template_of(TEMPLATES[name], request.getfixturevalue(base))
    theirs = AutoTokenizer.from_pretrained(template.source)
    for messages in ([QUESTION], [QUESTION, ANSWER, QUESTION]):
        rendered = template.render(messages, add_generation_prompt=True)
        options = {"chat_template": template.pinned_text, "add_generation_prompt": True}
        assert template.encode(rendered) == theirs.apply_chat_template(messages, **options)["input_ids"]
        if not template.writes_date:
            assert rendered == theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        bos_id = theirs.bos_token_id
        assert template.encode(rendered).count(bos_id) <= sum(message["role"] == "user" for message in messages)


def test_an_answer_ends_with_the_token_that_the_template_writes_after_it(templates):
    spelling_by_name = {
        "chatml": "<|im_end|>",
        "smollm2": "<|im_end|>",
        "qwen3": "<|im_end|>",
        "generation_tag": "<|im_end|>",
        "llama2": "<|end_of_text|>",
        "mistral": "<|end_of_text|>",
        "zephyr": "<|end_of_text|>",
        "llama3": "<|eot_id|>",
        "gemma": "<end_of_turn>",
        "deepseek": "<|eos|>",
    }
    for name, spelling in spelling_by_name.items():
        assert templates[name].end_ids == tuple(templates[name].encode(spelling)), name
        assert templates[name].end_strings == ()
    assert templates["plain_text"].end_ids == () and templates["plain_text"].end_strings == ("USER:",)


@pytest.mark.parametrize(
    ("after_answer", "next_turn", "ids", "strings"),
    [
        ("<|missing|>\n", "<|missing_start|>user\n", [], ["<|missing|>"]),  # ChatML over another vocabulary
        (" END", "<|user|>", ["<|user|>"], ["END"]),
        ("", "<|user|>", ["<|user|>"], []),
        ("\n", "### User:\n", [], ["### User:"]),
        ("", "", [], []),
    ],
)
def test_an_answer_ends_with_words_where_no_token_of_its_own_ends_it(
    template_of, after_answer, next_turn, ids, strings
):
    template = template_of(
        "{% for m in messages %}{% if m.role == 'user' %}{{ "
        + json.dumps(next_turn)
        + " + m.content + '|' }}{% else %}"
        "{{ m.content + " + json.dumps(after_answer) + " }}{% endif %}{% endfor %}"
    )
    assert [template.spelling(id_) for id_ in template.end_ids] == ids and list(template.end_strings) == strings


@pytest.mark.parametrize(
    "change", ["m.content | lower", "m.content | tojson", "m.content | e", "m.content | replace('  ', ' ')"]
)
def test_a_template_that_changes_an_answer_is_known(template_of, templates, change):
    assert all(template.writes_content_unchanged for template in templates.values())
    assert not template_of("{% for m in messages %}{{ " + change + " }}{% endfor %}").writes_content_unchanged


def test_a_template_for_one_question_serves_one_turn(template_of):
    template = template_of(
        "{{ 'Q ' + messages[0].content + ' A ' }}{% if messages | length > 1 %}{{ messages[1].content }}"
        "{{ '<|eot_id|>' }}{% endif %}{% if messages | length > 2 %}{{ raise_exception('one') }}{% endif %}"
    )
    template.check(None, has_turns=False)
    assert template.end_ids == tuple(template.encode("<|eot_id|>"))
    with pytest.raises(UserError, match="refuses a chat of user, assistant, user: one"):
        template.check(None)


@pytest.mark.parametrize("value", [5, True, {"a": 1}, [1]])
def test_a_template_that_is_no_text_is_refused_and_is_no_orca_prompt(tmp_path, byte_level, value):
    folder = tokenizer_folder(tmp_path / "folder", byte_level, value)
    with pytest.raises(UserError):
        _ = ModelFolder(str(folder)).chat_template
    if value in (5, True):
        assert ModelFolder(str(folder)).has_own_prompt


def test_a_system_message_that_a_template_writes_by_itself_is_known(templates):
    defaults = {name: template.default_system_text for name, template in templates.items()}
    own = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert defaults == dict.fromkeys(TEMPLATES) | {"smollm2": own}
    assert own not in templates["smollm2"].render([{**SYSTEM, "content": ""}, QUESTION])


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_system_message_is_written_or_refused_by_name(templates, name):
    template = templates[name]
    template.check(None)
    reasons = {
        "gemma": "refuses a system message: System role not supported",
        "mistral": "refuses a system message: Conversation roles must alternate",
        "plain_text": "leaves a system message out",
    }
    if name not in reasons:
        template.check("Be brief.")
        assert "Be brief." in template.render([SYSTEM, QUESTION])
        return
    with pytest.raises(UserError) as raised:
        template.check("Be brief.")
    assert reasons[name] in str(raised.value) and "leave out --system" in str(raised.value)
    assert str(template.source) in str(raised.value)


def test_a_template_that_asks_for_the_date_is_given_one_date(template_of):
    template = template_of(LLAMA3)
    assert template.writes_date and "Today Date: 26 Jul 2024\n" in template.render([QUESTION])
    day = datetime.datetime.fromisoformat(PINNED_DATE)
    formats = ("%Y-%m-%d", "%d %b %Y", "%A, %B %d, %Y", "%a %-d %H:%M:%S", "%j week %U", "%x %c", "%%d", 'the "%d"')
    calls = "".join(f"{{{{ strftime_now({json.dumps(date_format)}) }}}}|" for date_format in formats)
    rendered = template_of(calls + "{{ messages[0].content }}").render([{"role": "user", "content": "!"}])
    assert rendered.split("|") == [*map(day.strftime, formats), "!"]
    with pytest.raises(UserError, match="a date in a format that is not written out in the template"):
        template_of("{% set f = '%Y' %}{{ strftime_now(f) }}").render([QUESTION])


@pytest.mark.parametrize("start", ["", " ", "   ", "\n", "\n  ", "x"])
@pytest.mark.parametrize("block", ["{% if true %}", "{%- if true %}", "{{ '' }}{% if true %}"])
def test_the_date_changes_nothing_else_of_a_template(template_of, start, block):
    from transformers import AutoTokenizer

    text = start + block + "\n  Q {{ messages[0].content }}{% if false %}{{ strftime_now('%d') }}{% endif %}{% endif %}"
    template = template_of(text)
    theirs = AutoTokenizer.from_pretrained(template.source)
    assert template.render([QUESTION]) == theirs.apply_chat_template([QUESTION], tokenize=False)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ messages[0].content }}{{ [1, 2, 3] | random }}", "writes another text every time: it uses 'random'"),
        ("{{ messages[0].content }}{{ lipsum() }}", "writes another text every time: it uses 'lipsum'"),
        ("{% for m in messages %}", "refuses a chat of user|is no Jinja"),
        ("x", "leaves what the user says out"),
        ("{{ messages[0].content }}", "leaves what the assistant says out"),
        ("<{{ messages[-1].role }}>{{ messages[-1].content }}", "leaves what was said before out; --few-shot one-turn"),
        (
            "{% for m in messages %}{% if m.role == 'user' or loop.last %}{{ m.content }}{% endif %}{% endfor %}",
            "leaves what was said before out",
        ),
        ("{% for m in messages | reverse %}{{ m.content }}{% endfor %}", "leaves what was said before out"),
        ("{{ raise_exception('not today') }}", "refuses a chat of user: not today"),
        (
            [{"name": "rag", "template": "a"}, {"name": "tool_use", "template": "b"}],
            r"\(rag, tool_use\) and none is named",
        ),
        (None, "no chat template in this model folder; `--protocol orca` needs none"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_with_the_reason(template_of, template, reason):
    with pytest.raises(UserError, match=reason):
        template_of(template).check(None)


def test_of_several_templates_the_default_one_is_taken(template_of, tmp_path, byte_level):
    template = template_of([{"name": "default", "template": GEMMA}, {"name": "tool_use", "template": QWEN3}])
    assert template.text == GEMMA and template.other_names == ("tool_use",)
    folder = tokenizer_folder(tmp_path / "folder", byte_level, SMOLLM2)
    (folder / "chat_template.jinja").write_text(QWEN3, encoding="utf-8")  # a file of its own counts before the settings
    assert ModelFolder(str(folder)).chat_template.text == QWEN3
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text(GEMMA, encoding="utf-8")
    template = ModelFolder(str(folder)).chat_template
    assert template.text == QWEN3 and template.other_names == ("rag",)


def test_the_hash_is_that_of_the_templates_text(template_of):
    import hashlib

    assert template_of(LLAMA3).sha256 == hashlib.sha256(LLAMA3.encode()).hexdigest()


def test_which_templates_write_the_orca_prompt(template_of):
    assert template_of(prompt.CHAT_TEMPLATE).writes_orca_prompt
    assert template_of(prompt.chat_template(begins_with_bos=True)).writes_orca_prompt
    with_eos = prompt.CHAT_TEMPLATE.replace(
        "'\\n\\n### Response:\\n' + message['content']", "'\\n\\n### Response:\\n' + message['content'] + eos_token"
    )
    assert with_eos != prompt.CHAT_TEMPLATE and template_of(with_eos).writes_orca_prompt
    spaced = prompt.CHAT_TEMPLATE.replace("### Response:\\n", "### Response: \\n")
    assert not template_of(spaced).writes_orca_prompt  # it has the headers, and writes one more space
    assert not any(template_of(text).writes_orca_prompt for text in TEMPLATES.values())


def test_special_tokens_are_found_in_what_an_imported_files_template_writes(tmp_path, sentencepiece_models):
    """The export of a SentencePiece tokenizer does not look for special tokens; the template of a GGUF file needs them."""
    folder = tmp_path / "imported"
    folder.mkdir()
    tokenizers.export_tokenizer(tokenizers.load_tokenizer(sentencepiece_models["llama"]), folder)
    (folder / "chat_template.jinja").write_text(TEMPLATES["zephyr"], encoding="utf-8")
    template = ModelFolder(str(folder)).chat_template
    eos_id = template.encode("</s>")[0]
    assert template.encode(template.render([QUESTION, ANSWER])).count(eos_id) == 2
    assert template.end_ids == (eos_id,)
    (folder / "orca_bench.json").write_text(
        json.dumps({}), encoding="utf-8"
    )  # one of our own: as transformers encodes it
    assert eos_id not in ModelFolder(str(folder)).chat_template.encode(template.render([QUESTION, ANSWER]))
