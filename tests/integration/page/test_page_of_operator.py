"""The page that a running operator serves: from the list to a model that cannot start, and the reason in words."""

from __future__ import annotations

RESOURCE = """
apiVersion: mlserve.io/v1alpha1
kind: ModelDeployment
metadata: {name: nowhere}
spec:
  model: {uri: "file:///models/digits/artifacts/nowhere", version: "1"}
"""


def test_a_person_sees_why_a_model_does_not_start(browser, operator_cluster, operator_namespace):
    operator_cluster.kubectl("apply", "--namespace", operator_namespace, "--filename=-", stdin=RESOURCE)
    stalled = ("wait", "--for=condition=Stalled", "modeldeployment/nowhere", "--timeout=60s")
    operator_cluster.kubectl("--namespace", operator_namespace, *stalled, timeout=70)

    browser.complaints.clear()
    browser.open(operator_cluster.operator_url)
    path = f"/namespaces/{operator_namespace}/modeldeployments/nowhere"
    link = browser.evaluate(f"document.querySelector('a[href=\"{path}\"]').href")
    browser.open(link)
    text = browser.evaluate("document.querySelector('main').innerText")
    assert "ModelLoadFailed" in text
    assert "artifacts/nowhere does not exist" in text
    assert browser.complaints == []

    operator_cluster.kubectl("--namespace", operator_namespace, "delete", "modeldeployment", "nowhere")
    browser.open(link)
    operator_cluster.wait(lambda: gone(browser, link), what="the page to say that it is gone")


def gone(browser, link: str) -> bool:
    browser.open(link)
    return str(browser.evaluate("document.querySelector('h1').innerText")) == "Not found"
