"""A model folder in, its chat template out: messages become the text that the template writes, and that text becomes ids.

Rendering and ids are transformers' own (`apply_chat_template`). Added here: what a template does with a system message, how an
answer's turn ends, and that the same messages give the same text on every day. Its own module because a tokenizer's ids of a
text have no special tokens in them, and those of a chat have.
"""

from __future__ import annotations

import copy
import datetime
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from orca_bench import prompt
from orca_bench.errors import UserError, one_line
from orca_bench.files import read_json
from orca_bench.tokenizers.hugging_face import FolderTokenizer, load_transformers_tokenizer
from orca_bench.tokenizers.special_tokens import TOKENIZER_CONFIG_FILE
from orca_bench.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from jinja2.nodes import Template
    from transformers import PreTrainedTokenizerBase

#: One turn of a chat: `role` (system, user, assistant) and `content`.
Message = Mapping[str, str]

#: The date that a template writes which asks for today's: LLaMA 3.1's template has it where nothing gives a date.
PINNED_DATE = "2024-07-26"
_PINNED_TIME = datetime.datetime.fromisoformat(PINNED_DATE)
#: What a template must not use, because it gives another text every time: a filter of Jinja, and a global.
_RANDOM_FILTER, _RANDOM_GLOBAL = "random", "lipsum"

#: Texts that no template and no message holds; in the place of a message's content they show what stands around it.
_MARKS = [f"\ufdd1{name}\ufdd1" for name in ("first", "second", "third", "fourth")]
_FIRST_MARK, _SECOND_MARK = _MARKS[:2]

_MISSING_HINT = (
    "`--protocol orca` needs none; else put the template of the model's own page into chat_template.jinja beside "
    "config.json"
)


class ChatTemplate:
    """The chat template of a model folder, and the ids of what it writes.

    Attributes:
        text: The template as the folder has it.
        sha256: The SHA-256 of `text` in UTF-8.
        source: The folder.
        other_names: The names of further templates of the folder, which are not used.
    """

    def __init__(self, transformers_tokenizer: PreTrainedTokenizerBase, source: str | Path):
        """`transformers_tokenizer` is the folder's, with its templates; raises UserError where none can be used."""
        self._transformers_tokenizer, self.source = transformers_tokenizer, source
        self.text, self.other_names = _default_template(transformers_tokenizer, source)
        self.sha256 = hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def writes_date(self) -> bool:
        """Whether the template asks for today's date; it is given `PINNED_DATE`."""
        return "strftime_now" in self.text

    @cached_property
    def pinned_text(self) -> str:
        """The template with which transformers gives these texts and ids: `text`, or that with its date pinned.

        A macro of the template's own stands before transformers' function `strftime_now`.
        """
        if not self.writes_date:
            return self.text
        # The line break after the macro is no part of what is written (trim_blocks), and lines begin where they began.
        return f"{{%- macro strftime_now(format) -%}}{self._pinned_dates()}{{%- endmacro %}}\n{self.text}"

    def _pinned_dates(self) -> str:
        """Jinja that writes the pinned date in each format that the template has; another one is refused."""
        from jinja2 import nodes

        formats = [
            call.args[0].value
            for call in self._syntax_tree.find_all(nodes.Call)
            if isinstance(call.node, nodes.Name) and call.node.name == "strftime_now"
            if call.args and isinstance(call.args[0], nodes.Const) and isinstance(call.args[0].value, str)
        ]
        branches = [
            f"{{%- if format == {json.dumps(text)} -%}}{{{{- {json.dumps(_PINNED_TIME.strftime(text))} -}}}}{{%- endif -%}}"
            for text in dict.fromkeys(formats)
        ]
        known_formats = json.dumps(list(dict.fromkeys(formats)))
        refusal = "{{- raise_exception('a date in a format that is not written out in the template') -}}"
        return f"{''.join(branches)}{{%- if format not in {known_formats} -%}}{refusal}{{%- endif -%}}"

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
        """The text that the template writes; with `add_generation_prompt` up to where the assistant's answer begins.

        Raises UserError, which names the template, for messages that it refuses.
        """
        template_text = self.pinned_text
        try:
            return str(
                self._transformers_tokenizer.apply_chat_template(
                    [dict(message) for message in messages],
                    chat_template=template_text,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                )
            )
        except Exception as error:  # whatever a template of somebody else's does
            has_system = any(message["role"] == "system" for message in messages)
            raise UserError(
                f"the chat template refuses {_roles_text(messages)}: {one_line(error, 200) or type(error).__name__}",
                where=self.source,
                hint="leave out --system" if has_system else None,
            ) from error

    def encode(self, rendered_text: str) -> list[int]:
        """The ids of a text that the template wrote, special tokens included; nothing is added to them."""
        return list(self._transformers_tokenizer(rendered_text, add_special_tokens=False, verbose=False)["input_ids"])

    def response_text(self, content: str) -> str:
        """An answer as the template writes it: without the white space around it where the template strips that."""
        return content.strip() if self._strips_content else content

    @cached_property
    def _strips_content(self) -> bool:
        padded_mark = f"\n{_FIRST_MARK}\n"
        return padded_mark not in self.render([_user("?"), _assistant(padded_mark)])

    @cached_property
    def writes_content_unchanged(self) -> bool:
        """Whether an answer stands in the text as it is given, but for the white space around it."""
        content = f"""{_FIRST_MARK} It's "A" & <b> \\ é""" + "\n two  lines."
        return content in self.render([_user("?"), _assistant(content)])

    def text_before_response(self, messages: Sequence[Message]) -> str:
        """What the template writes before the content of the assistant's turn that answers the messages."""
        rendered = self.render([*messages, _assistant(_FIRST_MARK)])
        if _FIRST_MARK not in rendered:
            raise UserError("the chat template leaves what the assistant says out", where=self.source)
        return rendered[: rendered.rindex(_FIRST_MARK)]

    @cached_property
    def default_system_text(self) -> str | None:
        """The system message that the template writes by itself where a chat has none; None where it writes none."""
        try:
            with_system = self.render([_system(_FIRST_MARK), _user(_SECOND_MARK)])
        except UserError:
            return None
        before, mark, after = with_system.partition(_FIRST_MARK)
        without_system = self.render([_user(_SECOND_MARK)])
        is_written = mark and before.strip() and without_system.startswith(before) and without_system.endswith(after)
        return without_system[len(before) : len(without_system) - len(after)] or None if is_written else None

    @cached_property
    def writes_orca_prompt(self) -> bool:
        """Whether the template writes a system message, a question and an answer as the Orca prompt does, after BOS or not.

        What it writes after the answer does not count.
        """
        system_text, question, answer = "Be brief.", "One  line.\nAnd another one.", "An answer."
        expected_prompt = prompt.render(system_text, question)
        bos_spelling = str(self._transformers_tokenizer.special_tokens_map.get("bos_token") or "")
        try:
            rendered_prompt = self.render([_system(system_text), _user(question)], add_generation_prompt=True)
            rendered_chat = self.render([_system(system_text), _user(question), _assistant(answer)])
        except UserError:
            return False
        return rendered_prompt.removeprefix(bos_spelling) == expected_prompt and rendered_chat.removeprefix(
            bos_spelling
        ).startswith(expected_prompt + answer)

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The token that ends an answer in the template, besides EOS; empty where none does."""
        return self._ends[0]

    @property
    def end_strings(self) -> tuple[str, ...]:
        """What ends an answer where it is no token: words, or the header of what the user says next."""
        return self._ends[1]

    @cached_property
    def _ends(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """The ids and the strings that end an answer.

        What the template writes after an answer, whether it is the last message or not, ends it: `<|im_end|>`; where that is
        nothing, what it writes up to the user's next words does: `USER:`. Of it, the first token that is listed apart from the
        vocabulary counts, and the text before that.
        """
        chat = [_user("?"), _assistant(_FIRST_MARK)]
        text_at_end = self.render(chat).partition(_FIRST_MARK)[2]
        try:
            text_between = (
                self.render([*chat, _user(_SECOND_MARK)]).partition(_FIRST_MARK)[2].partition(_SECOND_MARK)[0]
            )
        except UserError:  # a template for one question
            text_between = text_at_end
        common_text = os.path.commonprefix([text_at_end, text_between]).strip()
        ending_text = common_text or text_between.strip()
        spelling, place = self._first_token(ending_text)
        if place != 0:  # it begins with words: the token that ends it may be that of the next turn
            spelling, place = self._first_token(text_between.strip())
        words = ending_text if spelling is None else ending_text[:place].strip()
        return () if spelling is None else (self._id_by_spelling[spelling],), (words,) if words else ()

    def _first_token(self, text: str) -> tuple[str | None, int]:
        """The first token of `_id_by_spelling` in a text, the longest at its place, and the place; None where there is none."""
        places = [
            (text.find(spelling), -len(spelling), spelling) for spelling in self._id_by_spelling if spelling in text
        ]
        place, _, spelling = min(places, default=(-1, 0, None))
        return spelling, place

    @cached_property
    def _id_by_spelling(self) -> dict[str, int]:
        """The tokens that are listed apart from the vocabulary, special ones among them."""
        added_tokens = self._transformers_tokenizer.added_tokens_decoder
        return {token.content: id_ for id_, token in added_tokens.items() if token.content}

    def spelling(self, token_id: int) -> str:
        """A token that is listed apart from the vocabulary, as it is spelled."""
        return str(self._transformers_tokenizer.added_tokens_decoder[token_id].content)

    def last_special_start(self, rendered_text: str) -> int:
        """The index of the character at which the last special token of a rendered text begins; 0 where it has none."""
        return max([0, *(rendered_text.rfind(spelling) for spelling in self._id_by_spelling)])

    def check(self, system_text: str | None, has_turns: bool = True) -> None:
        """Raise UserError where the template cannot ask the questions, under this system message where there is one.

        That is where it refuses a chat, where it leaves out what somebody says, and where it writes another text every time.
        `has_turns` is whether examples are turns of the chat.
        """
        self._check_is_deterministic()
        self._check_writes_all([_user(_MARKS[0])], "what the user says")
        self.text_before_response([_user("?")])
        if has_turns:
            turns = [_user(_MARKS[0]), _assistant(_MARKS[1]), _user(_MARKS[2])]
            for messages in (turns, [*turns, _assistant(_MARKS[3])]):
                self._check_writes_all(messages, "what was said before", "--few-shot one-turn asks without turns")
        if system_text:
            messages = [_system(_MARKS[0]), _user(_MARKS[1])]
            self._check_writes_all(messages, "a system message", "leave out --system")
        elif system_text is not None:  # an empty message need not be seen in the text
            self.render([_system(""), _user("?")], add_generation_prompt=True)

    def _check_writes_all(self, messages: Sequence[Message], what: str, hint: str | None = None) -> None:
        """Raise UserError, which says what is left out, where the contents of messages do not stand in the text in order."""
        is_answered = messages[-1]["role"] == "assistant"
        rendered = self.render(messages, add_generation_prompt=not is_answered)
        places = [rendered.find(message["content"]) for message in messages]
        if -1 in places or places != sorted(places):
            raise UserError(f"the chat template leaves {what} out", where=self.source, hint=hint)

    def _check_is_deterministic(self) -> None:
        """Raise UserError for a template that is no Jinja, and for one that draws at random."""
        from jinja2 import nodes

        tree = self._syntax_tree
        random_names = [node.name for node in tree.find_all(nodes.Filter) if node.name == _RANDOM_FILTER]
        random_names += [node.name for node in tree.find_all(nodes.Name) if node.name == _RANDOM_GLOBAL]
        if random_names:
            raise UserError(
                f"the chat template writes another text every time: it uses {random_names[0]!r}",
                where=self.source,
                hint="write what it should say into chat_template.jinja",
            )

    @cached_property
    def _syntax_tree(self) -> Template:
        """The template as Jinja reads it; raises UserError where it is none."""
        import jinja2
        from jinja2 import ext, nodes
        from jinja2.parser import Parser

        class GenerationTag(ext.Extension):
            """transformers' own tag, which marks what is trained on; it writes what is in it."""

            tags = {"generation"}

            def parse(self, parser: Parser) -> list[nodes.Node]:
                """What is in the tag."""
                next(parser.stream)
                return parser.parse_statements(("name:endgeneration",), drop_needle=True)

        try:
            return jinja2.Environment(extensions=[ext.loopcontrols, GenerationTag]).parse(self.text)
        except jinja2.TemplateError as error:
            raise UserError(f"the chat template is no Jinja: {one_line(error, 200)}", where=self.source) from error


def load_chat_template(tokenizer: Tokenizer, folder: Path, splits_special_tokens: bool) -> ChatTemplate:
    """The chat template of a model folder whose tokenizer is loaded.

    With `splits_special_tokens`, texts are encoded as tokenizer_config.json says, else special tokens are found in what the
    template writes, whatever it says: where a GGUF file was imported, the export's setting is not the model's. Raises
    UserError where the folder has no template, or none that can be used.
    """
    if folder.is_file():
        raise UserError("a file of a tokenizer has no chat template", where=folder, hint="name a model folder")
    if isinstance(tokenizer, FolderTokenizer):
        transformers_tokenizer: PreTrainedTokenizerBase = copy.deepcopy(tokenizer.transformers_tokenizer)
    else:
        transformers_tokenizer = load_transformers_tokenizer(folder)
    if not splits_special_tokens:
        transformers_tokenizer.split_special_tokens = False
    return ChatTemplate(transformers_tokenizer, folder)


def has_chat_template(folder: Path) -> bool:
    """Whether a folder has a chat template, in a file of its own or in tokenizer_config.json, usable or not."""
    settings_file = folder / TOKENIZER_CONFIG_FILE
    tokenizer_config = read_json(settings_file) if settings_file.is_file() else {}
    is_configured = isinstance(tokenizer_config, dict) and bool(tokenizer_config.get("chat_template"))
    return is_configured or any(folder.glob("*.jinja"))


def _default_template(
    transformers_tokenizer: PreTrainedTokenizerBase, source: str | Path
) -> tuple[str, tuple[str, ...]]:
    """The text of a folder's template, of several that named `default`; and the names of the others."""
    template = transformers_tokenizer.chat_template
    if not template:
        raise UserError("no chat template in this model folder", where=source, hint=_MISSING_HINT)
    if isinstance(template, str):
        return template, ()
    if not isinstance(template, dict) or not all(isinstance(text, str) for text in template.values()):
        raise UserError(f"a chat template that is no text: {str(template)[:60]}", where=source, hint=_MISSING_HINT)
    if "default" not in template:
        raise UserError(
            f"several chat templates ({', '.join(sorted(template))}) and none is named 'default'",
            where=source,
            hint="write the one to be used into chat_template.jinja",
        )
    return str(template["default"]), tuple(sorted(name for name in template if name != "default"))


def _roles_text(messages: Sequence[Message]) -> str:
    """The roles of messages in words; of many the first ones."""
    roles = [message["role"] for message in messages]
    if roles[0] == "system":
        return "a system message"
    return "a chat of " + ", ".join(roles[:3]) + (", …" if len(roles) > 3 else "")


def _system(content: str) -> Message:
    return {"role": "system", "content": content}


def _user(content: str) -> Message:
    return {"role": "user", "content": content}


def _assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}
