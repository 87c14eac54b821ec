from __future__ import annotations

from pathlib import Path

import pytest

from mlserve_operator.settings import Settings, build_parser, load_settings, settings_table

ROOT = Path(__file__).parents[3]


def test_defaults() -> None:
    assert load_settings([], {}) == Settings()


def test_a_flag_wins_over_the_environment() -> None:
    environment = {"MLSERVE_OPERATOR_DNS_RESOLVER": "127.0.0.1:53", "MLSERVE_OPERATOR_WORKERS": "3"}
    settings = load_settings(["--workers", "5"], environment)
    assert (settings.dns_resolver, settings.workers) == ("127.0.0.1:53", 5)


def test_lists_are_repeated_or_separated_by_commas() -> None:
    assert load_settings(["--namespace", "a", "--namespace", "b"], {}).namespaces == ("a", "b")
    assert load_settings([], {"MLSERVE_OPERATOR_NAMESPACE": "a, b"}).namespaces == ("a", "b")


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_switches(text: str, expected: bool) -> None:
    assert load_settings([], {"MLSERVE_OPERATOR_NETWORK_POLICY": text}).network_policy is expected
    assert load_settings(["--no-network-policy"], {}).network_policy is False


def test_a_wrong_value_names_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load_settings([], {"MLSERVE_OPERATOR_WORKERS": "many"})
    assert "--workers" in capsys.readouterr().err


def test_the_documentation_has_the_table_of_the_parser() -> None:
    assert settings_table() in (ROOT / "docs" / "operator.md").read_text(encoding="utf-8")
    assert all(action.help for action in build_parser()._actions)
