"""The questions of `make gate-real`, in the schemas of the suite's five tasks with log-likelihoods; the same rows each time.

No input; the output is a folder of rows for `orca-bench eval --benchmarks`. Half of the questions are those of the mini suite's
generators, in English. The others are written here in fourteen languages and many scripts, with code, emoji and one text of more
than 2,048 tokens, so that the gate covers byte-level tokens, long few-shot contexts and the cut at a window. Its own module
because the gate and its tests need the same rows. A change of a row is a change of the committed baselines.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from orca_bench.files import make_writable_folder, write_json, write_json_lines
from orca_bench.mini.corpus import generate_benchmark_rows
from orca_bench.suite import TASK_BY_NAME

Row = dict[str, Any]

TASKS = ("arc_challenge", "hellaswag", "mmlu", "truthful_qa", "winogrande")
_SEED = 19
#: Questions of each task (of each MMLU subject) from the mini suite's generators, and rows for its few-shot examples.
_MINI_QUESTIONS_BY_TASK = {"arc_challenge": 3, "hellaswag": 5, "mmlu": 8, "truthful_qa": 21, "winogrande": 14}
_MINI_POOL_ROWS = 24

#: language: (question, statement, countries with their capitals)
_CAPITALS = {
    "English": (
        "What is the capital of {0}?",
        "The capital of {0} is {1}.",
        {"Portugal": "Lisbon", "Kenya": "Nairobi", "Peru": "Lima", "Norway": "Oslo"},
    ),
    "German": (
        "Wie heißt die Hauptstadt von {0}?",
        "Die Hauptstadt von {0} ist {1}.",
        {"Österreich": "Wien", "Polen": "Warschau", "Dänemark": "Kopenhagen", "Griechenland": "Athen"},
    ),
    "French": (
        "Quelle est la capitale de ce pays : {0} ?",
        "La capitale de ce pays ({0}) est {1}.",
        {"Écosse": "Édimbourg", "Algérie": "Alger", "Grèce": "Athènes", "Russie": "Moscou"},
    ),
    "Spanish": (
        "¿Cuál es la capital de {0}?",
        "La capital de {0} es {1}.",
        {"España": "Madrid", "Japón": "Tokio", "Perú": "Lima", "Suecia": "Estocolmo"},
    ),
    "Turkish": (
        "{0} ülkesinin başkenti neresidir?",
        "{0} ülkesinin başkenti {1} şehridir.",
        {"Türkiye": "Ankara", "Japonya": "Tokyo", "Mısır": "Kahire", "İngiltere": "Londra"},
    ),
    "Russian": (
        "Какой город — столица страны {0}?",
        "Столица страны {0} — {1}.",
        {"Россия": "Москва", "Франция": "Париж", "Япония": "Токио", "Греция": "Афины"},
    ),
    "Greek": (
        "Ποια είναι η πρωτεύουσα της χώρας {0};",
        "Η πρωτεύουσα της χώρας {0} είναι η {1}.",
        {"Ελλάδα": "Αθήνα", "Ιταλία": "Ρώμη", "Ρωσία": "Μόσχα", "Πολωνία": "Βαρσοβία"},
    ),
    "Hebrew": (
        "מהי עיר הבירה של {0}?",
        "עיר הבירה של {0} היא {1}.",
        {"צרפת": "פריז", "רוסיה": "מוסקבה", "יפן": "טוקיו", "איטליה": "רומא"},
    ),
    "Arabic": (
        "ما هي عاصمة {0}؟",
        "عاصمة {0} هي {1}.",
        {"مصر": "القاهرة", "فرنسا": "باريس", "اليابان": "طوكيو", "العراق": "بغداد"},
    ),
    "Hindi": (
        "{0} की राजधानी क्या है?",
        "{0} की राजधानी {1} है।",
        {"भारत": "दिल्ली", "जापान": "टोक्यो", "रूस": "मॉस्को", "नेपाल": "काठमांडू"},
    ),
    "Thai": (
        "เมืองหลวงของ{0}คืออะไร",
        "เมืองหลวงของ{0}คือ{1}",
        {"ไทย": "กรุงเทพ", "ญี่ปุ่น": "โตเกียว", "ลาว": "เวียงจันทน์", "จีน": "ปักกิ่ง"},
    ),
    "Chinese": (
        "{0}的首都是哪里?",
        "{0}的首都是{1}。",
        {"中国": "北京", "日本": "东京", "法国": "巴黎", "俄罗斯": "莫斯科"},
    ),
    "Japanese": (
        "{0}の首都はどこですか。",
        "{0}の首都は{1}です。",
        {"日本": "東京", "韓国": "ソウル", "フランス": "パリ", "ドイツ": "ベルリン"},
    ),
    "Korean": (
        "{0}의 수도는 어디입니까?",
        "{0}의 수도는 {1}입니다.",
        {"한국": "서울", "일본": "도쿄", "프랑스": "파리", "독일": "베를린"},
    ),
}
_EMOJI_NAMES = {
    "🐘": "elephant", "🍌": "banana", "🚲": "bicycle", "🌧️": "rain", "👩‍🚀": "astronaut", "🎻": "violin", "🏔️": "mountain",
    "🦉": "owl", "🧦": "socks", "🇯🇵": "Japan", "⏰": "alarm clock", "🤷🏽‍♀️": "shrug", "🥕": "carrot", "🐢": "turtle",
}  # fmt: skip
#: Python expressions with their values.
_EXPRESSIONS = {
    "len('abc') * 2": "6", "[1, 2, 3][-1]": "3", "'a-b-c'.split('-')[1]": "'b'", "sum(range(5))": "10", "7 // 2": "3",
    "2 ** 3 ** 2": "512", "{'x': 4}.get('y', 0)": "0", "sorted('bca')[0]": "'a'", "bool([])": "False", "-7 % 3": "2",
    "'ab' * 2": "'abab'", "int('0x1f', 16)": "31", "max({3: 1, 2: 9})": "3",
}  # fmt: skip
#: activity: its steps in order; German, French, Russian, Chinese, and code.
_SCRIPTS = {
    "Brot backen": ("Sie mischt Mehl und Wasser.", "Sie knetet den Teig.", "Sie schiebt den Teig in den Ofen."),
    "Faire du thé": ("Elle fait bouillir l'eau.", "Elle verse l'eau sur les feuilles.", "Elle boit le thé chaud."),
    "Стирка": ("Он складывает бельё в машину.", "Он насыпает порошок.", "Он вешает рубашки сушиться."),
    "写信": ("她拿出一张纸。", "她写了几行字。", "她把信装进信封。"),
    "Python function": (
        "def total(numbers):\n    result = 0\n",
        "    for number in numbers:\n        result += number\n",
        "    return result\n",
    ),
    "HTML list": ("<ul>\n  <li>🍎 apples</li>\n", "  <li>🍐 pears</li>\n", "</ul>\n"),
    "SQL query": ("SELECT name, COUNT(*) AS n\n", "FROM users WHERE age >= 18\n", "GROUP BY name ORDER BY n DESC;\n"),
}
#: A sentence with a blank and a place for a reason; what the blank may be; the reasons for which it is the first and the second.
_MISFITS = (
    ("Der Koffer passt nicht in den Schrank, weil der _ zu {} ist.", ("Koffer", "Schrank"), ("groß", "klein")),
    ("Le tapis n'entre pas dans le coffre parce que le _ est trop {}.", ("tapis", "coffre"), ("long", "petit")),
    ("El piano no cabe en el ascensor porque el _ es demasiado {}.", ("piano", "ascensor"), ("ancho", "estrecho")),
    ("Het boek past niet in de doos omdat _ te {} is.", ("het boek", "de doos"), ("dik", "smal")),
    ("Стол не входит в лифт, потому что _ слишком {}.", ("стол", "лифт"), ("широкий", "узкий")),
    ("Το πιάνο δεν χωράει στο δωμάτιο γιατί το _ είναι πολύ {}.", ("πιάνο", "δωμάτιο"), ("μεγάλο", "μικρό")),
    ("这本书放不进抽屉,因为_太{}了。", ("书", "抽屉"), ("厚", "窄")),
    ("The 🎸 does not fit into the 👜 because the _ is too {}.", ("🎸", "👜"), ("big", "small")),
    ("An int64 does not fit into an int8 because the _ has {} bits.", ("int64", "int8"), ("too many", "only 8")),
    ("책이 상자에 들어가지 않는다. 왜냐하면 _ 너무 {} 때문이다.", ("책이", "상자가"), ("크기", "작기")),
)
_LONG_LIST_LINES = 200  # 2,300 tokens of SmolLM2, more than the window of protocol `orca`


def write_rows(folder: Path) -> None:
    """Write the rows of all tasks below `folder`, with the suite's name."""
    for (task, split), rows in generate_rows().items():
        make_writable_folder(folder / task)
        write_json_lines(folder / task / f"{split}.jsonl", rows)
    write_json(
        folder / "suite.json", {"name": "regression", "note": "questions of this project's gate on a real model"}
    )


def generate_rows() -> dict[tuple[str, str], list[Row]]:
    """The rows by (task, split): the questions, and those that few-shot examples are drawn from."""
    mini_rows, _ = generate_benchmark_rows(_SEED)
    rows_by_task_and_split: dict[tuple[str, str], list[Row]] = {}
    for task in TASKS:
        facts, generator = TASK_BY_NAME[task], random.Random(f"{_SEED} {task}")
        written_rows = list(_WRITTEN_ROWS_BY_TASK[task](generator))
        generator.shuffle(written_rows)
        question_count = _MINI_QUESTIONS_BY_TASK[task]
        if facts.subject_column is not None:
            questions, pool = _questions_and_pool_by_subject(
                [mini_rows[task, facts.evaluation_split], mini_rows[task, facts.few_shot_split or ""], written_rows],
                facts.subject_column,
                question_count,
                facts.shots,
            )
        else:
            pool_count = len(written_rows) // 4 if facts.few_shot_split else 0
            questions = [*mini_rows[task, facts.evaluation_split][:question_count], *written_rows[pool_count:]]
            pool = written_rows[:pool_count]
            if facts.few_shot_split:
                pool = [*mini_rows[task, facts.few_shot_split][:_MINI_POOL_ROWS], *pool]
        rows_by_task_and_split[task, facts.evaluation_split] = questions
        if facts.few_shot_split:
            rows_by_task_and_split[task, facts.few_shot_split] = pool
    return rows_by_task_and_split


def _questions_and_pool_by_subject(
    row_lists: Sequence[Sequence[Row]], subject_column: str, question_count: int, shots: int
) -> tuple[list[Row], list[Row]]:
    """`question_count` questions of each subject, and its last `shots` rows as few-shot examples."""
    rows_by_subject: dict[str, list[Row]] = {}
    for row in (row for rows in row_lists for row in rows):
        rows_by_subject.setdefault(row[subject_column], []).append(row)
    questions = [row for rows in rows_by_subject.values() for row in rows[:-shots][:question_count]]
    return questions, [row for rows in rows_by_subject.values() for row in rows[-shots:]]


# --- one function a task ------------------------------------------------------------------------------------------


def _arc_rows(generator: random.Random) -> Iterator[Row]:
    for question, answers, right_answer in _fact_questions(generator, per_language=1, per_table=2):
        labels = list("ABCD") if generator.random() < 0.8 else list("1234")  # some real rows number their choices
        yield {
            "question": question,
            "choices": {"text": answers, "label": labels},
            "answerKey": labels[answers.index(right_answer)],
        }


def _mmlu_rows(generator: random.Random) -> Iterator[Row]:
    for subject, table, template in (
        ("python_expressions", _EXPRESSIONS, "What is the value of this expression?\n\n```python\n{0}\n```"),
        ("emoji_names", _EMOJI_NAMES, "What does {0} show?"),
    ):
        for key, right_answer in table.items():
            answers = _with_wrong_answers(right_answer, table.values(), generator)
            yield _mmlu_row(template.format(key), subject, answers, right_answer)
    for question, answers, right_answer in _fact_questions(generator, per_language=1, per_table=0):
        yield _mmlu_row(question, "world_capitals", answers, right_answer)


def _mmlu_row(question: str, subject: str, answers: Sequence[str], right_answer: str) -> Row:
    return {"question": question, "subject": subject, "choices": answers, "answer": answers.index(right_answer)}


def _truthful_qa_rows(generator: random.Random) -> Iterator[Row]:
    for question, statement, capitals in _CAPITALS.values():
        country = generator.choice(sorted(capitals))
        wrong_answers = [capital for capital in capitals.values() if capital != capitals[country]]
        true_statement = statement.format(country, capitals[country])
        false_statements = [statement.format(country, capital) for capital in wrong_answers]
        yield {
            "question": question.format(country),
            "mc1_targets": _targets([true_statement], false_statements),
            "mc2_targets": _targets([true_statement, capitals[country]], [*false_statements, *wrong_answers[:2]]),
        }
    for expression, value in list(_EXPRESSIONS.items())[:4]:
        false_values = [
            answer for answer in _with_wrong_answers(value, _EXPRESSIONS.values(), generator) if answer != value
        ]
        targets = _targets([f"`{value}`", f"It is {value}."], [f"`{false_value}`" for false_value in false_values])
        yield {"question": f"What does `print({expression})` write?", "mc1_targets": targets, "mc2_targets": targets}
    numbers = [generator.randrange(100, 1000) for _ in range(_LONG_LIST_LINES)]
    list_text = "\n".join(f"box {index}: {number} nails" for index, number in enumerate(numbers, 1))
    right_number, *wrong_numbers = (str(numbers[index]) for index in (140, 12, 77))
    targets = _targets([right_number], wrong_numbers)
    yield {
        "question": f"How many nails are in box 141?\n{list_text}",
        "mc1_targets": targets,
        "mc2_targets": targets,
    }


def _targets(true_answers: Sequence[str], false_answers: Sequence[str]) -> Row:
    return {"choices": [*true_answers, *false_answers], "labels": [1] * len(true_answers) + [0] * len(false_answers)}


def _hellaswag_rows(generator: random.Random) -> Iterator[Row]:
    for activity, steps in _SCRIPTS.items():
        other_activities = generator.sample(sorted(set(_SCRIPTS) - {activity}), 3)
        for step_index in (0, 1):
            right_ending = steps[step_index + 1]
            endings = [
                right_ending,
                *(generator.choice(_SCRIPTS[other_activity]) for other_activity in other_activities),
            ]
            generator.shuffle(endings)
            yield {
                "activity_label": activity,
                "ctx_a": steps[0],
                "ctx_b": "" if step_index == 0 else steps[1],
                "endings": endings,
                "label": str(endings.index(right_ending)),
            }


def _winogrande_rows(generator: random.Random) -> Iterator[Row]:
    for sentence, options, reasons in _MISFITS:
        for option_index, reason in enumerate(reasons):
            shown_options = list(options)
            generator.shuffle(shown_options)
            yield {
                "sentence": sentence.format(reason),
                "option1": shown_options[0],
                "option2": shown_options[1],
                "answer": str(shown_options.index(options[option_index]) + 1),
            }


_WRITTEN_ROWS_BY_TASK = {
    "arc_challenge": _arc_rows,
    "hellaswag": _hellaswag_rows,
    "mmlu": _mmlu_rows,
    "truthful_qa": _truthful_qa_rows,
    "winogrande": _winogrande_rows,
}


def _fact_questions(
    generator: random.Random, per_language: int, per_table: int
) -> Iterator[tuple[str, list[str], str]]:
    """(question, four answers, the right one): capitals in each language, and as many of emoji and of expressions."""
    for question, _, capitals in _CAPITALS.values():
        for country in generator.sample(sorted(capitals), per_language):
            yield (
                question.format(country),
                _with_wrong_answers(capitals[country], capitals.values(), generator),
                capitals[country],
            )
    for table, template in ((_EMOJI_NAMES, "What is {0}?"), (_EXPRESSIONS, "What does `{0}` give in Python?")):
        for key in generator.sample(sorted(table), per_table):
            yield template.format(key), _with_wrong_answers(table[key], table.values(), generator), table[key]


def _with_wrong_answers(right_answer: str, all_answers: Iterable[str], generator: random.Random) -> list[str]:
    """The right answer and three wrong ones, in a random order."""
    answers = [right_answer, *generator.sample(sorted(set(all_answers) - {right_answer}), 3)]
    generator.shuffle(answers)
    return answers
