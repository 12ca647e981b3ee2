"""`orca-bench generate`: one instruction in, the model's answer out, streamed; of a file of them the answers in a file."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from orca_bench.cli import options
from orca_bench.cli.generation import check_unicode, load_generator, print_answer, sampling_options
from orca_bench.cli.generation_file import AnswersOfFile
from orca_bench.errors import UserError
from orca_bench.serve.sampling import Sampling

#: The instruction of the model card's example.
_CARD_INSTRUCTION = (
    "Write a letter to Sam Altman, CEO of OpenAI, requesting him to convert GPT4 a private model by OpenAI to an open "
    "source project"
)


@click.command("generate")
@click.argument("instruction", required=False)
@click.option("--input", "input_text", help="Further input, under a header of its own.")
@options.system
@click.option(
    "--model",
    "models",
    type=options.MODEL,
    metavar="MODEL",
    multiple=True,
    help="Name of a run, model folder, GGUF file, or hub id; with --file it may be repeated.  [default: the newest finished run]",
)
@options.revision
@sampling_options
@click.option(
    "--file",
    "instruction_file",
    type=options.PATH,
    metavar="FILE",
    help="Answer the instructions of this file: JSON Lines with instruction and, if wanted, input, system and id.",
)
@click.option(
    "--out",
    type=options.PATH,
    metavar="FILE",
    help="With --file: the file of answers, a record a line. Answers that it has are not computed again.",
)
@click.option(
    "--sample",
    "sample_size",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --file: answer N of the instructions, chosen by --seed.  [default: all]",
)
@options.output_format("text", "markdown", explanation="markdown, with --file: the answers of all models side by side.")
@options.runs
def command(
    instruction: str | None,
    input_text: str | None,
    system: str,
    models: tuple[str, ...],
    revision: str | None,
    sampling: Sampling,
    instruction_file: Path | None,
    out: Path | None,
    sample_size: int | None,
    output_format: str,
    runs: Path,
) -> None:
    """Answer INSTRUCTION in the Orca prompt and print the answer as it is generated.

    INSTRUCTION - reads the instruction from standard input. Without one the example of the model card is answered, whose
    settings are the defaults; it is printed on standard error.

    With --file, each instruction of a file is answered by each --model, and --out gets the answers, one record a line, with the
    model as its `teacher`. The same command continues after a stop.

    \b
      orca-bench generate "Tom has 3 apples and buys 4 more. How many has he?" --greedy
      orca-bench generate "Translate to French." --input "Good morning." --system 14
      orca-bench generate --file questions.jsonl --out answers.jsonl --model base --model mine --greedy --format markdown
    """
    for option, text in (("--input", input_text), ("--system", system)):
        if text == "-":
            raise UserError(
                "only INSTRUCTION can be standard input", where=option, hint='"$(cat FILE)" is a file\'s text'
            )
        check_unicode(text or "", option)
    if instruction_file is not None:
        _check_file_options(instruction, input_text, out, sample_size, sampling.seed)
        assert out is not None, "checked"
        answers = AnswersOfFile(instruction_file, out, system, models, revision, sample_size, runs)
        answers.write(sampling, is_markdown=output_format == "markdown")
        return
    model = _only_model(models)
    _check_no_file_options({"--out": out, "--sample": sample_size, "--format": output_format == "markdown" or None})
    instruction_text = _read_instruction(instruction)

    from orca_bench.cli.console import next_step, progress_message
    from orca_bench.system_messages import system_message

    system_text = system_message(system)
    _, generator = load_generator(model, revision, runs)
    if instruction is None:
        progress_message(f"> {instruction_text}")
    for text in generator.answer(system_text, instruction_text, input_text, sampling):
        print_answer(text)
    click.echo()
    if instruction is None:
        same_model = [] if model is None else ["--model", model]
        same_revision = [] if revision is None else ["--revision", revision]
        next_step("generate", "YOUR QUESTION", *same_model, *same_revision, runs=runs)


def _only_model(models: tuple[str, ...]) -> str | None:
    """The model that is named, None for the newest; raises UserError for several, which only a file's instructions may have."""
    if len(models) > 1:
        raise UserError("several models answer a file of instructions", where="--model", hint="add --file and --out")
    return models[0] if models else None


def _check_file_options(
    instruction: str | None, input_text: str | None, out: Path | None, sample_size: int | None, seed: int | None
) -> None:
    """Raise UserError for what does not go with --file, or is missing beside it."""
    if instruction is not None or input_text is not None:
        where = "INSTRUCTION" if input_text is None else "--input"
        raise UserError("the instructions are those of --file", where=where, hint="give one of the two")
    if out is None:
        raise UserError("which file gets the answers?", where="--file", hint="add --out FILE")
    if sample_size is not None and seed is None:
        raise UserError("a sample is chosen by a seed", where="--sample", hint="add --seed N")


def _check_no_file_options(value_by_option: dict[str, object]) -> None:
    """Raise UserError for an option that only a file of instructions has; None stands for one that was not given."""
    for option, value in value_by_option.items():
        if value is not None:
            raise UserError("only with --file", where=option, hint="leave it out, or name a file of instructions")


def _read_instruction(instruction: str | None) -> str:
    """The instruction of the argument: `-` is standard input, None the example.

    Raises UserError for an empty one and for bytes that are no UTF-8.
    """
    if instruction == "-":
        if sys.stdin.isatty():
            click.echo("type the instruction, and end it with Ctrl-D:", err=True)
        text, where = sys.stdin.buffer.read().decode("utf-8", "surrogateescape"), "standard input"
    else:
        text, where = _CARD_INSTRUCTION if instruction is None else instruction, "INSTRUCTION"
    check_unicode(text, where)
    if not text.strip():
        raise UserError("an empty instruction", where=where, hint="give the model something to answer")
    return text.rstrip("\n") if instruction == "-" else text
