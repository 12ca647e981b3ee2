"""The Orca prompt in the template files of other programs, rendered beside `prompt.render` on a thousand hostile records.

Ollama and Go are not run: their rules are tests/support/ollama_templates.py.
"""

import json
import subprocess
import sys

import pytest
import yaml
from hostile_records import hostile_records
from ollama_templates import read_modelfile, render_messages

from orca_bench import prompt
from orca_bench.models.gguf.llamacpp_server import LlamaCppServer
from orca_bench.serve import prompt_templates
from orca_bench.system_messages import SYSTEM_MESSAGES

RECORDS = hostile_records(1000, seed=22)
#: The same with one and two earlier turns, which are further records.
CONVERSATIONS = [
    (
        *RECORDS[index],
        [prompt.Turn(*RECORDS[index + offset][1:], f"answer {offset}\n") for offset in range(1, turns + 1)],
    )
    for index in range(0, 300, 3)
    for turns in (1, 2)
]


@pytest.fixture(scope="module")
def template_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "templates"
    prompt_templates.write_template_folder(folder, None)
    return folder


def rendered_alike(render_chat):
    """Fail where a function of messages gives another text than `prompt.render` for a record or a conversation."""
    for system, instruction, input_text, *earlier in (*RECORDS, *CONVERSATIONS):
        messages = prompt.chat_messages(system, instruction, input_text, *earlier)
        assert render_chat(messages) == prompt.render(system, instruction, input_text, *earlier), messages


def test_the_records_are_hostile():
    texts = "".join(text for record in RECORDS for text in record if text)
    assert all(
        piece in texts for piece in ("{{ bos_token }}", "{%- endfor -%}", "\n\n\n", "日本語", "### User:", "</s>")
    )
    assert {record[2] for record in RECORDS} >= {None, ""} and any(record[0] == "" for record in RECORDS)


def sandbox(**settings):
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols], **settings)


def test_llama_cpps_template_in_jinja(template_folder):
    template = sandbox().from_string((template_folder / "llama.cpp.jinja").read_text(encoding="utf-8"))
    rendered_alike(lambda messages: template.render(messages=messages, add_generation_prompt=True, bos_token="<s>"))


def test_transformers_renders_its_template_after_one_bos(template_folder):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<s>": 0}, unk_token="<s>")), bos_token="<s>"
    )
    template = (template_folder / "chat_template.jinja").read_text(encoding="utf-8")

    def render_chat(messages):
        text = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True
        )
        assert text.startswith("<s>### System:\n")
        return text.removeprefix("<s>")

    rendered_alike(render_chat)


def test_text_generation_webui_finds_prompt_and_stop_strings_in_its_template(template_folder):
    """It renders without a generation prompt, and takes the text between two responses, or two questions, for what begins one."""
    content = yaml.safe_load((template_folder / "text-generation-webui.yaml").read_text(encoding="utf-8"))
    assert content == {"instruction_template": prompt.CHAT_TEMPLATE}
    template = sandbox().from_string(content["instruction_template"])

    def text_between(role):
        text = template.render(messages=[{"role": role, "content": mark} for mark in ("<1>", "<2>")])
        assert text.endswith("<2>"), "nothing follows a message that would have to be cut off"
        return text.split("<1>")[1].split("<2>")[0]

    assert text_between("assistant") == "\n\n### Response:\n" and text_between("user") == "\n\n### User:\n"
    rendered_alike(
        lambda messages: template.render(messages=messages, add_generation_prompt=False) + text_between("assistant")
    )
    without_system = [{"role": "user", "content": "Sum it up.\n\n### Input:\none\n\ntwo"}]
    typed_input = template.render(messages=without_system) + text_between("assistant")
    assert typed_input == prompt.render("", "Sum it up.", "one\n\ntwo")


def test_the_modelfile_by_ollamas_rules(template_folder):
    commands = read_modelfile((template_folder / "Modelfile").read_text(encoding="utf-8"))
    values = dict(commands)
    assert commands[0] == ("FROM", "./model.gguf") and values["SYSTEM"] == SYSTEM_MESSAGES[5]
    assert [value for name, value in commands if name == "stop"] == list(prompt.TURN_HEADERS)
    assert (values["temperature"], values["top_k"], values["repeat_penalty"]) == ("0.7", "50", "1")
    template = values["TEMPLATE"]
    assert "<s>" not in template, "Ollama adds BOS"
    rendered_alike(lambda messages: render_messages(template, messages))
    assert render_messages(template, [{"role": "user", "content": "hi"}]) == prompt.render("", "hi")
    begun = [*prompt.chat_messages("S", "hi"), {"role": "assistant", "content": "Hel"}]
    assert render_messages(template, begun) == prompt.render("S", "hi") + "Hel", "a response that is begun goes on"


SERVE = """
import sys, xllamacpp
parameters = xllamacpp.CommonParams()
parameters.model.path, parameters.chat_template = sys.argv[1], open(sys.argv[2], encoding="utf-8", newline="").read()
parameters.n_ctx, parameters.verbosity, parameters.cpuparams.n_threads = 64, 1, 1
server = xllamacpp.Server(parameters)
print("address", server.listening_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def llama_cpp(tmp_path_factory, tiny_model, template_folder):
    """llama.cpp's own server with a tiny model, started with the template as `--chat-template-file` gives it."""
    pytest.importorskip("xllamacpp")
    pytest.importorskip("gguf")
    from orca_bench.models.gguf.gguf_export import export_gguf
    from orca_bench.models.model_folder import ModelFolder

    folder = tmp_path_factory.mktemp("llama_cpp")
    export_gguf(ModelFolder(str(tiny_model)), folder / "tiny.gguf", "f32")
    command = [sys.executable, "-c", SERVE, folder / "tiny.gguf", template_folder / "llama.cpp.jinja"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        address = next(line.split()[1] for line in process.stdout if line.startswith("address"))
        yield LlamaCppServer(folder / "tiny.gguf", process, folder / "log", address.removeprefix("http://"))
        process.stdin.close()


def test_llama_cpps_own_server_renders_its_template(llama_cpp):
    rendered_alike(lambda messages: llama_cpp.post("/apply-template", {"messages": messages})["prompt"])
    text = prompt.render("S", "hi")
    ids = llama_cpp.post("/tokenize", {"content": text, "add_special": True})["tokens"]
    assert ids.count(1) == 1 and ids[0] == 1, "one BOS, llama.cpp's own"


def test_the_command_writes_the_folder_and_the_modelfile_names_the_model(command, tiny_model):
    process = command("export", tiny_model, "--templates", "out/templates")
    assert process.returncode == 0, process.stderr
    names = {path.name for path in (command.folder / "out/templates").iterdir()}
    assert all(name in process.stdout for name in names) and len(names) == 5
    assert read_modelfile((command.folder / "out/templates/Modelfile").read_text())[0] == ("FROM", str(tiny_model))
    page = (command.folder / "out/templates/README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in names - {"README.md"}) and "Several turns" in page


def test_a_path_with_spaces_and_quotes():
    assert read_modelfile(prompt_templates.modelfile("/a b/m.gguf"))[0] == ("FROM", "/a b/m.gguf")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nobody/none"], "MODEL: 'nobody/none' is no file or folder here"),
        (["--gguf", "q8_0"], "--gguf: --templates writes no model"),
        (["--gptq"], "--gptq: --templates writes no model"),
        (["--out", "m.gguf"], "--out: --templates writes no model"),
        (["--imatrix-tokens", "5"], "--imatrix-tokens: --templates writes no model"),
        (["--report", "r.jsonl"], "--report: --templates writes no model"),
        (['a"b.gguf'], 'a"b.gguf: a Modelfile cannot name this path'),
    ],
)
def test_what_does_not_go_with_templates_is_refused_and_nothing_is_written(command, words, message):
    (command.folder / 'a"b.gguf').write_bytes(b"GGUF")
    assert message in command.refused("export", *words, "--templates", "new")
    assert not (command.folder / "new").exists()


def test_a_folder_that_is_there_stays_as_it_is(command):
    (command.folder / "notes").mkdir()
    (command.folder / "notes" / "mine.txt").write_text(json.dumps("mine"))
    assert "notes: exists already; name another one with --templates" in command.refused(
        "export", "--templates", "notes"
    )
    assert (command.folder / "notes" / "mine.txt").exists()
