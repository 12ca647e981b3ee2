"""Refusals are known by their words, and texts that only look like one are not taken for it."""

import pytest

from orca_bench.data.record_checks.refusals import REFUSAL_PATTERNS, refusal_name

REFUSALS = {
    "as an AI model, I": [
        "As an AI language model, I don't have personal opinions.",
        "It depends on whom you ask, but as an AI language model, I cannot say which sport is the best.",
        "as an artificial intelligence I would love to, but cannot.",
        "As a large language model, I am not able to browse the web.",
        "As an AI assistant, my knowledge ends in 2021.",
    ],
    "I am only an AI model": [
        "Thank you! I am just an AI language model and do not have feelings.",
        "I'm an AI, so I can't taste food.",
    ],
    "sorry, I cannot": [
        "I'm sorry, but I cannot assist with that request.",
        "Sorry, I can't play the song Despacito on the keyboard.",
        "Unfortunately, I am unable to provide the current weather.",
        "I apologize, but I can’t fulfill this request.",
    ],
    "sorry, this task cannot": [
        "Sorry, the task involves visual information. We cannot complete it.",
        "I'm sorry, this question is too vague to answer.",
        "Sorry, your request goes against the guidelines.",
    ],
    "I cannot": [
        "I cannot create a visual of the solar system with six planets.",
        "  “I am not able to generate a logo, as this requires an image.",
        "I must decline to answer.",
    ],
    "a model cannot": ["<no output> (This is no suitable instruction since the GPT model cannot produce an image)"],
    "no opinions or abilities": [
        "I do not have personal preferences, but many people like tea.",
        "I'm sorry, but I don't have access to your calendar.",
    ],
    "it is not appropriate": [
        "It is not appropriate to generate such content.",
        "It would be unethical for me to help.",
    ],
    "in other languages": [
        "Als KI-Sprachmodell kann ich keine Meinung haben.",
        "En tant que modèle de langage, je ne peux pas répondre.",
        "En tant qu'IA, je n'ai pas d'opinion.",
        "En tant qu’assistant, je ne peux pas vous aider.",
        "Como IA, no puedo ayudarte.",
        "In quanto intelligenza artificiale, non ho opinioni.",
        "作为AI，我没有情感。",
        "Como modelo de lenguaje, no tengo acceso a internet.",
        "作为一个人工智能语言模型，我无法回答。",
        "Я, как языковая модель, не могу ответить.",
    ],
}

LOOK_ALIKES = [
    "An AI language model predicts the next word of a text. As an example, GPT-3 has 175 billion weights.",
    "As an AI engineer, I train language models for a living.",
    "AI models such as chat assistants are used in customer service.",
    "I'm sorry to hear that. It must be very difficult for you.",
    "I'm sorry for being late to our meeting. I should have been more mindful of the time.",
    "Dear Karen, I am sorry, but I cannot come to your party on Friday.",
    "I'm sorry, I'm not following.",
    "I can't do this, it's impossible.",
    "I can't make sense of it.",
    "I couldn't make it to the meeting.",
    "I am not able to do it.",
    "I can't play tennis with a badminton racket. Sentence B",
    "It is not possible to write on dew, which is a small amount of water.",
    "It is not possible to give an exact probability of rain, as it depends on many factors.",
    "Unfortunately, the ferry was late, and we missed our train.",
    'The customer wrote: "I\'m sorry, but I cannot complete my order."',
    "I do not have any siblings, but I have two cousins.",
    "The model car cannot drive uphill.",
    "",
    "…",
]


@pytest.mark.parametrize(("name", "response"), [(name, text) for name, texts in REFUSALS.items() for text in texts])
def test_a_refusal_is_known_by_its_pattern(name, response):
    assert refusal_name(response) == name


@pytest.mark.parametrize("response", LOOK_ALIKES)
def test_a_look_alike_is_no_refusal(response):
    assert refusal_name(response) is None


def test_every_pattern_has_a_test():
    assert [entry.name for entry in REFUSAL_PATTERNS] == list(REFUSALS)


def test_the_real_sets_have_few_refusals(shared):
    from orca_bench.data.instructions import read_instructions

    counts = {
        name: sum(
            refusal_name(instruction.reference_answer) is not None
            for instruction in read_instructions(shared / folder / "train.jsonl.gz")
        )
        for name, folder in (("Alpaca", "instructions/alpaca"), ("GSM8K", "benchmarks/gsm8k"))
    }
    assert counts == {"Alpaca": 23, "GSM8K": 0}
