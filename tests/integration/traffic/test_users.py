"""What users of a model do while a new version is on trial: look at it first, speak gRPC, and report what was right."""

from __future__ import annotations

import collections
import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton

from mlserve_core import wire

from ..world import REVISION, Object, World, images, model  # noqa: TID252 - tests are no installed package

PREVIEW = {wire.HEADER_PREVIEW: "canary"}
TIMEOUT_SECONDS = 2
WEIGHT = 30
PODS = 3


def version(number: int, strategy: str) -> Object:
    """A version of the digits model; Canary and BlueGreen differ in policy only and so are one revision."""
    rollout: Object = {
        "strategy": strategy,
        "autoPromote": False,
        "steps": [{"weight": WEIGHT, "holdSeconds": 3600}],
        "analysis": {"intervalSeconds": 2},
    }
    traffic = {"timeoutSeconds": TIMEOUT_SECONDS}
    return model(version=number, replicas=PODS, rollout=rollout, traffic=traffic, drift={"enabled": False})


@pytest.fixture
def arms(world: World) -> tuple[str, str]:
    """Revisions of stable and of a canary that is ready and has no weight: BlueGreen waits for a person."""
    world.apply(version(1, "BlueGreen"))
    world.until("Ready", "True")
    world.apply(version(2, "BlueGreen"))
    status = world.until_status(lambda status: (status.get("canary") or {}).get("readyReplicas") == PODS, "all pods")
    stable, canary = status["stable"]["revision"], status["canary"]["revision"]

    def every_router_reaches_the_canary() -> bool:
        answers = [world.predict(**PREVIEW) for _ in range(10)]  # a connection each: both routers are asked
        return all(answer.status_code == 200 and answer.headers[REVISION] == canary for answer in answers)

    world.cluster.wait(every_router_reaches_the_canary, what="the routers know the canary")
    return stable, canary


def test_users_of_a_model_on_trial(world: World, arms: tuple[str, str]) -> None:
    stable, canary = arms
    url = world.url()
    client = triton.InferenceServerClient(url.removeprefix("http://"))
    with grpc.insecure_channel(url.removeprefix("http://")) as channel, httpx.Client(base_url=url, timeout=10) as http:
        ask = caller(channel)
        previews_are_answered_and_count_for_nothing(world, arms, http, ask)

        world.apply(version(2, "Canary"))
        world.until_status(lambda status: (status.get("canary") or {}).get("stepStartedAt"), f"{WEIGHT} %")
        assert {http_revision(http, PREVIEW) for _ in range(20)} == {canary}
        assert {ask(PREVIEW) for _ in range(20)} == {canary}

        seen = collections.Counter(ask({}) for _ in range(600))
        assert set(seen) == {stable, canary}
        assert abs(seen[canary] / 600 - WEIGHT / 100) < 0.08, f"{seen}: more than four standard deviations off"

        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("digits")
        assert client.get_model_metadata("digits").inputs[0].name == "image"
        with pytest.raises(triton.InferenceServerException, match="not served here"):
            client.infer("another", [tensor()])
        a_stream_outlives_the_timeout_of_a_request(client)
        feedback_is_counted_once_and_for_the_version_it_is_about(world, arms, http)


def previews_are_answered_and_count_for_nothing(
    world: World, arms: tuple[str, str], http: httpx.Client, ask: Callable[[dict[str, str]], str]
) -> None:
    stable, canary = arms
    before = live_requests(world, stable)
    for _ in range(10):
        assert (http_revision(http, PREVIEW), ask(PREVIEW)) == (canary, canary)
        assert (http_revision(http, {}), ask({})) == (stable, stable)
        assert http_revision(http, {wire.HEADER_PREVIEW: "no"}) == stable
    assert live_requests(world, stable) == before + 20, "nor does any other value of the header"
    (counts,) = {(pod["live"]["requests"], pod["mirror"]["requests"]) for pod in world.telemetry(canary)}
    assert counts == (0, 0)


def live_requests(world: World, revision: str) -> int:
    return sum(pod["live"]["requests"] for pod in world.telemetry(revision))


def http_revision(http: httpx.Client, headers: dict[str, str]) -> str:
    answer = http.post("/predict", json={"features": images(1)[0]}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.headers[REVISION]


def caller(channel: grpc.Channel) -> Callable[[dict[str, str]], str]:
    """Predicts over gRPC; returns who has answered, in the words of the router and of the pod."""
    stub = triton.service_pb2_grpc.GRPCInferenceServiceStub(channel)
    given = tensor()
    request = triton.service_pb2.ModelInferRequest(model_name="digits", inputs=[given._get_tensor()])
    request.raw_input_contents.append(given._get_content())

    def ask(metadata: dict[str, str]) -> str:
        _, call = stub.ModelInfer.with_call(request, metadata=tuple(metadata.items()), timeout=10)
        router, pod = dict(call.initial_metadata()), dict(call.trailing_metadata())
        assert router[REVISION] == pod[REVISION]
        return str(pod[REVISION])

    return ask


def tensor() -> Any:
    found = triton.InferInput("image", [1, 8, 8], "FP32")
    return found.set_data_from_numpy(np.array(images(1)[0], dtype=np.float32).reshape(1, 8, 8))


def a_stream_outlives_the_timeout_of_a_request(client: Any) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put(error or result))
    pace = threading.Event()
    for number in range(8):
        client.async_stream_infer("digits", [tensor()], request_id=str(number))
        answer = answers.get(timeout=10)
        assert isinstance(answer, triton.InferResult), answer
        assert answer.get_response().id == str(number)
        pace.wait(TIMEOUT_SECONDS / 4)  # the passing of time is what is tested
    client.stop_stream()


def predictions(http: httpx.Client) -> Iterator[tuple[str, str, str]]:
    """Id, label and revision of predictions of real digits."""
    for image in itertools.cycle(images(100)):
        answer = http.post("/predict", json={"features": image})
        assert answer.status_code == 200, answer.text
        yield answer.json()["id"], answer.json()["label"], answer.headers[REVISION]


def feedback_is_counted_once_and_for_the_version_it_is_about(
    world: World, arms: tuple[str, str], http: httpx.Client
) -> None:
    made = list(itertools.islice(predictions(http), 60))
    for repeated in (False, True):
        for number, (identifier, label, revision) in enumerate(made):
            # Every other client says which version it is about, as it may.
            headers = {REVISION: revision} if number % 2 else {}
            answer = http.post("/feedback", json={"id": identifier, "label": label}, headers=headers)
            assert answer.status_code == 200, answer.text
            assert answer.json()["revision"] == revision
            assert answer.json()["counted"] is not repeated
    counted: collections.Counter[str] = collections.Counter()
    for revision in arms:
        for pod in world.telemetry(revision):
            counted[revision] += labels(pod["live"]["feedback"])
            for other, feedback in pod["otherFeedback"].items():
                counted[other] += labels(feedback)
    assert counted == collections.Counter(revision for _, _, revision in made), "once each, wherever it was taken"
    assert len(counted) == 2
    stable, canary = arms
    words = f"0 of {counted[canary]} bad, stable 0 of {counted[stable]}"

    def judged(status: Object) -> bool:
        checks = {check["name"]: check for check in status["canary"]["analysis"]["checks"]}
        return words in checks["labels"]["message"]

    world.until_status(judged, f"labels: {words}")


def labels(feedback: Object) -> int:
    return sum(sum(row.values()) for row in feedback["confusion"].values())
