"""`orca-bench generate`."""

from __future__ import annotations

import math

import click

from orca_bench.cli import options
from orca_bench.errors import UserError

_LETTER = (
    "Write a letter to Sam Altman, CEO of OpenAI, requesting him to convert GPT4 a private model by OpenAI to an open "
    "source project"
)


@click.command("generate")
@click.argument("instruction", default=_LETTER)
@click.option("--input", "context", help="Further input, under a header of its own.")
@click.option(
    "--system", default="5", show_default=True, help="System message: an id of the Orca paper (1–16) or a text."
)
@click.option("--model", help="Model folder or hub id.  [default: the newest finished run]")
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
    help="The most tokens of the answer.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of the sampling; the same seed gives the same answer."
)
@options.runs
def command(
    instruction, context, system, model, revision, greedy, temperature, top_p, top_k, max_new_tokens, seed, runs
):
    """Answer INSTRUCTION in the Orca prompt and stream the answer.

    The defaults are the model card's example, its instruction included.

    \b
      orca-bench generate "Tom has 3 apples and buys 4 more. How many has he?" --greedy
      orca-bench generate "Translate to French." --input "Good morning." --system 14
    """
    from orca_bench.cli.evaluating import newest_model, say
    from orca_bench.models.model_folder import locate
    from orca_bench.serve.text_generation import Generator, Sampling
    from orca_bench.system_messages import system_message

    if not instruction.strip():
        raise UserError("an empty instruction", where="INSTRUCTION", hint="give the model something to answer")
    for name, number in (("--temperature", temperature), ("--top-p", top_p)):
        if math.isnan(number):  # which click takes for a number of every range
            raise UserError("nan is no number", where=name)
    text = system_message(system)
    source = locate(newest_model(runs) if model is None else model, revision, say)
    generator = Generator(source.folder)
    sampling = Sampling(temperature, top_p, top_k, max_new_tokens, greedy, seed)
    for piece in generator.answer(text, instruction, context, sampling):
        click.echo(piece, nl=False)
    click.echo()
