"""Rows in the columns in which instruction sets are published: by name, the rows, the texts in them, the system message."""

DRAWN, OWN, FIVE = "drawn", "own", "message 5"

#: Each published shape: two rows of it, what the first says (instruction, input, response), and where its message is from.
PUBLISHED = {
    "Alpaca": (
        [{"instruction": "Do", "input": "x", "output": "done"}, {"instruction": "Say", "input": "", "output": "yes"}],
        ("Do", "x", "done"),
        DRAWN,
    ),
    "WizardLM": ([{"instruction": "Do", "output": "done"}] * 2, ("Do", "", "done"), DRAWN),
    "Dolly": (
        [{"instruction": "Who?", "context": "Ann.", "response": "Ann", "category": "qa"}] * 2,
        ("Who?", "Ann.", "Ann"),
        DRAWN,
    ),
    "Orca sets": (
        [{"system": "Explain.", "instruction": "Do", "input": "x", "output": "done"}] * 2,
        ("Do", "x", "done"),
        OWN,
    ),
    "OpenOrca": (
        [{"id": "flan.1", "system_prompt": "Explain.", "question": "1+1?", "response": "2"}] * 2,
        ("1+1?", "", "2"),
        OWN,
    ),
    "GSM8K": ([{"question": "1+1?", "answer": "2\n#### 2"}] * 2, ("1+1?", "", "2\n#### 2"), DRAWN),
    "questions of one's own": ([{"Question": "Open?", "Answer": "At 9."}] * 2, ("Open?", "", "At 9."), FIVE),
    "FLAN's chain of thought": (
        [{"task": "t", "question": "1+1?", "answer": "2", "chain_of_thought": "One and one."}] * 2,
        ("1+1?", "", "One and one.\nThe answer is 2"),
        DRAWN,
    ),
    "ShareGPT": (
        [{"id": "a", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}] * 2,
        ("Hi", "", "Hello"),
        FIVE,
    ),
    "ShareGPT with a system message": (
        [
            {
                "conversations": [
                    {"from": "system", "value": "Explain."},
                    {"from": "human", "value": "Hi"},
                    {"from": "gpt", "value": "Hello"},
                ]
            }
        ]
        * 2,
        ("Hi", "", "Hello"),
        OWN,
    ),
    "messages": (
        [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}] * 2,
        ("Hi", "", "Hello"),
        FIVE,
    ),
    "prompt and completion": ([{"prompt": "Hi", "completion": "Hello"}] * 2, ("Hi", "", "Hello"), FIVE),
    "prompt and response": (
        [{"prompt": "Hi", "response": "Hello", "system": "Explain."}] * 2,
        ("Hi", "", "Hello"),
        OWN,
    ),
    "records": (
        [{"system": "Explain.", "instruction": "Do", "input": "No input", "response": "N", "teacher": "t", "id": "r"}]
        * 2,
        ("Do", "No input", "N"),
        OWN,
    ),
    "other case": ([{"Instruction": "Do", "Output": "done"}] * 2, ("Do", "", "done"), DRAWN),
}
