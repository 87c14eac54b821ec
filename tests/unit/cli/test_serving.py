"""What `mlserve status` and `mlserve predict` make of resources and of what users type."""

from __future__ import annotations

import base64
import contextlib

import pytest
from click.testing import CliRunner

from mlserve_cli.errors import CommandError
from mlserve_cli.kubectl import Kubectl
from mlserve_cli.main import main
from mlserve_cli.output import console, table
from mlserve_cli.serving import header, payload, row, settled

READY = {"type": "Ready", "status": "True", "reason": "Promoted", "message": "serving version 2"}


def resource(**status: object) -> dict[str, object]:
    return {"metadata": {"name": "digits", "generation": 3}, "status": status}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("[1, 2.5]", {"features": [1, 2.5]}, id="a row"),
        pytest.param('{"entity": "u42"}', {"entity": "u42"}, id="an object is sent as it is"),
    ],
)
def test_payload_of_json(text: str, expected: object) -> None:
    assert payload(text) == expected


def test_payload_of_files(tmp_path) -> None:
    image, rows = tmp_path / "seven.png", tmp_path / "row.json"
    image.write_bytes(b"\x89PNG...")
    rows.write_text("[3, 4]")
    assert base64.b64decode(payload(str(image))["image"]) == b"\x89PNG..."
    assert payload(str(rows)) == {"features": [3, 4]}


def test_payload_of_a_file_that_holds_no_json_names_the_file(tmp_path) -> None:
    for name, content in (("empty.json", b""), ("utf16.json", b"\xff\xfe[\x001\x00")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CommandError, match=f"{name} does not hold JSON"):
            payload(str(tmp_path / name))


@pytest.mark.parametrize("text", ["seven.png", "{", "3"], ids=["missing file", "broken JSON", "neither row nor object"])
def test_payload_refuses_with_what_would_have_worked(text: str) -> None:
    with pytest.raises(CommandError, match=r"neither .*(file nor JSON|row \(a list\) nor an object)"):
        payload(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(resource(observedGeneration=3, conditions=[READY]), True, id="observed and quiet"),
        pytest.param(resource(observedGeneration=2, conditions=[READY]), False, id="spec not observed yet"),
        pytest.param(
            resource(observedGeneration=3, conditions=[READY, {"type": "Reconciling", "status": "True"}]),
            False,
            id="still reconciling",
        ),
        pytest.param(resource(), False, id="never seen"),
    ],
)
def test_settled(value: dict[str, object], *, expected: bool) -> None:
    assert settled(value) is expected


def test_row_of_a_new_resource_waits_for_the_operator() -> None:
    cells = row({"metadata": {"name": "digits"}})
    assert cells[:3] == ("digits", "Pending", "Unknown")
    assert cells[-1] == "waiting for the operator"


def test_row_shows_the_canary_with_its_weight() -> None:
    value = resource(
        phase="Progressing",
        stable={"revision": "digits-1", "version": "1"},
        canary={"revision": "digits-2", "version": "2", "weight": 25},
        conditions=[READY],
    )
    assert row(value)[1:6] == ("Progressing", "True", "1", "2", 25)


def test_header_is_split_at_its_first_colon() -> None:
    assert header("x-mlserve-preview: a:b") == ("x-mlserve-preview", "a:b")


@pytest.mark.parametrize("text", ["canary", ": canary", "two words: x", "x-user: ü", "x-user: a\r\nx-other: b"])
def test_header_of_another_form_says_which_form(text: str) -> None:
    with pytest.raises(CommandError, match="expected NAME: VALUE"):
        header(text)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        pytest.param(("--url", "http://[::"), 1, "did not answer", id="no URL"),
        pytest.param(("--url", "http://127.0.0.1:1"), 1, "did not answer", id="nobody there"),
        pytest.param(("--timeout", "-1"), 2, "--timeout", id="negative timeout"),
        pytest.param(("--url", "http://127.0.0.1:1", "--header", "x"), 1, "NAME: VALUE", id="header"),
    ],
)
def test_predict_says_what_was_wrong(arguments: tuple[str, ...], status: int, said: str) -> None:
    done = CliRunner().invoke(main, ["predict", "digits", "[1]", *arguments], catch_exceptions=False)
    assert (done.exit_code, said in done.output) == (status, True), done.output


@pytest.mark.parametrize("arguments", [("digits", "-A"), ("-w",)], ids=["a name everywhere", "watch nobody"])
def test_status_refuses_what_it_would_ignore(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, ["status", *arguments])
    assert (done.exit_code, "Usage" in done.output) == (2, True)


def test_a_table_prints_brackets_as_they_are() -> None:
    with console.capture() as captured:
        console.print(table(("MESSAGE",), [("expected map[string]interface{}, see [a-z]",)]))
    assert "map[string]interface{}, see [a-z]" in captured.get()


def seen(phase: str, ready: str, message: str, *, moving: bool) -> dict[str, object]:
    conditions = [{"type": "Ready", "status": ready, "reason": phase, "message": message}]
    conditions += [{"type": "Reconciling", "status": "True"}] if moving else []
    return resource(phase=phase, observedGeneration=3, conditions=conditions)


CLIMB = [
    seen("Progressing", "False", "digits-2 gets 20 % of requests", moving=True),
    seen("Progressing", "False", "digits-2 gets 20 % of requests", moving=True),
    seen("Progressing", "False", "digits-2 gets 50 % of requests", moving=True),
]


@pytest.mark.parametrize(
    ("end", "status"),
    [
        pytest.param(seen("Healthy", "True", "digits-2 serves all requests", moving=False), 0, id="promoted"),
        pytest.param(seen("RolledBack", "False", "digits-1 serves; errors", moving=False), 1, id="rolled back"),
    ],
)
def test_a_watched_rollout_is_a_line_for_every_change_and_an_exit_status(
    monkeypatch: pytest.MonkeyPatch, end: dict[str, object], status: int
) -> None:
    monkeypatch.setattr(Kubectl, "watch", lambda *_: contextlib.nullcontext(iter([*CLIMB, end])))
    done = CliRunner().invoke(main, ["rollout", "status", "digits", "--watch"], catch_exceptions=False)
    assert done.exit_code == status
    assert done.stdout.count("20 %") == done.stdout.count("50 %") == 1
    assert ("mlserve: digits: RolledBack: digits-1 serves; errors" in done.output) is bool(status)
