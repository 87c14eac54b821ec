"""Reviews: questions posted as objects, answered in their status and never stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from mlserve_local.apiserver import times
from mlserve_local.apiserver.bodies import read_object
from mlserve_local.apiserver.errors import Obj, bad_request, invalid, invalid_value
from mlserve_local.apiserver.rbac import Ask
from mlserve_local.apiserver.registry import Resource
from mlserve_local.apiserver.request import Reply, Request, Target, User
from mlserve_local.apiserver.tokens import InvalidTokenError

if TYPE_CHECKING:
    from mlserve_local.apiserver.cluster import Cluster


def create(cluster: Cluster, request: Request, resource: Resource, target: Target) -> Reply:
    """POST of any review."""
    obj = read_object(request, resource)
    spec = obj.get("spec") or {}
    metadata = {k: v for k, v in obj["metadata"].items() if k != "managedFields"}
    made: Obj = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
    match resource.kind:
        case "SelfSubjectReview":
            metadata["creationTimestamp"] = times.now()
            made["status"] = {"userInfo": _user_info(request.user)}
        case "TokenReview":
            if not spec.get("token"):
                raise bad_request("token is required for TokenReview in authentication")
            made |= {"spec": spec, "status": _token_status(cluster, spec)}
        case "SelfSubjectRulesReview":
            if not spec.get("namespace"):
                raise bad_request("no namespace on request")
            made |= {"spec": {}, "status": _rules(cluster, request.user, spec.get("namespace", ""))}
        case _:
            user = _subject(request, resource, spec)
            _check(resource, spec, target)
            made |= {"spec": spec, "status": _decide(cluster, user, spec)}
    return Reply(201, orjson.dumps(made))


def _user_info(user: User) -> Obj:
    info: Obj = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {k: list(v) for k, v in user.extra.items()}
    return info


def _token_status(cluster: Cluster, spec: Obj) -> Obj:
    try:
        user, audiences = cluster.tokens.verify(spec.get("token", ""), spec.get("audiences"))
    except InvalidTokenError as error:
        return {"user": {}, "error": str(error)}
    return {"authenticated": True, "user": _user_info(user), "audiences": audiences}


def _subject(request: Request, resource: Resource, spec: Obj) -> User:
    if resource.kind == "SelfSubjectAccessReview":
        return request.user
    return User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""))


def _check(resource: Resource, spec: Obj, target: Target) -> None:
    given = [k for k in ("resourceAttributes", "nonResourceAttributes") if spec.get(k) is not None]
    errors = []
    if len(given) != 1:
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        if given:
            text = "cannot be specified in combination with resourceAttributes"
            errors.append(invalid_value("spec.nonResourceAttributes", spec["nonResourceAttributes"], text))
        else:
            errors.append(invalid_value("spec.resourceAttributes", None, text))
    if resource.kind != "SelfSubjectAccessReview" and not spec.get("user") and not spec.get("groups"):
        errors.append(invalid_value("spec.user", "", "at least one of user or group must be specified"))
    if errors:
        raise invalid("", resource.group, "", errors)
    if resource.kind == "LocalSubjectAccessReview":
        space = (spec.get("resourceAttributes") or {}).get("namespace", "")
        if space != target.namespace:
            raise bad_request(f"spec.resourceAttributes.namespace must match namespace: {target.namespace}")


def _decide(cluster: Cluster, user: User, spec: Obj) -> Obj:
    plain: Any = spec.get("nonResourceAttributes")
    if plain is not None:
        ask = Ask(plain.get("verb", ""), path=plain.get("path", ""))
    else:
        wanted = spec.get("resourceAttributes") or {}
        ask = Ask(
            wanted.get("verb", ""),
            wanted.get("group", ""),
            wanted.get("resource", ""),
            wanted.get("subresource", ""),
            wanted.get("namespace", ""),
            wanted.get("name", ""),
        )
    why = cluster.authorizer.decide(user, ask)
    if why is None:
        return {"allowed": False}
    return {"allowed": True, "reason": why} if why else {"allowed": True}


def _rules(cluster: Cluster, user: User, namespace: str) -> Obj:
    resource_rules, plain_rules = [], []
    for rule, _ in cluster.authorizer.grants(user, namespace):
        if rule.get("nonResourceURLs"):
            plain_rules.append({"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]})
        else:
            keys = ("verbs", "apiGroups", "resources", "resourceNames")
            resource_rules.append({k: rule[k] for k in keys if rule.get(k)})
    return {"resourceRules": resource_rules, "nonResourceRules": plain_rules, "incomplete": False}
