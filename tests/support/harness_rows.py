"""Invented rows in the schemas of lm-eval's tasks, as a folder for `--benchmarks`: DIR/PATH/CONFIGURATION/SPLIT.jsonl.

No row of any benchmark is in here: sentences are drawn from a few words by a seeded generator. Scores on them mean nothing; they
show that two engines give the same answers to the same requests.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path

Row = dict[str, object]

_NAMES = ("Ada", "Bob", "Cleo", "Dan", "Eve", "Finn")
_THINGS = ("red box", "blue bag", "old map", "green lamp", "small key", "warm coat")
_PLACES = ("kitchen", "garden", "library", "station", "river", "market")
_VERBS = ("takes", "hides", "carries", "finds", "sells", "paints")


class Inventor:
    """Sentences, words and questions, another stream for each data set and split."""

    def __init__(self, seed: str):
        self.random = random.Random(seed)

    def sentence(self) -> str:
        pick = self.random.choice
        return f"{pick(_NAMES)} {pick(_VERBS)} the {pick(_THINGS)} in the {pick(_PLACES)}."

    def text(self, count: int) -> str:
        return " ".join(self.sentence() for _ in range(count))

    def question(self) -> str:
        pick = self.random.choice
        return f"Where does {pick(_NAMES)} put the {pick(_THINGS)}"

    def answers(self, count: int) -> list[str]:
        return [f"in the {place}" for place in self.random.sample(_PLACES, count)]

    def number(self, most: int) -> int:
        return self.random.randrange(most)


def _arc(invent: Inventor) -> Row:
    return {
        "question": invent.question() + "?",
        "choices": {"text": invent.answers(4), "label": list("ABCD")},
        "answerKey": "ABCD"[invent.number(4)],
    }


def _openbookqa(invent: Inventor) -> Row:
    row = _arc(invent)
    return {"question_stem": row["question"], "choices": row["choices"], "answerKey": row["answerKey"]}


def _commonsense_qa(invent: Inventor) -> Row:
    return {
        "question": invent.question() + "?",
        "choices": {"text": invent.answers(5), "label": list("ABCDE")},
        "answerKey": "ABCDE"[invent.number(5)],
    }


def _piqa(invent: Inventor) -> Row:
    return {"goal": invent.question(), "sol1": invent.sentence(), "sol2": invent.sentence(), "label": invent.number(2)}


def _boolq(invent: Inventor) -> Row:
    return {"passage": invent.text(3), "question": invent.question(), "label": invent.number(2)}


def _cb(invent: Inventor) -> Row:
    return {"premise": invent.text(2), "hypothesis": invent.sentence()[:-1], "label": invent.number(3)}


def _copa(invent: Inventor) -> Row:
    return {
        "premise": invent.sentence(),
        "question": invent.random.choice(("cause", "effect")),
        "choice1": invent.sentence(),
        "choice2": invent.sentence(),
        "label": invent.number(2),
    }


def _cola(invent: Inventor) -> Row:
    return {"sentence": invent.sentence(), "label": invent.number(2)}


def _lambada(invent: Inventor) -> Row:
    return {"text": invent.text(2)[:-1]}


def _asdiv(invent: Inventor) -> Row:
    return {"body": invent.text(2), "question": invent.question() + "?", "answer": f"{invent.number(50)} (bags)"}


def _wikitext(invent: Inventor) -> Row:
    lines = "".join(f" {invent.text(3 + invent.number(3))} \n" for _ in range(1 + invent.number(4)))
    return {"page": f" = {invent.sentence()} = \n \n{lines}"}


def _pile(invent: Inventor) -> Row:
    return {"text": invent.text(4 + invent.number(20)), "meta": {"pile_set_name": "Invented"}}


def _mmlu(invent: Inventor) -> Row:
    return {"question": invent.question() + "?", "choices": invent.answers(4), "answer": invent.number(4)}


def _mmlu_pro(invent: Inventor) -> Row:
    options, gold = invent.answers(5), invent.number(5)
    return {
        "question": invent.question() + "?",
        "options": options,
        "answer": "ABCDE"[gold],
        "answer_index": gold,
        "cot_content": f"A: Let's think step by step. {invent.sentence()} The answer is ({'ABCDE'[gold]}).",
        "category": invent.random.choice(("biology", "law", "math")),
    }


def _sciq(invent: Inventor) -> Row:
    answers = invent.answers(4)
    return {
        "question": invent.question() + "?",
        "distractor1": answers[0],
        "distractor2": answers[1],
        "distractor3": answers[2],
        "correct_answer": answers[3],
        "support": invent.text(2),
    }


def _triviaqa(invent: Inventor) -> Row:
    place = invent.answers(2)
    return {"question": invent.question(), "answer": {"aliases": place, "value": place[0]}}


def _winogrande(invent: Inventor) -> Row:
    first, second = invent.random.sample(_NAMES, 2)
    return {
        "sentence": f"{first} met {second} in the {invent.random.choice(_PLACES)} because _ had lost the key.",
        "option1": first,
        "option2": second,
        "answer": "12"[invent.number(2)],
    }


def _gsm8k(invent: Inventor) -> Row:
    first, second = invent.number(40), invent.number(40)
    return {
        "question": f"{invent.sentence()} There are {first} and {second} more. How many?",
        "answer": f"{first}+{second}=<<{first}+{second}={first + second}>>{first + second}\n#### {first + second}",
    }


def _hendrycks_math(invent: Inventor) -> Row:
    number = invent.number(90)
    return {
        "problem": f"What is ${number}+1$?",
        "solution": f"We add: $\\boxed{{{number + 1}}}$.",
        "level": "Level 1",
        "type": "Algebra",
    }


def _blimp(invent: Inventor) -> Row:
    good = invent.sentence()
    return {"sentence_good": good, "sentence_bad": " ".join(reversed(good.split()))}


def _bbh(invent: Inventor) -> Row:
    return {"input": "not ( True and False ) is", "target": invent.random.choice(("True", "False"))}


def _squad(invent: Inventor) -> Row:
    context = invent.text(3)
    answer = context.split(".")[0].split(" in the ")[1]
    return {
        "id": str(invent.number(10**9)),
        "title": invent.random.choice(_THINGS),
        "context": context,
        "question": invent.question() + "?",
        "answers": {"text": [answer], "answer_start": [context.index(answer)]},
    }


def _drop(invent: Inventor) -> Row:
    date = {"day": "", "month": "", "year": ""}
    return {
        "query_id": str(invent.number(10**9)),
        "passage": invent.text(4),
        "question": "How many boxes?",
        "answer": {"number": str(invent.number(9)), "date": date, "spans": [], "worker_id": "w", "hit_id": "h"},
        "validated_answers": {
            "number": [str(invent.number(9))],
            "date": [date],
            "spans": [[]],
            "worker_id": ["w"],
            "hit_id": ["h"],
        },
    }


def _nq_open(invent: Inventor) -> Row:
    return {"question": invent.question(), "answer": invent.answers(2)}


def _race(invent: Inventor) -> Row:
    problems = [
        {"question": invent.question() + "?", "answer": "ABCD"[invent.number(4)], "options": invent.answers(4)}
        for _ in range(2)
    ]
    return {"article": invent.text(4), "problems": str(problems)}


def _unscramble(invent: Inventor) -> Row:
    word = invent.random.choice(_PLACES)
    return {"context": f"{word[1:]}{word[:1]} =", "completion": word}


#: By data set and configuration: the splits that tasks name, and a row of them.
DATA_SETS: dict[tuple[str, str], tuple[tuple[str, ...], Callable[[Inventor], Row]]] = {
    ("allenai/ai2_arc", "ARC-Easy"): (("train", "validation", "test"), _arc),
    ("allenai/openbookqa", "main"): (("train", "validation", "test"), _openbookqa),
    ("allenai/sciq", ""): (("train", "validation", "test"), _sciq),
    ("allenai/winogrande", "winogrande_xl"): (("train", "validation"), _winogrande),
    ("aps/super_glue", "boolq"): (("train", "validation"), _boolq),
    ("aps/super_glue", "cb"): (("train", "validation"), _cb),
    ("aps/super_glue", "copa"): (("train", "validation"), _copa),
    ("baber/piqa", ""): (("train", "validation"), _piqa),
    ("cais/mmlu", "anatomy"): (("dev", "test"), _mmlu),
    ("cais/mmlu", "astronomy"): (("dev", "test"), _mmlu),
    ("EleutherAI/asdiv", ""): (("validation",), _asdiv),
    ("EleutherAI/drop", ""): (("train", "validation"), _drop),
    ("EleutherAI/hendrycks_math", "algebra"): (("train", "test"), _hendrycks_math),
    ("EleutherAI/lambada_openai", "default"): (("test",), _lambada),
    ("EleutherAI/race", "high"): (("test",), _race),
    ("EleutherAI/unscramble", "cycle_letters_in_word"): (("validation",), _unscramble),
    ("EleutherAI/wikitext_document_level", "wikitext-2-raw-v1"): (("train", "validation", "test"), _wikitext),
    ("google-research-datasets/nq_open", ""): (("train", "validation"), _nq_open),
    ("lighteval/squad_v2", ""): (("train", "validation"), _squad),
    ("mandarjoshi/trivia_qa", "rc.nocontext"): (("train", "validation"), _triviaqa),
    ("NeelNanda/pile-10k", ""): (("train",), _pile),
    ("nyu-mll/blimp", "adjunct_island"): (("train",), _blimp),
    ("nyu-mll/glue", "cola"): (("train", "validation"), _cola),
    ("openai/gsm8k", "main"): (("train", "test"), _gsm8k),
    ("SaylorTwift/bbh", "boolean_expressions"): (("test",), _bbh),
    ("tau/commonsense_qa", ""): (("train", "validation"), _commonsense_qa),
    ("TIGER-Lab/MMLU-Pro", ""): (("validation", "test"), _mmlu_pro),
}


def write_rows(folder: Path, rows_per_split: int = 8) -> Path:
    """The folder, with a file for each split of each data set; MMLU-Pro, whose rows are of several categories, has more."""
    for (path, configuration), (splits, invent_row) in DATA_SETS.items():
        for split in splits:
            invent = Inventor(f"{path} {configuration} {split}")
            count = rows_per_split * (6 if path == "TIGER-Lab/MMLU-Pro" else 1)
            file = folder / path / configuration / f"{split}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(json.dumps(invent_row(invent)) + "\n" for _ in range(count)), encoding="utf-8")
    return folder
