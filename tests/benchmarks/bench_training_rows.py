"""Records for bench_training.py whose lengths are those of Alpaca and Dolly: real ones, or words of a generated tokenizer.

In: files of instructions or records, or the table training_lengths.json (numbers alone, so that the benchmark runs anywhere).
Out: a file of records, the tokenizer that they are encoded with, and their token ids, the same for every contender. Speed depends
on the lengths, not on which tokens there are.

    python tests/benchmarks/bench_training_rows.py FILES… --tokenizer tokenizer.model     # writes the table
"""

import argparse
import json
import random
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from orca_bench.tokenizers import Tokenizer, load_tokenizer
from orca_bench.train import example_encoding, record_files
from orca_bench.train.example_encoding import EncodedExamples
from orca_bench.train.record_files import Record

LENGTHS_FILE = Path(__file__).with_name("training_lengths.json")
MAX_LENGTH = 1024  # tokens of the longest example, as on the card
_TABLE_SIZE = 256
_PROMPT_TEMPLATE_TOKENS = 7  # of the generated tokenizer: BOS and the six marks of the prompt without its texts


@dataclass(frozen=True)
class BenchRows:
    """Records on disk and their token ids: `origin` says in words where the lengths are from."""

    records_file: Path
    tokenizer_source: Path
    examples: EncodedExamples
    origin: str


def prepare_rows(
    folder: Path, record_paths: list[Path], tokenizer_file: Path | None, vocab_size: int, count: int, seed: int = 0
) -> BenchRows:
    """`count` records drawn with `seed`, for a model of `vocab_size` tokens.

    Their texts are real where `record_paths` are given and the tokenizer of `tokenizer_file` has `vocab_size` tokens. Else they
    are words of a generated tokenizer, in the lengths of the real records or, without those, of the table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records_file = folder / "records.jsonl"
    if record_paths and tokenizer_file is not None:
        records, tokenizer = _draw_records(record_paths, count, seed), load_tokenizer(tokenizer_file)
        examples, report = example_encoding.encode_records(records, tokenizer, MAX_LENGTH)
        assert not report.dropped_record_indices, "`_draw_records` leaves long prompts out"
        if tokenizer.vocab_size == vocab_size:
            _write_records(records_file, records)
            return BenchRows(records_file, tokenizer_file, examples, f"{count:,} real records")
        pairs = list(zip(examples.prompt_lengths.tolist(), examples.trained_token_counts.tolist(), strict=True))
        origin = f"{count:,} records of generated words in the lengths of real ones"
    else:
        pairs = _draw_lengths(count, seed)
        origin = f"{count:,} records of generated words in the lengths of {LENGTHS_FILE.name}"
    return generated_rows(folder, pairs, vocab_size, origin, seed)


def generated_rows(
    folder: Path, pairs: list[tuple[int, int]], vocab_size: int, origin: str, seed: int = 0
) -> BenchRows:
    """A record of generated words for each (prompt length, response length) in tokens, and the tokenizer of these words."""
    folder.mkdir(parents=True, exist_ok=True)
    records_file = folder / "records.jsonl"
    make_tokenizer(folder / "tokenizer", vocab_size)
    tokenizer = load_tokenizer(folder / "tokenizer")
    records = [_record_of_lengths(*pair, vocab_size, random.Random(f"{seed} {i}")) for i, pair in enumerate(pairs)]
    _write_records(records_file, records)
    examples, _ = example_encoding.encode_records(records, tokenizer, MAX_LENGTH)
    return BenchRows(records_file, folder / "tokenizer", examples, origin)


def make_tokenizer(folder: Path, vocab_size: int) -> None:
    """A folder with a tokenizer of `vocab_size` words, divided at white space: w0, w1, … and the marks of the prompt."""
    from tokenizers import Tokenizer as FastTokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    special_tokens = ["<unk>", "<s>", "</s>", "###", "System:", "User:", "Response:"]
    words = [*special_tokens, *(f"w{number}" for number in range(vocab_size - len(special_tokens)))]
    fast_tokenizer = FastTokenizer(WordLevel({word: id_ for id_, word in enumerate(words)}, unk_token="<unk>"))
    fast_tokenizer.pre_tokenizer = WhitespaceSplit()
    fast_tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    folder.mkdir(parents=True, exist_ok=True)
    fast_tokenizer.save(str(folder / "tokenizer.json"))
    metadata = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "add_bos_token": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(metadata), encoding="utf-8")


def _record_of_lengths(prompt_length: int, response_length: int, vocab_size: int, generator: random.Random) -> Record:
    """A record that the generated tokenizer encodes to these lengths, BOS in the prompt's and EOS in the response's."""
    word_count = vocab_size - _PROMPT_TEMPLATE_TOKENS
    texts = [
        " ".join(f"w{generator.randrange(word_count)}" for _ in range(length))
        for length in (max(1, prompt_length - _PROMPT_TEMPLATE_TOKENS), max(1, response_length - 1))
    ]
    return Record(system="", instruction=texts[0], input="", response=texts[1])


def _draw_records(paths: list[Path], count: int, seed: int) -> list[Record]:
    """Records drawn from those of all files; files of instructions are converted as `orca-bench data convert` does."""
    from orca_bench.data.conversion import convert_to_records

    with tempfile.TemporaryDirectory() as folder:
        converted_file = Path(folder) / "records.jsonl"
        convert_to_records(paths, converted_file)
        records, _ = record_files.read_records([str(converted_file)])
    # 2,000 characters are less than MAX_LENGTH tokens of any text that is a prompt: no response is cut away whole.
    usable = [record for record in records if len(record.system + record.instruction + record.input) < 2000]
    return random.Random(seed).sample(usable, count)


def _draw_lengths(count: int, seed: int) -> list[tuple[int, int]]:
    """(prompt length, response length) of `count` records from the table, each row of it as often as any other."""
    table = [tuple(pair) for pair in json.loads(LENGTHS_FILE.read_text(encoding="utf-8"))["lengths"]]
    generator = random.Random(seed)
    pairs: list[tuple[int, int]] = []
    while len(pairs) < count:
        pairs += generator.sample(table, len(table))
    return pairs[:count]


def _write_records(path: Path, records: list[Record]) -> None:
    path.write_text("".join(json.dumps(asdict(record)) + "\n" for record in records), encoding="utf-8")


def length_table(examples: EncodedExamples) -> list[list[int]]:
    """[prompt length, response length] of the middle example of each of 256 equal groups, in order of the whole length."""
    order = np.argsort(examples.lengths, kind="stable")
    middles = (np.arange(_TABLE_SIZE) + 0.5) * len(order) / _TABLE_SIZE
    chosen = order[middles.astype(int)]
    return np.stack([examples.prompt_lengths[chosen], examples.trained_token_counts[chosen]], axis=1).tolist()


def encode_files(paths: list[Path], tokenizer: Tokenizer) -> EncodedExamples:
    """All records of files of instructions or records."""
    from orca_bench.data.conversion import convert_to_records

    with tempfile.TemporaryDirectory() as folder:
        convert_to_records(paths, Path(folder) / "records.jsonl")
        records, _ = record_files.read_records([str(Path(folder) / "records.jsonl")])
    return example_encoding.encode_records(records, tokenizer, MAX_LENGTH)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--tokenizer", type=Path, required=True)
    options = parser.parse_args()
    examples = encode_files(options.files, load_tokenizer(options.tokenizer))
    about = (
        f"[prompt tokens with BOS, response tokens with EOS] at {_TABLE_SIZE} quantiles of the length of {len(examples):,} "
        f"examples of Alpaca and Dolly under the Orca paper's system messages, LLaMA tokenizer, cut at {MAX_LENGTH} tokens; "
        f"mean length of all examples {examples.lengths.mean():.1f}. Written by bench_training_rows.py."
    )
    rows = ",\n  ".join(
        json.dumps(length_table(examples)[start : start + 16])[1:-1] for start in range(0, _TABLE_SIZE, 16)
    )
    LENGTHS_FILE.write_text(f'{{\n "about": {json.dumps(about)},\n "lengths": [\n  {rows}\n ]\n}}\n', encoding="utf-8")
    print(f"wrote {LENGTHS_FILE}")


if __name__ == "__main__":
    main()
