"""What Ollama does with a Modelfile, as far as the exported one needs it: its values, its messages, its Go template.

Written from the rules of Ollama's parser (parser/parser.go), of `collate` and `Execute` (template/template.go) and of Go's
text/template, because neither Go nor Ollama runs in these tests. Whatever is not in these rules raises ValueError.
"""

import re

_ACTION = re.compile(r"\{\{ (.*?) \}\}", re.DOTALL)
_CONDITION = re.compile(r'(eq|ne) ([.$]\w+) "(\w+)"')


def read_modelfile(text: str) -> list[tuple[str, str]]:
    """The commands of a Modelfile: (name, value), `PARAMETER stop x` as ("stop", "x").

    A value goes on over spaces and line ends until what has been read of it is unquoted: it has no quotes, or they are closed.
    """
    commands, rest = [], text
    while rest := rest.lstrip(" \t\r\n"):
        name, _, rest = rest.partition(" ")
        if name == "PARAMETER":
            name, _, rest = rest.partition(" ")
        elif name not in ("FROM", "TEMPLATE", "SYSTEM"):
            raise ValueError(f"no command: {name!r}")
        line_ends = [match.start() for match in re.finditer(r"\n", rest)]
        values = ((_unquoted(rest[:line_end].strip()), line_end) for line_end in line_ends)
        value, line_end = next((value, line_end) for value, line_end in values if value is not None)
        commands.append((name, value))
        rest = rest[line_end:]
    return commands


def _unquoted(value: str) -> str | None:
    """The text of a value without its quotes; None where they are not closed."""
    for quotes in ('"""', '"'):
        if value.startswith(quotes):
            is_closed = value.endswith(quotes) and len(value) >= 2 * len(quotes)
            return value[len(quotes) : -len(quotes)] if is_closed else None
    return value


def render_messages(template: str, messages: list[dict[str, str]]) -> str:
    """What Ollama sends to the model for messages: those of one role that follow one another are one message."""
    collated: list[dict[str, str]] = []
    for message in messages:
        if collated and collated[-1]["role"] == message["role"]:
            collated[-1]["content"] += "\n\n" + message["content"]
        else:
            collated.append(dict(message))
    system_text = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    fields = {"System": system_text, "Messages": collated}
    return _Renderer(template).render(fields)


class _Renderer:
    """Texts, fields, a variable, `range` over messages, and `if` with `eq` and `ne`; no action trims what stands around it."""

    def __init__(self, template: str):
        pieces = _ACTION.split(template)
        self._tokens = [("action" if index % 2 else "text", piece) for index, piece in enumerate(pieces)]
        if any("{{" in piece for kind, piece in self._tokens if kind == "text"):
            raise ValueError("an action that is not known")
        self._variables: dict[str, str] = {}

    def render(self, fields: dict) -> str:
        output, end = self._block(0, fields, is_written=True)
        if end != len(self._tokens):
            raise ValueError("an `end` or `else` too many")
        return output

    def _block(self, index: int, fields: dict, is_written: bool) -> tuple[str, int]:
        """The text of a block, and the index of the `end` or `else` after it."""
        output = ""
        while index < len(self._tokens):
            kind, piece = self._tokens[index]
            if kind == "action" and (piece == "end" or piece.startswith("else")):
                return output, index
            if kind == "action" and piece.startswith("range ."):
                elements = fields[piece.removeprefix("range .")] if is_written else []
                for element in elements:
                    element_fields = {"Role": element["role"], "Content": element["content"]}
                    output += self._block(index + 1, element_fields, True)[0]
                _, index = self._block(index + 1, fields, False)
                self._expect_end(index)
            elif kind == "action" and piece.startswith("if "):
                text, index = self._branches(index, fields, is_written)
                output += text
            elif is_written:
                output += piece if kind == "text" else self._value(piece, fields)
            index += 1
        return output, index

    def _branches(self, index: int, fields: dict, is_written: bool) -> tuple[str, int]:
        output, is_done = "", not is_written
        while self._tokens[index][1] != "end":
            condition = self._tokens[index][1].removeprefix("else ").removeprefix("if ")
            holds = not is_done and self._holds(condition, fields)
            text, index = self._block(index + 1, fields, holds)
            self._expect_end(index, may_be_else=True)
            output, is_done = output + text, is_done or holds
        return output, index

    def _expect_end(self, index: int, may_be_else: bool = False) -> None:
        piece = self._tokens[index][1] if index < len(self._tokens) else ""
        if not (piece == "end" or (may_be_else and piece.startswith("else if "))):
            raise ValueError("an `end` is missing")

    def _holds(self, condition: str, fields: dict) -> bool:
        match = _CONDITION.fullmatch(condition)
        if match is None:
            raise ValueError(f"no condition: {condition!r}")
        comparison, name, literal = match.groups()
        is_equal = self._value(name, fields) == literal
        return is_equal if comparison == "eq" else not is_equal

    def _value(self, piece: str, fields: dict) -> str:
        """The text of a field or a variable; a declaration or an assignment writes nothing."""
        if assignment := re.fullmatch(r"(\$\w+) (:?=) (.*)", piece):
            name, operator, value = assignment.groups()
            if (operator == "=") != (name in self._variables):
                raise ValueError(f"declared twice or not at all: {name}")
            self._variables[name] = value[1:-1] if value.startswith('"') else self._value(value, fields)
            return ""
        return self._variables[piece] if piece.startswith("$") else fields[piece.removeprefix(".")]
