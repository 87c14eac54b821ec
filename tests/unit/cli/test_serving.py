"""What `mlserve status` and `mlserve predict` make of resources and of what users type."""

from __future__ import annotations

import base64

import pytest

from mlserve_cli.errors import CommandError
from mlserve_cli.serving import payload, row, settled

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
