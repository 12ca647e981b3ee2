"""The Orca prompt out, as the template files of other programs: text-generation-webui, Ollama, llama.cpp and transformers.

All of them are `prompt.CHAT_TEMPLATE` or `prompt.GO_TEMPLATE` in the container of their program, after BOS only where the program
does not add BOS itself. Its own module because nothing here needs a model.
"""

from __future__ import annotations

from pathlib import Path

from orca_bench import prompt
from orca_bench.errors import UserError
from orca_bench.files import open_folder_replacement
from orca_bench.serve.sampling import Sampling
from orca_bench.system_messages import DEFAULT_SYSTEM_ID, SYSTEM_MESSAGES

#: What the Modelfile names where no model is given: a file beside it.
_DEFAULT_MODEL = "./model.gguf"

_README = """# The Orca prompt for other programs

Written by `orca-bench export --templates`. Each file gives, for a system message, an instruction and an input, the bytes
with which the model was trained:

```text
%(example)s
```

| file | program | where it goes |
|---|---|---|
| `text-generation-webui.yaml` | text-generation-webui | its folder `user_data/instruction-templates` |
| `Modelfile` | Ollama | `ollama create NAME -f Modelfile`; its line FROM names the model |
| `llama.cpp.jinja` | llama.cpp | `llama-server -m MODEL.gguf --jinja --chat-template-file llama.cpp.jinja` |
| `chat_template.jinja` | transformers, vLLM, SGLang | beside the model's `config.json` |

A model folder and a GGUF file of orca-bench have their template already. The files are for files of other converters, and
for programs that read none.

- **BOS.** `chat_template.jinja` begins with it where the tokenizer has one, because its programs do not add it to what a
  template gives. The other three files do not have it: their programs add it, and it must not stand there twice.
- **System message.** Without one its header stays and its text is empty, as for message 1 of the Orca paper. The Modelfile
  has message %(system_id)d, the default of `orca-bench generate`; a system message of a conversation takes its place. In
  text-generation-webui it is the field "Custom system message".
- **Input.** A message of the role `input` after the user's. Programs that have only a text field (text-generation-webui,
  `ollama run`) get it in the user's text: an empty line, the line `### Input:`, and the input. The bytes are the same.
- **Several turns.** The training data has single turns, so this is a decision: after one system message each earlier turn
  stands as `### User:`, `### Input:` where it had one, and `### Response:` with its response, which no EOS follows.
- **Texts that spell out a special token.** `chat_template.jinja` leaves `</s>` in a text as it is. The tokenizer decides
  whether it becomes the token; the template in a model folder of orca-bench keeps it a text.
- **Stopping.** A response that begins one of the four headers is over. The Modelfile has them as stop strings, with the
  settings of the model card's example and without Ollama's penalty on repetitions.
"""


def write_template_folder(folder: Path, model_path: Path | None) -> list[str]:
    """Write the templates and a README.md that describes them into a new folder, and return the files' names.

    `model_path` is the GGUF file or model folder that the Modelfile names; without one it is model.gguf beside it. Raises
    UserError where the disk does not take them, and for a path that a Modelfile cannot hold.
    """
    content_by_name = {
        "text-generation-webui.yaml": webui_template(),
        "Modelfile": modelfile(_DEFAULT_MODEL if model_path is None else str(model_path.resolve())),
        "llama.cpp.jinja": prompt.chat_template(begins_with_bos=False),
        "chat_template.jinja": prompt.chat_template(begins_with_bos=True),
        "README.md": _README
        % {
            "example": prompt.render("{system}", "{instruction}", "{input}").rstrip("\n"),
            "system_id": DEFAULT_SYSTEM_ID,
        },
    }
    with open_folder_replacement(folder) as new_folder:
        for name, content in content_by_name.items():
            (new_folder / name).write_text(content, encoding="utf-8", newline="\n")
    return list(content_by_name)


def webui_template() -> str:
    """The instruction template of text-generation-webui as YAML.

    It renders the messages without a generation prompt, and takes what stands between two responses for it.
    """
    return f"instruction_template: |-\n  {prompt.CHAT_TEMPLATE}\n"


def modelfile(model_path: str) -> str:
    """The Modelfile of Ollama for a GGUF file or a model folder; raises UserError for a path that it cannot hold."""
    if not model_path.isprintable() or '"' in model_path:
        raise UserError("a Modelfile cannot name this path", where=model_path, hint="rename or link it")
    sampling = Sampling()
    parameters = [
        ("temperature", sampling.temperature),
        ("top_p", sampling.top_p),
        ("top_k", sampling.top_k),
        ("min_p", 0),
        ("repeat_penalty", 1),
        ("num_predict", sampling.max_new_tokens),
        *(("stop", f'"{header}"') for header in prompt.TURN_HEADERS),
    ]
    lines = [
        f'FROM "{model_path}"',
        f'TEMPLATE """{prompt.GO_TEMPLATE}"""',
        f'SYSTEM """{SYSTEM_MESSAGES[DEFAULT_SYSTEM_ID]}"""',
        *(f"PARAMETER {name} {value}" for name, value in parameters),
    ]
    return "\n".join(lines) + "\n"
