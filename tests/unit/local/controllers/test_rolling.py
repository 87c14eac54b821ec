"""A rolling update keeps its two promises at every step: never too many pods, never too few available ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_local.controllers.replicas import count, deletion_order, pod_from_template
from mlserve_local.controllers.revisions import (
    HASH_LABEL,
    HISTORY,
    REVISION,
    annotations_for,
    find_new,
    new_replica_set,
    same_template,
    surplus,
)
from mlserve_local.controllers.rolling import (
    MAX_REPLICAS,
    Budget,
    budget,
    is_complete,
    new_size,
    old_sizes,
    proportional_sizes,
)


def replica_set(uid: str, size: int, available: int = 0, created: str = "2026-01-01T00:00:00Z", **annotations: str):
    return {
        "metadata": {"name": uid, "uid": uid, "creationTimestamp": created, "annotations": annotations},
        "spec": {"replicas": size},
        "status": {"replicas": size, "availableReplicas": available},
    }


def deployment(replicas: int = 2, surge="25%", unavailable="25%", **metadata):
    return {
        "metadata": {"name": "web", "namespace": "n", "uid": "d", "generation": 1, **metadata},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "web:1"}]},
            },
        },
    }


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        pytest.param(2, "25%", "25%", Budget(2, 1, 0), id="up for surge, down for unavailable"),
        pytest.param(10, "25%", "25%", Budget(10, 3, 2), id="ten"),
        pytest.param(4, 0, 0, Budget(4, 0, 1), id="both zero would stand still"),
        pytest.param(1, 1, 3, Budget(1, 1, 1), id="unavailable is bounded by replicas"),
        pytest.param(0, "25%", "25%", Budget(0, 0, 0), id="none wanted"),
    ],
)
def test_budget(replicas, surge, unavailable, expected):
    assert budget(deployment(replicas, surge, unavailable)) == expected


def test_the_recorded_rollout_of_a_real_cluster():
    """Two replicas, none available, a new image: the third pod is the surge, and no old pod may go yet."""
    limits = budget(deployment())
    old, new = replica_set("old", 2), replica_set("new", 0)
    assert new_size(limits, new, [old, new]) == 1
    assert old_sizes(limits, replica_set("new", 1), [old]) == {"old": 2}


def test_unhealthy_old_pods_go_first_and_the_oldest_set_before_the_younger():
    limits = Budget(4, 2, 0)
    sick = replica_set("sick", 2, 0, created="2026-01-02T00:00:00Z")
    well = replica_set("well", 4, 4, created="2026-01-01T00:00:00Z")
    assert old_sizes(limits, replica_set("new", 0), [well, sick]) == {"well": 4, "sick": 0}


@given(
    replicas=st.integers(1, 12),
    surge=st.integers(0, 4),
    unavailable=st.integers(0, 4),
    data=st.data(),
)
def test_a_rollout_never_breaks_its_bounds_and_ends(replicas, surge, unavailable, data):
    limits = budget(deployment(replicas, surge, unavailable))
    old, old_available = replicas, replicas
    new, new_available = 0, 0
    for _ in range(200):
        old_set, new_set = replica_set("old", old, old_available), replica_set("new", new, new_available)
        target = new_size(limits, new_set, [old_set, new_set])
        assert new <= target <= replicas
        if target != new:
            new = target
        else:
            old = old_sizes(limits, new_set, [old_set])["old"]
            old_available = min(old_available, old)
        assert old + new <= replicas + limits.surge
        assert old_available + new_available >= replicas - limits.unavailable
        # Sooner or later some of the new pods become available.
        new_available = data.draw(st.integers(new_available, new)) if new > new_available else new
        if old == 0 and new == new_available == replicas:
            return
        if new > new_available:
            new_available += 1
    pytest.fail("the rollout stood still")


def test_a_change_of_size_in_mid_rollout_is_shared_by_size():
    active = [
        replica_set("a", 10, 10, **{MAX_REPLICAS: "12"}),
        replica_set("b", 2, 2, created="2026-01-02T00:00:00Z", **{MAX_REPLICAS: "12"}),
    ]
    sizes = proportional_sizes(Budget(20, 4, 0), active)
    assert sizes == {"a": 20, "b": 4}
    assert sum(sizes.values()) == 24


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(0, 40), st.integers(0, 5))
def test_sharing_uses_exactly_what_is_allowed(sizes, replicas, surge):
    active = [replica_set(f"r{i}", n, created=f"2026-01-0{i + 1}T00:00:00Z") for i, n in enumerate(sizes)]
    found = proportional_sizes(Budget(replicas, surge, 0), active)
    assert all(n >= 0 for n in found.values())
    if replicas + surge >= sum(sizes):
        assert sum(found.values()) == replicas + (surge if replicas else 0)


def test_the_hash_label_is_no_difference_of_templates():
    wanted = deployment()
    made = new_replica_set(wanted, revision=1, replicas=2)
    assert same_template(made["spec"]["template"], wanted["spec"]["template"])
    assert made["metadata"]["name"] == f"web-{made['metadata']['labels'][HASH_LABEL]}"
    assert made["spec"]["selector"]["matchLabels"] == made["metadata"]["labels"]
    assert find_new(wanted, [made]) is made
    changed = deployment()
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "web:2"
    assert find_new(changed, [made]) is None
    assert new_replica_set(changed, 2, 0)["metadata"]["name"] != made["metadata"]["name"]


def test_a_revision_that_comes_back_remembers_what_it_was():
    kept = replica_set("old", 0, **{REVISION: "1"})
    found = annotations_for(deployment(), kept, 3)
    assert (found[REVISION], found[HISTORY]) == ("3", "1")
    again = annotations_for(deployment(), {**kept, "metadata": {**kept["metadata"], "annotations": found}}, 5)
    assert (again[REVISION], again[HISTORY]) == ("5", "1,3")


def test_the_history_limit_spares_the_youngest():
    old = [{**replica_set(f"r{n}", 0, **{REVISION: str(n)}), "status": {}, "spec": {"replicas": 0}} for n in (3, 1, 2)]
    for item in old:
        item["metadata"]["labels"] = {"app": "web"}
    limited = deployment()
    limited["spec"]["revisionHistoryLimit"] = 1
    assert [rs["metadata"]["name"] for rs in surplus(limited, old)] == ["r1", "r2"]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"updatedReplicas": 2, "replicas": 2, "availableReplicas": 2, "observedGeneration": 1}, True),
        ({"updatedReplicas": 2, "replicas": 3, "availableReplicas": 2, "observedGeneration": 1}, False),
        ({"updatedReplicas": 2, "replicas": 2, "availableReplicas": 1, "observedGeneration": 1}, False),
        ({"updatedReplicas": 2, "replicas": 2, "availableReplicas": 2, "observedGeneration": 0}, False),
    ],
    ids=["complete", "old pods left", "not available", "spec not seen"],
)
def test_complete(status, expected):
    assert is_complete(deployment(), status) is expected


def pod(name, *, node="n", phase="Running", ready=True, deleting=False, cost="0", since="2026-01-01T00:00:00Z"):
    metadata = {"name": name, "labels": {"app": "web"}, "creationTimestamp": since, "annotations": {}}
    metadata["annotations"]["controller.kubernetes.io/pod-deletion-cost"] = cost
    if deleting:
        metadata["deletionTimestamp"] = since
    conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": since}]
    return {
        "metadata": metadata,
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase, "conditions": conditions},
    }


def test_pods_that_matter_least_are_deleted_first():
    pods = [
        pod("old-and-ready"),
        pod("young-and-ready", since="2026-01-01T01:00:00Z"),
        pod("cheap", cost="-5"),
        pod("unready", ready=False),
        pod("pending", phase="Pending", ready=False),
        pod("unassigned", node="", phase="Pending", ready=False),
    ]
    order = [p["metadata"]["name"] for p in sorted(pods, key=lambda p: deletion_order(p, 1_800_000_000))]
    assert order == ["unassigned", "pending", "unready", "cheap", "young-and-ready", "old-and-ready"]


def test_a_pod_is_available_after_its_minimum_ready_time():
    owner = replica_set("r", 3)
    owner["spec"] |= {"minReadySeconds": 30, "template": {"metadata": {"labels": {"app": "web"}}}}
    ready_at = 1_767_225_600  # 2026-01-01T00:00:00Z
    counts = count(owner, [pod("a"), pod("b", ready=False), pod("c", deleting=True)], ready_at + 10)
    assert (counts.replicas, counts.ready, counts.available, counts.terminating) == (2, 1, 0, 1)
    assert counts.next_available_in == 20
    assert count(owner, [pod("a")], ready_at + 31).available == 1


def test_a_pod_from_a_template_belongs_to_its_owner():
    owner = {"metadata": {"name": "web-x", "namespace": "n"}}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}
    made = pod_from_template(template, owner, {"uid": "u"})
    assert made["metadata"] == {
        "generateName": "web-x-",
        "namespace": "n",
        "labels": {"a": "b"},
        "ownerReferences": [{"uid": "u"}],
    }
