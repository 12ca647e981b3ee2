"""A job in a JSON file in, a folder of weights that auto-round has rounded and packed out: `python -m` this module JOB.json.

Its own module because it is a process of its own, which ends with the command that started it: auto-round 0.16 changes functions
of transformers when it is imported, and whoever imports it has another transformers from then on.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from pathlib import Path

from orca_bench import child_processes, library_settings
from orca_bench.errors import one_line
from orca_bench.files import read_json
from orca_bench.models import architecture

BATCH_SEQUENCES = 8
#: Beside the file of the job: one line that says why it failed.
FAILURE_FILE_NAME = "failure.txt"
_MAX_FAILURE_LENGTH = 200


@dataclasses.dataclass(frozen=True)
class RoundingJob:
    """What is rounded: a model folder, into `out_folder`, with calibration sequences of token ids, all of one length."""

    model_folder: str
    out_folder: str
    bits: int
    group_size: int
    iterations: int
    sequences: list[list[int]]


def main(job_file: Path) -> None:
    """Do the job of a file; what goes wrong stands in FAILURE_FILE_NAME, as a line that the caller shows, and the exit code is 1.

    Not on standard error, which is the terminal, where there is one.
    """
    child_processes.end_with_command()
    try:
        _quantize(RoundingJob(**read_json(job_file)))
    except Exception as error:
        line = one_line(f"{type(error).__name__}: {error}", _MAX_FAILURE_LENGTH)
        job_file.with_name(FAILURE_FILE_NAME).write_text(line, encoding="utf-8")
        sys.exit(1)
    except KeyboardInterrupt:  # the command was interrupted too, and says so
        sys.exit(130)


def _quantize(job: RoundingJob) -> None:
    library_settings.prepare_libraries()
    import torch
    from auto_round import AutoRound, QuantizationScheme, RTNConfig, SignRoundConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logging.getLogger("autoround").setLevel(logging.ERROR)
    sequences = job.sequences or [[0] * 32]  # round to nearest: not read
    quantizer = AutoRound(
        AutoModelForCausalLM.from_pretrained(
            job.model_folder, config=architecture.load_config(job.model_folder), dtype=torch.float32
        ),
        AutoTokenizer.from_pretrained(job.model_folder),  # wanted, and not used where ids are given
        alg_configs=SignRoundConfig(iters=job.iterations) if job.iterations else RTNConfig(disable_opt_rtn=True),
        scheme=QuantizationScheme(bits=job.bits, group_size=job.group_size, sym=True),
        dataset=[{"input_ids": torch.tensor([sequence])} for sequence in sequences],
        seqlen=len(sequences[0]),
        nsamples=len(sequences),
        batch_size=BATCH_SEQUENCES,
        device_map="cuda" if torch.cuda.is_available() else "cpu",
        enable_torch_compile=False,  # compiles for minutes, and gains a fifth
        seed=0,
    )
    quantizer.quantize_and_save(job.out_folder, format="auto_gptq")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
