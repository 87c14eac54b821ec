"""Prediction ids: what goes in comes out, and nothing else is accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_runtime.errors import InvalidInputError, NotFoundError
from mlserve_runtime.feedback.ledger import LIFETIME_SECONDS, Ledger, class_name
from mlserve_runtime.feedback.tokens import Prediction, Signer, TokenError, new_nonce

NOW = 1_800_000_000
KEY = "k" * 32


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    directory = tmp_path_factory.mktemp("keys")
    (directory / "current").write_text(KEY)
    return Signer(directory)


def prediction(**changes: Any) -> Prediction:
    values = {"revision": "m-1", "lane": "live", "issued": NOW, "class_index": 3, "nonce": new_nonce()}
    return Prediction(**{**values, **changes})


@given(
    st.text(min_size=1, max_size=63),
    st.sampled_from([None, "live", "mirror"]),
    st.integers(-1, 2**31 - 1),
    st.binary(min_size=6, max_size=6),
)
def test_round_trip(signer: Signer, revision: str, lane: Any, index: int, nonce: bytes) -> None:
    if not revision.isprintable():
        revision = "m"
    issued = Prediction(revision, lane, NOW, index, nonce)
    assert signer.verify(signer.issue(issued), now=NOW + 5, lifetime=60) == issued


@given(st.integers(0, 200), st.integers(1, 255))
def test_any_changed_byte_is_noticed(signer: Signer, place: int, flip: int) -> None:
    import base64

    token = signer.issue(prediction(nonce=b"abcdef"))
    data = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    data[place % len(data)] ^= flip
    with pytest.raises(TokenError):
        signer.verify(base64.urlsafe_b64encode(bytes(data)).rstrip(b"=").decode(), now=NOW, lifetime=60)


@given(st.text(max_size=600))
def test_arbitrary_text_is_no_id(signer: Signer, text: str) -> None:
    with pytest.raises(TokenError):
        signer.verify(text, now=NOW, lifetime=60)


@pytest.mark.parametrize("now", [NOW + 61, NOW - 61], ids=["expired", "from-the-future"])
def test_ids_have_a_lifetime(signer: Signer, now: int) -> None:
    with pytest.raises(TokenError, match="older than"):
        signer.verify(signer.issue(prediction()), now=now, lifetime=60)


def test_short_keys_are_no_keys(tmp_path: Path) -> None:
    (tmp_path / "current").write_text("short")
    assert not Signer(tmp_path).active
    with pytest.raises(TokenError):
        Signer(tmp_path).issue(prediction())


def test_memory_of_reports_is_bounded(signer: Signer) -> None:
    ledger = Ledger(signer, remembered=2)

    def report(token: str, now: float = NOW) -> bool:
        return ledger.report(token, label="a", reward=None, classes=("a", "b", "c", "d"), now=now)[1]

    tokens = [signer.issue(prediction()) for _ in range(3)]
    assert [report(token) for token in tokens] == [True, True, True]
    assert report(tokens[2]) is False
    assert report(tokens[0]) is True  # the oldest was forgotten
    assert ledger.counts("m-1", "live").confusion == {"a": {"d": 4}}
    with pytest.raises(NotFoundError):
        report(tokens[0], NOW + LIFETIME_SECONDS + 1)


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), 1e7])
def test_rewards_are_numbers_of_a_sensible_size(signer: Signer, reward: float) -> None:
    with pytest.raises(InvalidInputError):
        Ledger(signer).report(signer.issue(prediction()), label=None, reward=reward, classes=(), now=NOW)


@pytest.mark.parametrize(("label", "name"), [("b", "b"), (0, "a"), (1, "b")])
def test_labels_by_name_or_index(label: Any, name: str) -> None:
    assert class_name(label, ("a", "b")) == name


@pytest.mark.parametrize("label", ["c", 2, -1, True, "0"])
def test_other_labels_are_refused_with_the_classes(label: Any) -> None:
    with pytest.raises(InvalidInputError, match="a, b"):
        class_name(label, ("a", "b"))
