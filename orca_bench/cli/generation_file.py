"""`orca-bench generate --file`: what the command does with a file of instructions; its options are in generate.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from orca_bench.cli.generation import print_answer
from orca_bench.counts import counted
from orca_bench.errors import UserError
from orca_bench.serve.sampling import Sampling


@dataclass(frozen=True)
class AnswersOfFile:
    """The instructions of a file, the models that answer them, and the file that gets the answers.

    `system` is the message of instructions that have none, `models` what the user typed for them (none: the newest run),
    `sample_size` how many of the instructions are answered (None: all).
    """

    instruction_file: Path
    out: Path
    system: str
    models: tuple[str, ...]
    revision: str | None
    sample_size: int | None
    runs: Path

    def write(self, sampling: Sampling, is_markdown: bool) -> None:
        """Answer all instructions with one model after the other, and print how many, or with `is_markdown` the answers.

        Raises UserError for a wrong file or model before the first answer.
        """
        from orca_bench import api
        from orca_bench.cli.console import counting, progress_message
        from orca_bench.cli.interrupts import interruptible
        from orca_bench.models.model_folder import locate_model
        from orca_bench.models.model_warnings import OWN_PROMPT_WARNING
        from orca_bench.results.output_files import check_output_file
        from orca_bench.serve import instruction_files
        from orca_bench.system_messages import system_message

        instructions = instruction_files.read_instruction_file(self.instruction_file, system_message(self.system))
        if self.sample_size is not None:
            assert sampling.seed is not None, "checked by the command"
            instructions = instruction_files.sample_instructions(instructions, self.sample_size, sampling.seed)
        check_output_file(self.out, [self.instruction_file])
        answer_file = instruction_files.AnswerFile(self.out)
        folders = [
            locate_model(api.select_model(model, self.runs, progress_message), self.revision, progress_message)
            for model in self.models or (None,)
        ]
        names = [folder.name for folder in folders]
        for name in names:
            if names.count(name) > 1:
                raise UserError(
                    f"two models are called {name}", where="--model", hint="copy or link one to another name"
                )
        answers = []
        for folder in folders:
            if folder.has_own_prompt:
                progress_message(f"{folder.name}: {OWN_PROMPT_WARNING}")
            with interruptible(), counting(folder.name) as progress:
                answers += answer_file.answer_all(instructions, folder, sampling, progress)
        if is_markdown:
            print_answer(instruction_files.answers_markdown(answers))
            return
        cut_count = sum(answer.was_cut for answer in answers)
        cut_text = f", {cut_count} of them cut after {sampling.max_new_tokens} tokens" if cut_count else ""
        click.echo(f"{counted(len(answers), 'answer')} of {counted(len(folders), 'model')}: {self.out}{cut_text}")
