"""What is written once must be read everywhere."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlserve_operator.traffic import compact

# YAML reads a key up to 1,024 characters, and six of them write one of these; names of fields are far shorter.
texts = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_characters="*\x7f\x85\u2028\u2029"), max_size=150
)
json_data = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
common = {"often": [{"interval": "1s"}], "seldom": [{"interval": "5s"}], "often_not": {}}
references = st.sampled_from([f"*{name}" for name in common])


@given(st.lists(json_data | references | st.dictionaries(texts, references, max_size=4), max_size=6))
def test_reading_gives_what_was_meant(value: list[Any]) -> None:
    def meant(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: meant(inner) for key, inner in item.items()}
        if isinstance(item, list):
            return [meant(inner) for inner in item]
        return common[item[1:]] if isinstance(item, str) and item.startswith("*") else item

    assert yaml.safe_load(compact.dump(value, common)) == meant(value)


def test_what_nobody_refers_to_is_not_written() -> None:
    assert compact.dump({"a": 1}, common) == '{"a":1}'
