"""`orca-bench export`: a model folder in, a GGUF file for llama.cpp or a GPTQ folder for transformers and vLLM out.

With --templates, no model is written but the Orca prompt as the template files of other programs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orca_bench.cli import options
from orca_bench.errors import UserError
from orca_bench.models.gguf.gguf_types import FILE_TYPES

if TYPE_CHECKING:
    from orca_bench.models.gguf.importance_matrix import ImportanceMatrix
    from orca_bench.models.model_folder import ModelFolder

_DEFAULT_TYPE = "q8_0"


@click.command("export")
@click.argument("model", required=False, type=options.MODEL)
@click.option(
    "--gguf",
    "type_name",
    type=click.Choice(list(FILE_TYPES)),
    help="Type of the matrices in the file; norms are always float32. Those with _k and iq4 are mixtures, for which each "
    "matrix has the type that llama-quantize gives it; they need the package libgguf.  [default: q8_0]",
)
@click.option(
    "--out",
    type=options.PATH,
    metavar="PATH",
    help="The file or folder to write.  [default: MODEL-TYPE.gguf or MODEL-gptq in the working directory]",
)
@click.option(
    "--gptq",
    "is_gptq",
    is_flag=True,
    help="Write a GPTQ folder of 4 bits a weight, for transformers, vLLM and SGLang, in place of a GGUF file. Needs the package "
    "auto-round: pip install 'orca-bench[gptq]'.",
)
@click.option(
    "--records",
    metavar="RECORDS",
    help="With --gptq: round so that the model changes least on these records (a file, a folder or a hub set), 65,536 tokens of "
    "them in the Orca prompt. Use records of the kind that the model is to answer, other ones than those it is measured on.",
)
@click.option(
    "--gptq-iterations",
    "iterations",
    type=click.IntRange(min=0),
    metavar="N",
    help="With --gptq: attempts at a better rounding, for each block; 0 rounds to the nearest.  [default: 50]",
)
@click.option(
    "--report",
    "record_words",
    multiple=True,
    metavar="RECORDS",
    help="Measure what was exported beside MODEL on these records, which the model was not trained on "
    f"({options.DIVERGENCE_TOKEN_COUNT:,} response tokens), and write NAME.report.md and NAME.report.json "
    "beside NAME.gguf or the GPTQ folder NAME; may be repeated.",
)
@click.option(
    "--imatrix",
    "importance_records",
    metavar="RECORDS",
    help="Round more exactly what matters for these records (a file, a folder or a hub set, as a recipe's data.records): an "
    "importance matrix. Use records of the kind that the model is to answer, other ones than those it is measured on. Needs the "
    "package libgguf.",
)
@click.option(
    "--imatrix-tokens",
    "token_count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Tokens of --imatrix that are used, of records in random order, always the same.  [default: 32768]",
)
@click.option(
    "--templates",
    "template_folder",
    type=options.PATH,
    metavar="DIR",
    help="Write no model but the Orca prompt for other programs into the new folder DIR: an instruction template for "
    "text-generation-webui, a Modelfile for Ollama, a Jinja template for llama.cpp, a chat template for transformers, and a page "
    "about them.",
)
@options.runs
def command(
    model: str | None,
    type_name: str | None,
    out: Path | None,
    is_gptq: bool,
    records: str | None,
    iterations: int | None,
    record_words: tuple[str, ...],
    importance_records: str | None,
    token_count: int | None,
    template_folder: Path | None,
    runs: Path,
) -> None:
    """Write MODEL, a folder of a LLaMA, as a GGUF file, which llama.cpp and the programs built on it run, or as a GPTQ folder.

    The file has the weights, the tokenizer and the chat template. It is read back and compared with the folder
    (configuration, every matrix, token ids of adversarial texts, logits) before it gets its name. q8_0 has 8.5 bits a weight,
    q4_k_m about 4.8, q4_0 4.5, q2_k about 2.9. What a type costs: README.md of orca_bench/models/gguf.
    MODEL may be a run's name, a hub id or another GGUF file; the default is the newest finished run's model. A GGUF file is first
    written as a model folder to the cache: $ORCA_BENCH_CACHE/gguf, or orca-bench/gguf in the user's cache folder (~/.cache). The
    folder is used again, and may be removed at any time.

    With --report, what the rounding costs is measured after the export: bits a weight, size, and how far the file's next-token
    distributions diverge from the folder's, as `orca-bench divergence` measures it.

    With --gptq, the folder has 4 bits in groups of 128 weights (64 or 32 where the layers are no multiples of 128), packed as
    AutoGPTQ packs them; the rounding is auto-round's. It is read back and compared with MODEL before it gets its name, and may
    stand wherever a model folder may.

    With --templates, each file renders exactly the prompt of training. BOS is in the chat template for transformers only: the
    other programs add it themselves. The training data has single turns; of a conversation, earlier turns stand between the
    system message and the instruction, each from ### User: to its response. MODEL, which is here, is what the Modelfile names;
    without one it names model.gguf beside it.

    \b
      orca-bench export runs/mini/model --gguf f16 --out mini.gguf
      orca-bench export mini --gguf q4_k_m
      orca-bench export mini --gguf q4_k_m --imatrix records/mini.jsonl --report held-out.jsonl
      orca-bench export mini --gptq --records records/mini.jsonl --report held-out.jsonl
      orca-bench export --templates templates
      orca-bench export mini-q4_k_m.gguf --templates templates
    """
    from orca_bench import api
    from orca_bench.cli import divergence_work
    from orca_bench.cli.console import counting, next_step, progress_message
    from orca_bench.models.gguf.gguf_export import check_export, write_export
    from orca_bench.models.model_folder import locate_model
    from orca_bench.models.model_names import results_folder_name

    gguf_values = {"--gguf": type_name, "--imatrix": importance_records}
    gptq_values = {"--records": records, "--gptq-iterations": iterations}
    if template_folder is not None:
        other_values = {"--gptq": is_gptq or None, "--out": out, "--report": record_words or None}
        _check_no_model_options(gguf_values | gptq_values | other_values | {"--imatrix-tokens": token_count})
        _write_templates(model, template_folder, runs)
        return
    _check_options(is_gptq, gguf_values, gptq_values)
    if is_gptq:
        _check_calibration(records, iterations)
    if token_count is not None and importance_records is None:
        raise UserError("only with --imatrix, whose tokens it counts", where="--imatrix-tokens")
    if out is not None:
        _check_is_new(out)  # before a model is fetched
    folder = locate_model(api.select_model(model, runs, progress_message), None, progress_message)
    type_name = type_name or _DEFAULT_TYPE
    ending = "-gptq" if is_gptq else f"-{type_name}.gguf"
    out = out or Path(f"{results_folder_name(folder.name)}{ending}")
    _check_is_new(out)
    if is_gptq:
        from orca_bench.cli.gptq_work import check_gptq_folder, export_gptq_folder

        group_size = check_gptq_folder(folder, out)
        record_files = divergence_work.prepare_export_report(out, record_words) if record_words else None
        export_gptq_folder(folder, out, group_size, records, iterations)
        if record_files is not None:
            divergence_work.write_export_report(folder, out, record_files, runs)
        next_step("eval", "--model", out, runs=runs)
        return
    plan = check_export(folder, out, type_name, importance_records is not None)
    record_files = divergence_work.prepare_export_report(out, record_words) if record_words else None
    importance = (
        None
        if importance_records is None
        else _measure_importance(folder, importance_records, token_count, progress_message)
    )
    with counting("matrices") as progress:
        report = write_export(plan, importance, progress)
    types = ", ".join(f"{name} {count / sum(report.types.values()):.1%}" for name, count in report.types.items())
    click.echo(
        f"exported: {out} ({out.stat().st_size / 1e6:.1f} MB, {report.bits_per_weight:.2f} bits a weight: {types}); read back, "
        f"it is {folder.path_or_hub_id}'s model: its next-token probabilities diverge by {report.mean_kl:.2g} nats on average "
        f"({report.position_count:,} positions of prompts)"
    )
    if record_files is not None:
        divergence_work.write_export_report(folder, out, record_files, runs)
    next_step("eval", "--model", out, runs=runs)


def _check_no_model_options(value_by_option: Mapping[str, object]) -> None:
    """Raise UserError for an option of an export of a model beside --templates; None stands for one that was not given."""
    for option, value in value_by_option.items():
        if value is not None:
            raise UserError("--templates writes no model", where=option, hint="leave one of the two out")


def _write_templates(model: str | None, folder: Path, runs: Path) -> None:
    """Write the templates into a new folder, and print their names."""
    from orca_bench import api
    from orca_bench.cli.console import progress_message
    from orca_bench.serve.prompt_templates import write_template_folder

    _check_is_new(folder, "--templates")
    model_path = None if model is None else Path(api.select_model(model, runs, progress_message))
    if model_path is not None and not model_path.exists():
        raise UserError(
            f"'{model}' is no file or folder here, which a Modelfile could name",
            where="MODEL",
            hint="leave it out, and write the model's path into the Modelfile",
        )
    names = write_template_folder(folder, model_path)
    click.echo(f"templates of the Orca prompt: {folder} ({', '.join(names)})")


def _check_options(
    is_gptq: bool, gguf_values: Mapping[str, str | None], gptq_values: Mapping[str, str | int | None]
) -> None:
    """Raise UserError for an option of the other kind of export; the values are by option, None where it was not given."""
    for option, value in (gguf_values if is_gptq else gptq_values).items():
        if value is not None:
            message = "an option of GGUF files, and --gptq writes a folder" if is_gptq else "only with --gptq"
            raise UserError(message, where=option)


def _check_calibration(records: str | None, iterations: int | None) -> None:
    """Raise UserError where --gptq has nothing to calibrate on, or records that no iteration would use."""
    if records is None and iterations != 0:
        raise UserError(
            "which records is the rounding calibrated on?",
            where="--gptq",
            hint="give --records, of the kind that the model is to answer; or --gptq-iterations 0, which rounds to the nearest",
        )
    if records is not None and iterations == 0:
        raise UserError(
            "--gptq-iterations 0 rounds to the nearest and uses no records",
            where="--records",
            hint="leave one of them out",
        )


def _check_is_new(out: Path, option: str = "--out") -> None:
    if out.exists():
        raise UserError("exists already", where=out, hint=f"name another one with {option}, or remove it")


def _measure_importance(
    folder: ModelFolder, records: str, token_count: int | None, show_message: Callable[[str], None]
) -> ImportanceMatrix:
    """The importance matrix over records in the Orca prompt, encoded as training encodes them."""
    from orca_bench.cli.console import counting
    from orca_bench.cli.divergence_work import sample_record_file
    from orca_bench.models.gguf import importance_matrix

    wanted_count = importance_matrix.DEFAULT_TOKEN_COUNT if token_count is None else token_count
    importance_matrix.check_token_count(wanted_count, "--imatrix-tokens")
    examples = sample_record_file(records, "--imatrix", folder, wanted_count)
    importance_matrix.check_token_count(len(examples.ids), records)
    show_message(f"importance matrix: {len(examples):,} records of {records}, {len(examples.ids):,} tokens")
    sequences = [examples.example(index).tolist() for index in range(len(examples))]
    with counting("tokens") as progress:
        return importance_matrix.measure_importance(folder, sequences, Path(records).name, progress)
