"""Words of a statement as the server that ran it read them: quoting depends on its sql_mode.

Unlike sqlglot's tokenizer this one knows ANSI_QUOTES and NO_BACKSLASH_ESCAPES, and it never fails: a quote without its
partner ends with the text. It is for finding names and clauses in statements that a server has already accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# Bits of sql_mode, the same in MySQL (sql/system_variables.h) and MariaDB (sql/sql_class.h).
ANSI_QUOTES: Final = 4
NO_BACKSLASH_ESCAPES: Final = 1 << 20

_SPACE: Final = re.compile(
    r"(?:\s+|--(?=\s|$)[^\n]*|\#[^\n]*|/\*(?![!M]).*?(?:\*/|$)|/\*M(?!!).*?(?:\*/|$))+", re.DOTALL
)
_OPEN: Final = re.compile(r"/\*M?!\d*")  # an executable comment's content is a part of the statement
_WORD: Final = re.compile(r"[\w$]+")
_MARK: Final = "mark"


@dataclass(frozen=True)
class Word:
    """kind: "word" (unquoted), "name" (quoted identifier), "string" or "sign". text: without quotes. start, end: offsets."""

    kind: str
    text: str
    start: int
    end: int

    def says(self, *words: str) -> bool:
        """Whether it is one of these keywords or signs."""
        return self.kind in ("word", "sign") and self.text.upper() in words

    @property
    def names(self) -> bool:
        """Whether it can be an identifier."""
        return self.kind in ("word", "name")


def scan(text: str, sql_mode: int = 0) -> Iterator[Word]:
    return (word for word in _marked(text, sql_mode) if word.kind != _MARK)


def bare(text: str, sql_mode: int = 0) -> str:
    """The statement with what stands in executable comments as a part of it. Strings, names and plain comments stay as they
    are, whatever stands in them."""
    if "/*!" not in text and "/*M!" not in text:
        return text
    parts, at = [], 0
    for word in _marked(text, sql_mode):
        if word.kind == _MARK:
            parts += [text[at : word.start], " "]
            at = word.end
    return "".join([*parts, text[at:]])


def _marked(text: str, sql_mode: int) -> Iterator[Word]:
    """The words, and between them where executable comments begin and end."""
    at, end, opened = 0, len(text), 0
    while at < end:
        if (space := _SPACE.match(text, at)) is not None:
            at = space.end()
        elif (comment := _OPEN.match(text, at)) is not None:
            yield Word(_MARK, comment.group(), at, comment.end())
            at, opened = comment.end(), opened + 1
        elif opened and text.startswith("*/", at):
            yield Word(_MARK, "*/", at, at + 2)
            at, opened = at + 2, opened - 1
        elif text[at] in "`'\"":
            word = _quoted(text, at, sql_mode)
            yield word
            at = word.end
        elif (found := _WORD.match(text, at)) is not None:
            yield Word("word", found.group(), at, found.end())
            at = found.end()
        else:
            yield Word("sign", text[at], at, at + 1)
            at += 1


def _quoted(text: str, start: int, sql_mode: int) -> Word:
    quote = text[start]
    name = quote == "`" or (quote == '"' and bool(sql_mode & ANSI_QUOTES))
    escapes = not name and not sql_mode & NO_BACKSLASH_ESCAPES
    at, parts = start + 1, []
    while at < len(text):
        char = text[at]
        if char == quote and text[at + 1 : at + 2] == quote:
            parts.append(quote)
            at += 2
        elif char == quote:
            break
        elif char == "\\" and escapes:
            parts.append(text[at : at + 2])
            at += 2
        else:
            parts.append(char)
            at += 1
    return Word("name" if name else "string", "".join(parts), start, min(at + 1, len(text)))


def mode_bits(names: str) -> int:
    """The bits that matter here, of a sql_mode given by its names."""
    found = {name.strip().upper() for name in names.split(",")}
    return (ANSI_QUOTES if "ANSI_QUOTES" in found else 0) | (
        NO_BACKSLASH_ESCAPES if "NO_BACKSLASH_ESCAPES" in found else 0
    )
