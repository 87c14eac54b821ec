"""``x-kubernetes-validations``: rules in the Common Expression Language on custom resources.

The evaluator is the ``common-expression-language`` package; this module adds what Kubernetes has beyond it (quantities,
URLs, regular expressions, list helpers, ``format``, optional field selection) and decides which rules run: transition
rules (``oldSelf``) only where there is an old value, unchanged values not at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import cel

from mlserve_local.apiserver import times
from mlserve_local.apiserver.cel_library import new_context
from mlserve_local.apiserver.errors import OMITTED, FieldError, Obj
from mlserve_local.apiserver.fieldsets import element_name
from mlserve_local.apiserver.schema import MISSING, Schema

_KEYWORDS: Final = frozenset(
    [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
_REASONS: Final = {
    "FieldValueForbidden": "Forbidden",
    "FieldValueRequired": "Required",
    "FieldValueDuplicate": "Duplicate",
}
_OPTIONAL_SELECT: Final = re.compile(r"((?:[A-Za-z_]\w*)(?:\.[A-Za-z_]\w*|\[[^\]]*\])*)\.\?([A-Za-z_]\w*)")
_OPTIONAL_INDEX: Final = re.compile(r"((?:[A-Za-z_]\w*)(?:\.[A-Za-z_]\w*|\[[^\]]*\])*)\[\?([^\]]*)\]")


class RuleError(ValueError):
    """The expression cannot be compiled; the text is the compiler's."""


def rewrite(expression: str) -> str:
    """Express optional selection (``a.?b``, ``a[?k]``), which the evaluator lacks, by ``has`` and ``in``.

    A chain ``a.?b.?c`` becomes nested calls of ``optional_select``, a function of cel_library.
    """
    previous = ""
    while previous != expression:
        previous = expression
        expression = _OPTIONAL_INDEX.sub(r"optional_select(\1, \2)", expression)
        expression = _OPTIONAL_SELECT.sub(r'optional_select(\1, "\2")', expression)
        expression = _chain(expression)
    return expression


def _chain(expression: str) -> str:
    """Continue a chain behind an ``optional_select(...)`` call: ``.?name`` and plain ``.name`` select through it."""
    start = expression.rfind("optional_select(")
    while start >= 0:
        end = _closing(expression, start + len("optional_select"))
        call, rest = expression[start:end], expression[end:]
        if match := re.match(r"\.\?([A-Za-z_]\w*)", rest):
            return f'{expression[:start]}optional_select({call}, "{match[1]}"){rest[match.end() :]}'
        if match := re.match(r"\[\?([^\]]*)\]", rest):
            return f"{expression[:start]}optional_select({call}, {match[1]}){rest[match.end() :]}"
        if (match := re.match(r"\.([A-Za-z_]\w*)(?!\w*\()", rest)) and match[1] not in (
            "orValue",
            "hasValue",
            "value",
            "or",
        ):
            return f'{expression[:start]}optional_select({call}, "{match[1]}"){rest[match.end() :]}'
        start = expression.rfind("optional_select(", 0, start)
    return expression


def _closing(text: str, opening: int) -> int:
    depth = 0
    for index in range(opening, len(text)):
        depth += (text[index] == "(") - (text[index] == ")")
        if depth == 0:
            return index + 1
    return len(text)


def compile_expression(expression: str) -> cel.Program:
    """Compile, or raise RuleError with the compiler's text."""
    try:
        return cel.compile(rewrite(expression))
    except (ValueError, RuntimeError) as error:
        raise RuleError(str(error)) from None


_STRINGS: Final = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_CHAIN: Final = re.compile(r"(?<![\w.])(?:self|oldSelf)((?:\.[A-Za-z_]\w*)+)(\s*\()?")


def check_fields(expression: str, source: Obj) -> None:
    """Refuse fields that the schema does not declare, in plain chains such as ``self.spec.replicas``.

    The evaluator has no types, so this is all of the type checking a real API server does that can be had.
    """
    root = (
        {**source, "properties": {**_SYSTEM_FIELDS, **(source.get("properties") or {})}}
        if "properties" in source
        else source
    )
    for match in _CHAIN.finditer(_STRINGS.sub("''", expression)):
        names = match[1].strip(".").split(".")
        schema: Any = root
        for name in names[:-1] if match[2] else names:
            properties = schema.get("properties") if isinstance(schema, dict) else None
            if not properties or schema.get("x-kubernetes-preserve-unknown-fields"):
                break
            known = {escape(k): v for k, v in properties.items()}
            if name not in known:
                raise RuleError(f"undefined field '{name}'")
            schema = known[name]


_SYSTEM_FIELDS: Final[Obj] = {"apiVersion": {}, "kind": {}, "metadata": {}}


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled rule."""

    source: Obj
    program: cel.Program
    message: cel.Program | None
    uses_old: bool


def compile_rules(schema: Schema) -> dict[int, list[Rule]]:
    """The rules of a type and of everything inside it, by the identity of the Schema they belong to."""
    found: dict[int, list[Rule]] = {}
    for node in walk(schema):
        rules = [_compile_rule(source) for source in node.raw.get("x-kubernetes-validations") or ()]
        if rules:
            found[id(node)] = rules
    return found


def walk(schema: Schema) -> Iterator[Schema]:
    """A structural schema and all types inside it."""
    if schema.name:
        return
    yield schema
    for child in [*schema.properties.values(), schema.items, schema.values]:
        if child is not None:
            yield from walk(child)


def _compile_rule(source: Obj) -> Rule:
    program = compile_expression(source.get("rule", ""))
    text = source.get("messageExpression")
    return Rule(source, program, compile_expression(text) if text else None, "oldSelf" in program.variables())


def escape(name: str) -> str:
    """The identifier under which a property is known in rules."""
    if name in _KEYWORDS:
        return f"__{name}__"
    text = name.replace("__", "__underscores__")
    for char, word in ((".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")):
        text = text.replace(char, word)
    return text


def to_cel(value: Any, schema: Schema) -> Any:
    """A value with CEL's types: times and durations by format, property names escaped."""
    if isinstance(value, dict):
        named = schema.properties
        return (
            {(escape(k) if k in named else k): to_cel(v, schema.child(k) or schema) for k, v in value.items()}
            if named or schema.values
            else value
        )
    if isinstance(value, list):
        return [to_cel(v, schema.items) for v in value] if schema.items is not None else value
    if isinstance(value, str) and schema.format:
        return _formatted(value, schema.format)
    if isinstance(value, int) and schema.type == "number" and not isinstance(value, bool):
        return float(value)
    return value


def _formatted(value: str, format_: str) -> Any:
    try:
        if format_ == "date-time":
            return times.parse(value)
        if format_ == "date":
            return times.parse(value + "T00:00:00Z")
        if format_ == "duration":
            return parse_duration(value)
    except ValueError:
        return value
    return value


def parse_duration(text: str) -> timedelta:
    """Go's duration syntax: ``1h30m``, ``250ms``."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
    parts = re.findall(r"([\d.]+)(h|ms|m|s|us|µs|ns)", text)
    if "".join(a + b for a, b in parts) != text.lstrip("+-") or not parts:
        raise ValueError(f"{text!r} is not a duration; 1h30m would work")
    seconds = sum(float(number) * units[unit] for number, unit in parts)
    return timedelta(seconds=-seconds if text.startswith("-") else seconds)


class RuleRunner:
    """Runs the rules of one custom type."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._rules = compile_rules(schema)
        self._below = {id(n) for n in walk(schema) if any(id(c) in self._rules for c in walk(n))}

    def __bool__(self) -> bool:
        return bool(self._rules)

    def errors(self, obj: Obj, old: Obj | None) -> list[FieldError]:
        """The rules an object breaks."""
        found: list[FieldError] = []
        self._visit(obj, self._schema, "", old if old is not None else MISSING, found)
        return found

    def _visit(self, value: Any, schema: Schema, path: str, old: Any, found: list[FieldError]) -> None:
        if id(schema) not in self._below or value is None:
            return
        unchanged = old is not MISSING and value == old
        for rule in self._rules.get(id(schema), ()):
            error = self._run(rule, value, old, schema, path, unchanged)
            if error is not None:
                found.append(error)
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            for key, member in value.items():
                child = schema.child(key)
                if child is not None:
                    self._visit(member, child, f"{path}.{key}" if path else key, before.get(key, MISSING), found)
        elif isinstance(value, list) and schema.items is not None:
            self._visit_list(value, schema, path, old, found)

    def _visit_list(self, value: list[Any], schema: Schema, path: str, old: Any, found: list[FieldError]) -> None:
        items = schema.items
        if items is None:
            return
        correlated: dict[str, Any] = {}
        if schema.list_type == "map" and isinstance(old, list):
            correlated = {element_name(v, schema): v for v in old}
        for index, item in enumerate(value):
            was = correlated.get(element_name(item, schema), MISSING) if correlated else MISSING
            self._visit(item, items, f"{path}[{index}]", was, found)

    def _run(self, rule: Rule, value: Any, old: Any, schema: Schema, path: str, unchanged: bool) -> FieldError | None:
        optional = bool(rule.source.get("optionalOldSelf"))
        if rule.uses_old and old is MISSING and not optional:
            return None
        if unchanged and not rule.uses_old:
            return None
        context = new_context()
        context.add_variable("self", to_cel(value, schema))
        if rule.uses_old:
            before = None if old is MISSING else to_cel(old, schema)
            wrapped = cel.OptionalValue.none() if old is MISSING else cel.OptionalValue.of(before)
            context.add_variable("oldSelf", wrapped if optional else before)
        shown = OMITTED if isinstance(value, dict | list) else value
        place = path + rule.source.get("fieldPath", "") if path else rule.source.get("fieldPath", "").lstrip(".")
        try:
            if rule.program.execute(context) is True:
                return None
        except Exception as error:  # noqa: BLE001 - the evaluator raises whatever the rule provoked
            text = f"rule evaluation error for rule {rule.source['rule']!r}: {error}"
            return FieldError("Invalid", place or "<nil>", shown, text)
        return FieldError(
            _REASONS.get(rule.source.get("reason", ""), "Invalid"), place or "<nil>", shown, _message(rule, context)
        )


def _message(rule: Rule, context: cel.Context) -> str:
    if rule.message is not None:
        try:
            text = rule.message.execute(context)
        except Exception:  # noqa: BLE001 - then the fixed message has to do
            text = None
        if isinstance(text, str) and text.strip() and "\n" not in text:
            return text
    message = rule.source.get("message")
    return str(message) if message else f"failed rule: {rule.source['rule']}"


Evaluator = Callable[[Obj, Obj | None], list[FieldError]]
