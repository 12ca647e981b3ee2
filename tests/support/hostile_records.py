"""Records whose texts are what breaks templates: their syntax, quotes, headers, special tokens, blank lines, all of Unicode."""

import random

_PIECES = (
    "{{ bos_token }}", "{{", "}}", "{%- endfor -%}", "{% raw %}", "{# note #}", "{{- '\\n' -}}", "{{ .System }}",
    "{{ end }}", "$role", '"""', '"', "'", "\\", "\\n", "%s", "{instruction}", "<s>", "</s>", "[INST]", "<|im_end|>",
    "### System:\n", "\n\n### User:\n", "\n\n### Input:\n", "### Response:", "#", "- a: b", "|", "&amp;", "<b>",
    "\n", "\n\n\n", "\r\n", "\t", "  ", " ", "\u00a0", "\u2028", "é", "e\u0301", "日本語", "🦎", "👩‍👩‍👧", "\ufeff", "\u200b",
    "Where", "does", "the", "frog", "live?", "2 + 2 = 4",
)  # fmt: skip


def hostile_records(count: int, seed: int) -> list[tuple[str, str, str | None]]:
    """(system, instruction, input) of so many records; an input may be absent or empty, a system message empty."""
    generator = random.Random(seed)

    def text(least: int) -> str:
        pieces = generator.choices(_PIECES, k=generator.randint(least, 8))
        return "".join(pieces) + (chr(generator.randrange(0x1F300, 0x1F700)) if generator.random() < 0.2 else "")

    return [(text(0), text(1), generator.choice((None, "", text(1), text(1)))) for _ in range(count)]
