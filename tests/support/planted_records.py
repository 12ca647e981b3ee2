"""Records with known faults and known questions of a small benchmarks folder, for the tests of `data check`."""

import json
import random
from pathlib import Path

_WORD_TEXT = """
river mountain garden kitchen window teacher student market bridge forest engine harbour village letter picture summer winter
morning evening travel build repair describe explain compare collect measure quiet bright heavy narrow ancient modern gentle
curious careful sudden wooden golden silver copper simple clever honest polite northern southern
"""
WORDS = _WORD_TEXT.split()

GSM8K_QUESTIONS = (
    "Marlene the beekeeper keeps 14 hives behind the old windmill, and each hive yields 3 jars of lavender honey in a season. "
    "How many jars does Marlene carry to the Saturday market after two seasons?",
    "A ferry between Ostermoor and Pellwick crosses the sound 9 times a day with 26 bicycles on its lower deck. How many "
    "bicycles does the ferry carry across the sound in one working week of 5 days?",
    "Professor Quillfeather catalogues 120 fossil ammonites and gives one quarter of them to the museum in Lyme. How many fossil "
    "ammonites does Professor Quillfeather keep in his own cabinet?",
)
ARC_QUESTION = {
    "question": "Which property of basalt lets geologists read the reversed magnetism of the ancient seafloor?",
    "choices": {
        "text": ["its magnetite crystals", "its glassy lustre", "its low porosity", "its dark streak"],
        "label": ["A", "B", "C", "D"],
    },
    "answerKey": "A",
}


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def gsm8k_row(question: str, number: int = 1) -> dict:
    return {"question": question, "answer": f"It is a short sum.\n#### {number}"}


def write_benchmarks(folder: Path) -> Path:
    """A suite of its own with two questions and some few-shot rows of GSM8K."""
    write_lines(folder / "gsm8k" / "test.jsonl", [gsm8k_row(question) for question in GSM8K_QUESTIONS[:2]])
    further = [sentence(9000 + number, 24) + "?" for number in range(6)]
    write_lines(folder / "gsm8k" / "train.jsonl", [gsm8k_row(q) for q in (GSM8K_QUESTIONS[2], *further)])
    (folder / "suite.json").write_text('{"name": "small", "note": "for tests"}')
    return folder


def sentence(seed: int, word_count: int) -> str:
    generator = random.Random(seed)
    return " ".join(
        generator.choice(WORDS) + ("" if n % 3 else str(generator.randrange(999))) for n in range(word_count)
    )


def plain_record(number: int) -> dict:
    return {"instruction": sentence(1000 + number, 14), "input": "", "output": sentence(5000 + number, 30) + "."}


def planted_records(count: int = 300) -> list[dict]:
    """`count` records: most without a fault; at the places named below one with a fault or a question each."""
    rows = [plain_record(number) for number in range(count)]
    rows[5]["output"] = ""
    rows[6]["instruction"] = "  "
    rows[7] = {"text": "a row of no known set"}
    rows[8]["input"] = "N/A"
    rows[9]["output"] = "<nooutput>"
    rows[10]["output"] = "As an AI language model, I cannot have opinions on that."
    rows[11]["output"] = sentence(1, 20) + " and the"
    rows[12] = dict(rows[3])
    rows[13] = rows[4] | {"output": rows[4]["output"].removesuffix(".") + " indeed."}
    rows[14]["instruction"] = GSM8K_QUESTIONS[0]
    rows[15]["output"] = f"Here is a question.\n\n{GSM8K_QUESTIONS[1].upper()}\nThat was it."
    rows[16]["instruction"] = GSM8K_QUESTIONS[2]
    return rows
