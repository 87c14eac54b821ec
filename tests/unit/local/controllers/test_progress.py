"""What a Deployment says of its progress: the words `kubectl rollout status` waits for."""

from __future__ import annotations

import pytest

from mlserve_local.controllers.progress import base_status, deadline_in, find, judge_pause, judge_progress, timed_out
from mlserve_local.objects import timestamp

NOW = 1_800_000_000.0


def deployment(status=None, *, paused=False, deadline=600, generation=1):
    spec = {"replicas": 2, "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}, "paused": paused}
    if deadline is not None:
        spec["progressDeadlineSeconds"] = deadline
    return {"metadata": {"name": "web", "generation": generation}, "spec": spec, "status": status or {}}


def replica_set(replicas, available, size=None):
    status = {"replicas": replicas, "readyReplicas": available, "availableReplicas": available}
    return {"metadata": {"name": "web-1"}, "spec": {"replicas": replicas if size is None else size}, "status": status}


def judged(owner, new, every=None, now=NOW):
    status = base_status(owner, new, every or [new], now)
    judge_progress(owner, status, new, now)
    return status


def words(status, kind="Progressing"):
    entry = find(status, kind)
    return None if entry is None else (entry["status"], entry["reason"], entry["message"])


def test_first_pods_are_progress():
    status = judged(deployment(), replica_set(2, 0))
    assert words(status) == ("True", "ReplicaSetUpdated", 'ReplicaSet "web-1" is progressing.')
    assert words(status, "Available")[:2] == ("False", "MinimumReplicasUnavailable")
    assert {k: v for k, v in status.items() if k != "conditions"} == {
        "observedGeneration": 1,
        "replicas": 2,
        "updatedReplicas": 2,
        "unavailableReplicas": 2,
        "terminatingReplicas": 0,
    }
    assert [c["type"] for c in status["conditions"]] == ["Available", "Progressing"]


def test_complete_and_settled():
    first = judged(deployment(), replica_set(2, 0))
    done = judged(deployment(first), replica_set(2, 2), now=NOW + 5)
    assert words(done) == ("True", "NewReplicaSetAvailable", 'ReplicaSet "web-1" has successfully progressed.')
    assert words(done, "Available")[:2] == ("True", "MinimumReplicasAvailable")
    again = judged(deployment(done), replica_set(2, 2), now=NOW + 5000)
    assert again == done


def test_the_deadline_runs_from_the_last_progress():
    first = judged(deployment(), replica_set(2, 0))
    assert deadline_in(deployment(first), first, NOW) == pytest.approx(601, abs=1)
    quiet = judged(deployment(first), replica_set(2, 0), now=NOW + 599)
    assert words(quiet)[1] == "ReplicaSetUpdated"
    late = judged(deployment(first), replica_set(2, 0), now=NOW + 602)
    assert words(late) == ("False", "ProgressDeadlineExceeded", 'ReplicaSet "web-1" has timed out progressing.')
    assert deadline_in(deployment(late), late, NOW + 602) is None
    recovered = judged(deployment(late), replica_set(2, 1), now=NOW + 700)
    assert words(recovered)[:2] == ("True", "ReplicaSetUpdated")


def test_without_a_deadline_there_is_no_word_of_progress():
    assert words(judged(deployment(deadline=None), replica_set(2, 0))) is None


def test_a_complete_rollout_does_not_time_out():
    done = judged(deployment(judged(deployment(), replica_set(2, 0))), replica_set(2, 2))
    assert not timed_out(deployment(done), done, NOW + 10_000)


def test_pause_stops_the_clock_and_resume_starts_it_anew():
    first = judged(deployment(), replica_set(2, 0))
    paused = base_status(deployment(first, paused=True), replica_set(2, 0), [replica_set(2, 0)], NOW + 10)
    judge_pause(deployment(first, paused=True), paused, NOW + 10)
    assert words(paused)[:2] == ("Unknown", "DeploymentPaused")
    assert not timed_out(deployment(paused, paused=True), paused, NOW + 10_000)
    resumed = base_status(deployment(paused), replica_set(2, 0), [replica_set(2, 0)], NOW + 9000)
    judge_pause(deployment(paused), resumed, NOW + 9000)
    assert words(resumed)[:2] == ("Unknown", "DeploymentResumed")
    assert find(resumed, "Progressing")["lastUpdateTime"] == timestamp(NOW + 9000)
    assert not timed_out(deployment(resumed), resumed, NOW + 9100)
