"""`orca-bench generate`: one instruction in, the model's answer out, streamed."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import click

from orca_bench.cli import options
from orca_bench.errors import UserError

#: The instruction of the model card's example.
_CARD_INSTRUCTION = (
    "Write a letter to Sam Altman, CEO of OpenAI, requesting him to convert GPT4 a private model by OpenAI to an open "
    "source project"
)


@click.command("generate")
@click.argument("instruction", required=False)
@click.option("--input", "input_text", help="Further input, under a header of its own.")
@options.system
@options.model
@options.revision
@click.option("--greedy", is_flag=True, help="Always take the likeliest token.")
@click.option(
    "--temperature",
    type=click.FloatRange(0, 1000),
    default=0.7,
    show_default=True,
    help="Divides the logits before sampling; 0 is greedy.",
)
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Sample from the likeliest tokens that reach this probability together; 1 keeps all.",
)
@click.option(
    "--top-k",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    help="Sample from this many of the likeliest tokens; 0 keeps all.",
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Maximum number of new tokens of the answer.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of the sampling: the same seed, the same answer.")
@options.runs
def command(
    instruction: str | None,
    input_text: str | None,
    system: str,
    model: str | None,
    revision: str | None,
    greedy: bool,
    temperature: float,
    top_p: float,
    top_k: int,
    max_new_tokens: int,
    seed: int | None,
    runs: Path,
) -> None:
    """Answer INSTRUCTION in the Orca prompt and print the answer as it is generated.

    INSTRUCTION - reads the instruction from standard input. Without one the example of the model card is answered, whose
    settings are the defaults; it is printed on standard error.

    \b
      orca-bench generate "Tom has 3 apples and buys 4 more. How many has he?" --greedy
      orca-bench generate "Translate to French." --input "Good morning." --system 14
    """
    if greedy:
        _check_greedy_settings(temperature)
    for option, option_value in (("--temperature", temperature), ("--top-p", top_p)):
        if math.isnan(option_value):  # click 8 lets NaN pass every range
            raise UserError("nan is no number", where=option)
    for option, text in (("--input", input_text), ("--system", system)):
        if text == "-":
            raise UserError(
                "only INSTRUCTION can be standard input", where=option, hint='"$(cat FILE)" is a file\'s text'
            )
        _check_unicode(text or "", option)
    instruction_text = _read_instruction(instruction)

    from orca_bench import api
    from orca_bench.cli.console import next_step, progress_message
    from orca_bench.models.model_folder import locate_model
    from orca_bench.models.model_warnings import OWN_PROMPT_WARNING
    from orca_bench.serve.sampling import Sampling
    from orca_bench.serve.text_generation import Generator
    from orca_bench.system_messages import system_message

    system_text = system_message(system)
    model_folder = locate_model(api.select_model(model, runs, progress_message), revision, progress_message)
    if model_folder.has_own_prompt:
        progress_message(f"{model_folder.name}: {OWN_PROMPT_WARNING}")
    generator = Generator(model_folder)
    sampling = Sampling(temperature, top_p, top_k, max_new_tokens, greedy, seed)
    if instruction is None:
        progress_message(f"> {instruction_text}")
    for text in generator.answer(system_text, instruction_text, input_text, sampling):
        click.echo(text, nl=False)
    click.echo()
    if instruction is None:
        same_model = [] if model is None else ["--model", model]
        same_revision = [] if revision is None else ["--revision", revision]
        next_step("generate", "YOUR QUESTION", *same_model, *same_revision, runs=runs)


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
    _check_unicode(text, where)
    if not text.strip():
        raise UserError("an empty instruction", where=where, hint="give the model something to answer")
    return text.rstrip("\n") if instruction == "-" else text


def _check_unicode(text: str, where: str) -> None:
    """Raise UserError for a text with bytes that are no UTF-8, which Python decodes to lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        position = len(text[: error.start].encode())
        raise UserError(f"no UTF-8 text: byte {position + 1} is no character", where=where) from error


def _check_greedy_settings(temperature: float) -> None:
    """Raise UserError where a setting of sampling stands beside --greedy, which does not sample."""
    context = click.get_current_context()
    for parameter in ("temperature", "top_p", "top_k"):
        is_on_command_line = context.get_parameter_source(parameter) is click.core.ParameterSource.COMMANDLINE
        if is_on_command_line and not (parameter == "temperature" and temperature == 0):
            option = "--" + parameter.replace("_", "-")
            raise UserError("--greedy always takes the likeliest token", where=option, hint="give one of the two")
