"""Profiles and counters: what is binned where, and that counts can be added in any order."""

from __future__ import annotations

import gc
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlserve_core.statistics import ProfileCounter, ProfileError, ReferenceProfile, build_profile, panes
from mlserve_core.statistics.profile import MAX_EDGES, NumericFeature, numeric_edges
from mlserve_core.wire import ProfileCounts

RNG = np.random.RandomState(7)
ROWS = RNG.standard_normal((600, 4)).astype(np.float32)
PROBABILITIES = RNG.dirichlet(np.ones(3), 600)
PROFILE = build_profile(ROWS, probabilities=PROBABILITIES, labels=PROBABILITIES.argmax(axis=1))

EDGES = [edge for feature in PROFILE.features for edge in feature.edges]
awkward = st.one_of(
    st.floats(width=32, allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 3.4e38]),
    st.sampled_from(EDGES).map(np.float32),
)


def counted(profile: ReferenceProfile, rows: np.ndarray, **more: np.ndarray) -> ProfileCounts:
    counter = ProfileCounter(profile)
    counter.update(rows, **more)
    return counter.counts()


def test_counting_the_reference_gives_the_reference() -> None:
    counts = counted(PROFILE, ROWS, probabilities=PROBABILITIES)
    for feature in PROFILE.features:
        assert counts.features[feature.name].counts == feature.counts
    assert counts.predictions == PROFILE.predictions.counts
    assert counts.confidence == PROFILE.predictions.confidence
    assert counts.entropy == PROFILE.predictions.entropy
    assert PROFILE.predictions.accuracy == 1.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(awkward, awkward, awkward, awkward), min_size=1, max_size=20))
def test_every_value_lands_in_exactly_the_bin_its_edges_say(values: list[tuple[float, ...]]) -> None:
    rows = np.array(values, dtype=np.float32)
    counts = counted(PROFILE, rows)
    singly = ProfileCounter(PROFILE)
    for row in rows:
        singly.update(row[None])
    assert singly.counts() == counts
    for column, feature in enumerate(PROFILE.features):
        edges = np.array(feature.edges, dtype=np.float32)
        wanted = [0] * (len(edges) + 1)
        for value in rows[:, column]:
            if np.isfinite(value):
                wanted[int((edges < value).sum())] += 1
        found = counts.features[feature.name]
        assert found.counts == wanted
        assert found.missing == int(np.isnan(rows[:, column]).sum())
        assert found.non_finite == int(np.isinf(rows[:, column]).sum())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 599), min_size=3, max_size=80), st.randoms())
def test_counts_do_not_depend_on_how_rows_are_split_or_ordered(rows: list[int], random: object) -> None:
    whole = counted(PROFILE, ROWS[rows], probabilities=PROBABILITIES[rows])
    parts = [rows[i::3] for i in range(3)]
    random.shuffle(parts)  # type: ignore[attr-defined]
    total = None
    for part in parts:
        if part:
            total = panes.add(total, counted(PROFILE, ROWS[part], probabilities=PROBABILITIES[part]))
    assert total == whole
    merged = ProfileCounter(PROFILE)
    for part in parts:
        if part:
            other = ProfileCounter(PROFILE)
            other.update(ROWS[part], probabilities=PROBABILITIES[part])
            merged.merge(other)
    assert merged.counts() == whole


def test_rows_counted_singly_are_read_and_merged_at_any_time() -> None:
    counter, total = ProfileCounter(PROFILE), ProfileCounter(PROFILE)
    for n in range(1, 6):
        counter.update(ROWS[n - 1 : n])
        assert counter.counts() == counted(PROFILE, ROWS[:n])
    counter.update(ROWS[5:20])
    counter.update(ROWS[20:21])
    total.update(ROWS[21:22])
    total.merge(counter)
    assert total.counts() == counted(PROFILE, ROWS[:22])


def test_counters_of_categories_alone_are_merged() -> None:
    profile = build_profile({"letter": ["a", "b", "a"]})
    counter, other = ProfileCounter(profile), ProfileCounter(profile)
    other.update(np.array([["a"]], dtype=object))
    counter.merge(other)
    assert counter.counts().features["letter"].counts == [1, 0, 0]


@pytest.mark.parametrize("seen", [pytest.param(0, id="at rest"), pytest.param(5_000, id="after traffic")])
def test_a_hundred_features_take_less_than_64_kb_of_a_pod(seen: int) -> None:
    rows = np.random.RandomState(1).standard_normal((2_000, 100)).astype(np.float32)
    profile = build_profile(rows)
    tracemalloc.start()
    try:
        counter = ProfileCounter(profile)
        for start in range(0, seen, 100):
            counter.update(rows[start % 1_900 :][:100])
            counter.update(rows[:1])
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 64_000
    assert counter.rows == seen + seen // 100


def test_subtracting_gives_what_came_in_between_and_refuses_what_went_back() -> None:
    counter = ProfileCounter(PROFILE)
    counter.update(ROWS[:10])
    before = counter.counts()
    counter.update(ROWS[10:25])
    assert panes.subtract(counter.counts(), before) == counted(PROFILE, ROWS[10:25])
    assert panes.subtract(before, counter.counts()) is None


@pytest.mark.parametrize(
    ("values", "bins_of_their_own"),
    [
        pytest.param(np.zeros(100), [0.0], id="constant"),
        pytest.param(np.array([0.0, 1.0] * 50), [0.0, 1.0], id="binary"),
        pytest.param(np.concatenate([np.zeros(500), RNG.standard_normal(500)]), [0.0], id="zero-inflated"),
        pytest.param(np.repeat(np.arange(10) / 10, 20), [0.1, 0.3, 0.9], id="tenths"),
    ],
)
def test_a_frequent_value_has_a_bin_of_its_own(values: np.ndarray, bins_of_their_own: list[float]) -> None:
    edges = np.array(numeric_edges(values), dtype=np.float32)
    assert len(edges) <= MAX_EDGES
    assert (np.diff(edges) > 0).all()
    for value in bins_of_their_own:
        at = int((edges < np.float32(value)).sum())
        assert edges[at] == np.float32(value)
        assert at == 0 or edges[at - 1] < np.float32(value)
        assert at == 0 or edges[at - 1] >= np.nextafter(np.float32(value), np.float32(-1)) or values.size < 400


def test_the_same_number_in_single_and_double_precision_is_the_same() -> None:
    tenths = np.repeat(np.arange(10) / 10, 20).reshape(-1, 1)
    profile = build_profile(tenths)
    assert counted(profile, tenths) == counted(profile, tenths.astype(np.float32))


def test_categories_rare_unseen_and_missing_are_told_apart() -> None:
    column = ["a"] * 700 + ["b"] * 298 + ["rare", "rarer"]
    profile = build_profile({"letter": column})
    feature = profile.features[0]
    assert (feature.kind, feature.categories, feature.counts) == ("categorical", ["a", "b"], [700, 298, 2])
    seen = np.array([["a"], ["rare"], ["new"], [None], [float("nan")], [""]], dtype=object)
    counts = counted(profile, seen).features["letter"]
    assert (counts.counts, counts.missing, counts.unseen) == ([1, 0, 1], 3, 1)


def test_a_million_categories_stay_small() -> None:
    profile = build_profile({"user": [f"user-{i}" for i in range(50_000)]})
    assert len(profile.to_json()) < 8_000
    counts = counted(profile, np.array([["user-7"], ["somebody else"]], dtype=object)).features["user"]
    assert (sum(counts.counts), counts.unseen) == (2, 0), "with so many, a new name is no news"


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        pytest.param(np.zeros((0, 3)), {}, "no rows", id="empty"),
        pytest.param({"a": [1, 2], "b": [1]}, {}, "different lengths", id="ragged"),
        pytest.param({"a": [1.0]}, {"categorical": ["z"]}, "no column named z", id="unknown categorical"),
        pytest.param({"a": [1.0]}, {"feature_names": ["b"]}, "no column named b", id="renamed"),
        pytest.param({"a": [1.0]}, {"predictions": ["x"], "classes": ["y"]}, "'x' in row 0 is no class", id="class"),
    ],
)
def test_bad_data_is_refused_with_the_place(rows: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        build_profile(rows, **options)


def test_strings_where_numbers_belong_are_counted_apart() -> None:
    profile = build_profile({"x": [1.0, 2.0, 3.0]})
    counts = counted(profile, np.array([["oops"], [2.0], [None]], dtype=object)).features["x"]
    assert (counts.unseen, counts.missing, sum(counts.counts)) == (1, 1, 1)


def test_an_integer_too_large_for_a_float_is_not_finite() -> None:
    profile = build_profile({"x": [1.0, 2.0, 3.0, 10**400, -(10**400)]})
    feature = profile.features[0]
    assert isinstance(feature, NumericFeature)
    assert (feature.non_finite, feature.max) == (2, 3.0)
    counts = counted(profile, np.array([[10**400], [2]], dtype=object)).features["x"]
    assert (counts.non_finite, sum(counts.counts)) == (1, 1)


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ProfileError, match=r"\(2, 3\) do not fit a profile of 4 features"):
        ProfileCounter(PROFILE).update(np.zeros((2, 3)))


def test_projections_of_images_see_what_pixels_alone_do_not() -> None:
    images = RNG.rand(400, 8, 8).astype(np.float32)
    images[:, :4] += 1.0
    profile = build_profile(images, projections=6, seed=3)
    assert profile.feature_names[:3] == ["mean", "spread", "projection_0"]
    upright, turned = counted(profile, images), counted(profile, np.rot90(images, axes=(1, 2)).copy())
    moved = [
        abs(np.cumsum(np.array(upright.features[n].counts) - np.array(turned.features[n].counts))).max() / 400
        for n in profile.feature_names[2:]
    ]
    assert max(moved) > 0.3
    assert profile.projection is not None
    assert (profile.projection.matrix() == profile.projection.matrix()).all()


def test_json_round_trip_keeps_the_digest_and_size_stays_small() -> None:
    again = ReferenceProfile.from_json(PROFILE.to_json())
    assert (again, again.digest()) == (PROFILE, PROFILE.digest())
    assert len(PROFILE.to_json()) < 1_000 * len(PROFILE.features) + 2_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"schemaVersion": 2}, "schema version 2, this release reads version 1", id="another schema"),
        pytest.param({"rows": 0}, "rows", id="no rows"),
        pytest.param({"colour": "red"}, "colour", id="unknown field"),
        pytest.param({"features": [{"kind": "numeric", "name": "x", "edges": [2, 1], "counts": [1, 1, 1]}]}, "ascend",
                     id="edges"),
        pytest.param({"features": [{"kind": "numeric", "name": "x", "edges": [1], "counts": [1]}]}, "1 edges need 2",
                     id="counts"),
    ],
)  # fmt: skip
def test_an_inconsistent_profile_is_refused(change: dict[str, object], message: str) -> None:
    document = json.loads(PROFILE.to_json()) | change
    with pytest.raises(ProfileError, match=message):
        ReferenceProfile.from_json(json.dumps(document))
