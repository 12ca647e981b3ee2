"""`orca-bench lm-eval`: lm-evaluation-harness's own command line, computed by this engine."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import click

from orca_bench.cli import options


class _ForwardingCommand(click.Command):
    """A command that takes its own options out and hands all other words on as they are."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's, for the own options alone; `--help` counts where it is the first word."""
        if args[:1] in (["--help"], ["-h"]):
            return super().parse_args(ctx, args[:1])
        own_words: list[str] = []
        other_words: list[str] = []
        words = iter(args)
        for word in words:
            if word == "--benchmarks":
                own_words += [word, *itertools.islice(words, 1)]  # its value, if there is one
            elif word.startswith("--benchmarks="):
                own_words.append(word)
            else:
                other_words.append(word)
        return super().parse_args(ctx, [*own_words, "--", *other_words])

    def make_parser(self, ctx: click.Context) -> Any:
        """As click's, to which options of others are words."""
        parser = super().make_parser(ctx)
        parser.ignore_unknown_options = True
        return parser


@click.command("lm-eval", cls=_ForwardingCommand)
@click.argument("arguments", nargs=-1, metavar="ARGUMENTS")
@click.option(
    "--benchmarks",
    type=options.PATH,
    metavar="DIR",
    help="Folder that is looked into first for the rows of a task: DIR/DATASET_PATH/DATASET_NAME/SPLIT.parquet (or .jsonl.gz, "
    ".json, …).  [default: the cache of datasets with HF_DATASETS_OFFLINE=1, else the hub]",
)
def command(arguments: tuple[str, ...], benchmarks: Path | None) -> None:
    """Run lm-evaluation-harness's own command line with this engine as the model.

    All arguments but --benchmarks are lm-eval's: `orca-bench lm-eval run --help` lists them, `ls tasks` its tasks. Where --model
    is left out, it is `orca-bench`; hf and all others are there too. --model_args takes what hf takes: pretrained=DIR (a folder,
    a GGUF file or a hub id), revision, tokenizer, dtype, max_length, add_bos_token, prefix_token_id, parallelize,
    chat_template_args, enable_thinking, think_end_token; and seed, that of sampled texts (default: --seed's for torch).

    Prompts, token ids, windows and stop rules are those of hf, so values are equal (log-probabilities to 1e-4 in float32, greedy
    texts the same); what requests share is computed once. --batch_size does not matter. Arguments of a generation that are not
    served, such as num_beams, are refused by name.

    \b
      orca-bench lm-eval --model_args pretrained=runs/mini/model --tasks arc_easy,wikitext --limit 100
      orca-bench lm-eval --model_args pretrained=mine.gguf --tasks mmlu --num_fewshot 5 --benchmarks path/to/rows
      orca-bench lm-eval --model_args pretrained=runs/mini/model --tasks gsm8k_cot --apply_chat_template --output_path out
    """
    from orca_bench.cli.interrupts import interruptible
    from orca_bench.evaluate.harness.lm_eval_command import run_lm_eval

    with interruptible():
        run_lm_eval(arguments, benchmarks)
