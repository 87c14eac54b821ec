"""The syntax of label selectors (``a=b,c in (x,y),!d``) and the words in which a malformed one is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from mlserve_local.apiserver.errors import bad_request
from mlserve_local.apiserver.validation import label_value, qualified_name

_TOKEN: Final = re.compile(r"\s*(==|!=|[=!(),<>]|[^\s=!(),<>]+)")
_SPECIAL: Final = frozenset(["==", "!=", "=", "!", "(", ")", ",", "<", ">", ""])
_OPERATORS: Final = {"in": "in", "notin": "notin", "=": "in", "==": "in", "!=": "notin", ">": ">", "<": "<"}
_EXPECTED: Final = "in, notin, =, ==, !=, gt, lt"

Term = tuple[str, str, frozenset[str]]


class _SyntaxError(Exception):
    """A term that cannot be read."""


def _found(token: str, expected: str) -> _SyntaxError:
    return _SyntaxError(f"found '{token}', expected: {expected}")


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[str] = [*_TOKEN.findall(text), ""]
        self._position = 0

    def peek(self) -> str:
        return self._tokens[self._position]

    def take(self) -> str:
        token = self._tokens[self._position]
        self._position = min(self._position + 1, len(self._tokens) - 1)
        return token

    def terms(self) -> Iterable[Term]:
        """All terms; the message of an error says which token was not expected."""
        while self.peek():
            if self.peek() in _SPECIAL - {"!"}:
                raise _found(self.peek(), "!, identifier, or 'end of string'")
            try:
                yield self._term()
            except _SyntaxError as error:
                raise _SyntaxError(f"unable to parse requirement: {error}") from None
            separator = self.take()
            if separator not in ("", ","):
                raise _found(separator, "',' or 'end of string'")
            if separator and self.peek() in _SPECIAL - {"!"}:
                raise _found(self.peek(), "identifier after ','")

    def _term(self) -> Term:
        key = self.take()
        absent = key == "!"
        if absent:
            key = self.take()
        if key in _SPECIAL:
            raise _found(key, "identifier")
        problems = qualified_name(key)
        if problems:
            raise _SyntaxError(f'<nil>: Invalid value: "{key}": {"; ".join(problems)}')
        if self.peek() in ("", ","):
            return key, "!" if absent else "exists", frozenset()
        written = self.take()
        if written not in _OPERATORS:
            raise _found(written, _EXPECTED)
        values = self._values() if written in ("in", "notin") else [self._exact()]
        _check_values(key, written, values)
        return key, _OPERATORS[written], frozenset(values)

    def _exact(self) -> str:
        if self.peek() in ("", ","):
            return ""
        token = self.take()
        if token in _SPECIAL:
            raise _found(token, "identifier")
        return token

    def _values(self) -> list[str]:
        opening = self.take()
        if opening != "(":
            raise _SyntaxError(f"found '{opening}' expected: '('")
        if self.peek() == ")":
            self.take()
            return [""]
        if self.peek() in _SPECIAL - {","}:
            raise _found(self.peek(), "',', ')' or identifier")
        values = [self._member()]
        while (separator := self.take()) == ",":
            values.append(self._member())
        if separator != ")":
            raise _found(separator, "',' or ')'")
        return values

    def _member(self) -> str:
        if self.peek() in (",", ")"):
            return ""
        if self.peek() in _SPECIAL:
            raise _found(self.peek(), "',', or identifier")
        return self.take()


def _check_values(key: str, operator: str, values: list[str]) -> None:
    found: list[str] = []
    for index, value in enumerate(sorted(values)):
        if operator in "<>" and not re.fullmatch(r"[+-]?\d+", value):
            text = "for 'Gt', 'Lt' operators, the value must be an integer"
            found.append(f'values[{index}]: Invalid value: "{value}": {text}')
        problems = label_value(value)
        if problems:
            found.append(f'values[{index}][{key}]: Invalid value: "{value}": {"; ".join(problems)}')
    if found:
        raise _SyntaxError(found[0] if len(found) == 1 else f"[{', '.join(found)}]")


def parse(text: str) -> list[Term]:
    """The terms as (key, ``in|notin|exists|!|>|<``, values); 400 if the text is malformed."""
    try:
        return list(_Parser(text).terms())
    except _SyntaxError as error:
        raise bad_request(str(error)) from None
