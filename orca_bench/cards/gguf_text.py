"""What is known of a GGUF file in, the sections of its card that differ from a model folder's out.

Its own module because such a file is used by other programs than a folder of transformers. A section is Markdown that ends with
a line end.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from orca_bench.cards import markdown


@dataclass(frozen=True)
class GgufFacts:
    """A model's GGUF file: its name without folders, the bits of a weight, and whether it has another prompt than Orca's.

    `bits_per_weight` and `has_own_prompt` are None where they are not known.
    """

    file_name: str
    bits_per_weight: float | None
    has_own_prompt: bool | None

    @property
    def description(self) -> str:
        """What the file is, as Markdown: `the GGUF file NAME with 4.50 bits a weight`."""
        bits_text = "" if self.bits_per_weight is None else f" with {self.bits_per_weight:.2f} bits a weight"
        return f"the GGUF file {markdown.code(self.file_name)}{bits_text}"


def prompt_section(facts: GgufFacts) -> str:
    """Which prompt the file's model is for, as far as its evaluation says it."""
    if facts.has_own_prompt is None:
        return (
            "Its prompt is not known here. If the file has a chat template, llama.cpp's chat mode writes it; `orca-bench "
            "generate` asks in the Orca prompt.\n"
        )
    if facts.has_own_prompt:
        return (
            "The file has a chat template of its own, which llama.cpp's chat mode writes: the model was not tuned in the Orca "
            "prompt, in which `orca-bench generate` asks.\n"
        )
    return "The file has no chat template but the Orca prompt's, in which `orca-bench generate` asks.\n"


def usage_section(facts: GgufFacts, question: str) -> str:
    """The commands of orca-bench and llama.cpp that answer a question with the file."""
    file_text, question_text = shlex.quote(facts.file_name), shlex.quote(question)
    commands = f"orca-bench generate {question_text} --model {file_text}\nllama-cli -m {file_text} -p {question_text}\n"
    return f"It is {facts.description}.\n\n{markdown.code_block(commands, 'bash')}"
