"""CEL functions that Kubernetes has and the evaluator's standard library has not.

Quantities travel through CEL as a map with one private key, since the evaluator has no opaque types.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import cel
from cel.stdlib import add_stdlib_to_context

from mlserve_local.apiserver import quantity

_QUANTITY: Final = "$quantity"
_URL: Final = "$url"
_SEMVER: Final = "$semver"
_IP: Final = "$ip"
_CIDR: Final = "$cidr"


def _amount(value: Any) -> Decimal:
    if isinstance(value, dict) and _QUANTITY in value:
        return Decimal(value[_QUANTITY])
    if isinstance(value, dict) and _SEMVER in value:
        return Decimal(value[_SEMVER])
    return quantity.parse(value)


def _quantity(text: Any) -> dict[str, str]:
    return {_QUANTITY: str(quantity.parse(text))}


def _semver(text: str) -> dict[str, str]:
    match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)(?:[-+].*)?", text)
    if not match:
        raise ValueError(f"invalid semantic version {text!r}")
    major, minor, patch = (int(p) for p in match.groups())
    return {_SEMVER: str(major * 10**12 + minor * 10**6 + patch)}


def _compare(a: Any, b: Any) -> int:
    left, right = _amount(a), _amount(b)
    return (left > right) - (left < right)


def _url(text: str) -> dict[str, str]:
    if not _is_url(text):
        raise ValueError(f"URL parse error during conversion from string: {text}")
    return {_URL: text}


def _is_url(text: Any) -> bool:
    return isinstance(text, str) and " " not in text and bool(urlsplit(text).scheme or text.startswith("/"))


def _ip(value: Any) -> dict[str, str]:
    """``ip('10.0.0.1')``, or ``.ip()`` of a network."""
    if isinstance(value, dict):
        return {_IP: str(_network(value).network_address) if _CIDR not in value else value[_CIDR].partition("/")[0]}
    return {_IP: str(ipaddress.ip_address(value))}


def _address(value: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(value[_IP] if isinstance(value, dict) else value)


def _cidr(text: str) -> dict[str, str]:
    if "/" not in text:
        raise ValueError(f"network address parse error during conversion from string: {text}")
    ipaddress.ip_network(text, strict=False)
    return {_CIDR: text}


def _network(value: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(value[_CIDR] if isinstance(value, dict) else value, strict=False)


def _contains_network(outer: Any, inner: Any) -> bool:
    left, right = _network(outer), _network(inner)
    return left.version == right.version and left.supernet_of(right)  # type: ignore[arg-type]


def _succeeds(call: Callable[[Any], Any]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        try:
            call(value)
        except (ValueError, TypeError):
            return False
        return True

    return check


def _index_of(haystack: Any, needle: Any, offset: int = 0) -> int:
    if isinstance(haystack, str):
        return haystack.find(needle, offset)
    return haystack.index(needle) if needle in haystack else -1


def _last_index_of(haystack: Any, needle: Any) -> int:
    if isinstance(haystack, str):
        return haystack.rfind(needle)
    return len(haystack) - 1 - haystack[::-1].index(needle) if needle in haystack else -1


def _format(template: str, arguments: list[Any]) -> str:
    values = iter(arguments)

    def one(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        value, verb = next(values), match[2]
        if verb == "s":
            return _text(value)
        if verb == "d":
            return str(int(value))
        if verb == "f":
            return f"{float(value):.{match[1][1:] if match[1] else 6}f}"
        return format(int(value), {"b": "b", "o": "o", "x": "x", "X": "X"}.get(verb, "s"))

    return re.sub(r"%(?:(\.\d+)?([sdfboxX])|%)", one, template)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_text(v) for v in value) + "]"
    return str(value)


def _optional_select(container: Any, key: Any) -> Any:
    if isinstance(container, cel.OptionalValue):
        if not container.has_value():
            return container
        container = container.value()
    try:
        return cel.OptionalValue.of(container[key])
    except (KeyError, IndexError, TypeError):
        return cel.OptionalValue.none()


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = [m[0] for m in re.finditer(pattern, text)]
    return found if limit < 0 else found[:limit]


def _find(text: str, pattern: str) -> str:
    match = re.search(pattern, text)
    return match[0] if match else ""


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "quantity": _quantity,
    "isQuantity": _succeeds(quantity.parse),
    "semver": _semver,
    "isSemver": _succeeds(_semver),
    "isLessThan": lambda a, b: _compare(a, b) < 0,
    "isGreaterThan": lambda a, b: _compare(a, b) > 0,
    "compareTo": _compare,
    "asInteger": lambda q: int(_amount(q)),
    "isInteger": lambda q: _amount(q) % 1 == 0,
    "asApproximateFloat": lambda q: float(_amount(q)),
    "sign": lambda q: _compare(q, "0"),
    "add": lambda a, b: {_QUANTITY: str(_amount(a) + _amount(b))},
    "sub": lambda a, b: {_QUANTITY: str(_amount(a) - _amount(b))},
    "url": _url,
    "isURL": _is_url,
    "getScheme": lambda u: urlsplit(u[_URL]).scheme,
    "getHost": lambda u: urlsplit(u[_URL]).netloc.rpartition("@")[2],
    "getHostname": lambda u: urlsplit(u[_URL]).hostname or "",
    "getPort": lambda u: str(urlsplit(u[_URL]).port or ""),
    "getEscapedPath": lambda u: urlsplit(u[_URL]).path,
    "getQuery": lambda u: parse_qs(urlsplit(u[_URL]).query),
    "isIP": _succeeds(ipaddress.ip_address),
    "isCIDR": _succeeds(lambda t: ipaddress.ip_network(t, strict=False) if "/" in t else ipaddress.ip_network("")),
    "ip": _ip,
    "family": lambda a: _address(a).version,
    "isLoopback": lambda a: _address(a).is_loopback,
    "isUnspecified": lambda a: _address(a).is_unspecified,
    "isLinkLocalUnicast": lambda a: _address(a).is_link_local,
    "isGlobalUnicast": lambda a: (
        not (
            _address(a).is_loopback
            or _address(a).is_multicast
            or _address(a).is_unspecified
            or _address(a).is_link_local
        )
    ),
    "cidr": _cidr,
    "containsIP": lambda network, a: _address(a) in _network(network),
    "containsCIDR": _contains_network,
    "prefixLength": lambda network: _network(network).prefixlen,
    "masked": lambda network: {_CIDR: str(_network(network))},
    "find": _find,
    "findAll": _find_all,
    "indexOf": _index_of,
    "lastIndexOf": _last_index_of,
    "isSorted": lambda values: all(a <= b for a, b in pairwise(values)),
    "format": _format,
    "optional_select": _optional_select,
}


def new_context() -> cel.Context:
    """An empty context with every function a rule may call."""
    context = cel.Context()
    add_stdlib_to_context(context)
    for name, function in FUNCTIONS.items():
        context.add_function(name, function)
    return context
