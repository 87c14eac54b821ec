r"""Protobuf request bodies: helm's release Secrets and a few typed kubectl commands come in no other form.

A body is ``k8s\0`` and a ``runtime.Unknown`` around the message. The messages are described by the table below (field
numbers of the published ``generated.proto`` files) and decoded with the protobuf library. Answers are JSON: every such
client accepts it. A body with fields that the table does not know is refused, never silently cut.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

MAGIC: Final = b"k8s\x00"

# message: "field:number:type ..."; types: s string (the default), b bytes, t bool, i int32, l int64, or a message;
# a trailing * is a list, {} a map from string.
_TABLE: Final[dict[str, str]] = {
    "Time": "seconds:1:l nanos:2:i",
    "Quantity": "string:1",
    "FieldsV1": "Raw:1:b",
    "ExtraValue": "items:1:s*",
    "OwnerReference": "kind:1 name:3 uid:4 apiVersion:5 controller:6:t blockOwnerDeletion:7:t",
    "ManagedFieldsEntry": "manager:1 operation:2 apiVersion:3 time:4:Time fieldsType:6 fieldsV1:7:FieldsV1 "
    "subresource:8",
    "ObjectMeta": "name:1 generateName:2 namespace:3 selfLink:4 uid:5 resourceVersion:6 generation:7:l "
    "creationTimestamp:8:Time "
    "deletionTimestamp:9:Time deletionGracePeriodSeconds:10:l labels:11:s{} annotations:12:s{} "
    "ownerReferences:13:OwnerReference* finalizers:14:s* managedFields:17:ManagedFieldsEntry*",
    "LabelSelectorRequirement": "key:1 operator:2 values:3:s*",
    "LabelSelector": "matchLabels:1:s{} matchExpressions:2:LabelSelectorRequirement*",
    "Preconditions": "uid:1 resourceVersion:2",
    "DeleteOptions": "gracePeriodSeconds:1:l preconditions:2:Preconditions orphanDependents:3:t "
    "propagationPolicy:4 dryRun:5:s* "
    "ignoreStoreReadErrorWithClusterBreakingPotential:6:t",
    "ObjectReference": "kind:1 namespace:2 name:3 uid:4 apiVersion:5 resourceVersion:6 fieldPath:7",
    "LocalObjectReference": "name:1",
    "Secret": "metadata:1:ObjectMeta data:2:b{} type:3 stringData:4:s{} immutable:5:t",
    "ConfigMap": "metadata:1:ObjectMeta data:2:s{} binaryData:3:b{} immutable:4:t",
    "NamespaceSpec": "finalizers:1:s*",
    "NamespaceStatus": "phase:1",
    "Namespace": "metadata:1:ObjectMeta spec:2:NamespaceSpec status:3:NamespaceStatus",
    "ServiceAccount": "metadata:1:ObjectMeta secrets:2:ObjectReference* imagePullSecrets:3:LocalObjectReference* "
    "automountServiceAccountToken:4:t",
    "Binding": "metadata:1:ObjectMeta target:2:ObjectReference",
    "Eviction": "metadata:1:ObjectMeta deleteOptions:2:DeleteOptions",
    "BoundObjectReference": "kind:1 apiVersion:2 name:3 uid:4",
    "TokenRequestSpec": "audiences:1:s* boundObjectRef:3:BoundObjectReference expirationSeconds:4:l",
    "TokenRequestStatus": "token:1 expirationTimestamp:2:Time",
    "TokenRequest": "metadata:1:ObjectMeta spec:2:TokenRequestSpec status:3:TokenRequestStatus",
    "UserInfo": "username:1 uid:2 groups:3:s* extra:4:ExtraValue{}",
    "TokenReviewSpec": "token:1 audiences:2:s*",
    "TokenReviewStatus": "authenticated:1:t user:2:UserInfo error:3 audiences:4:s*",
    "TokenReview": "metadata:1:ObjectMeta spec:2:TokenReviewSpec status:3:TokenReviewStatus",
    "SelfSubjectReviewStatus": "userInfo:1:UserInfo",
    "SelfSubjectReview": "metadata:1:ObjectMeta status:2:SelfSubjectReviewStatus",
    "ResourceAttributes": "namespace:1 verb:2 group:3 version:4 resource:5 subresource:6 name:7",
    "NonResourceAttributes": "path:1 verb:2",
    "AccessReviewStatus": "allowed:1:t reason:2 evaluationError:3 denied:4:t",
    "SelfSubjectAccessReviewSpec": "resourceAttributes:1:ResourceAttributes "
    "nonResourceAttributes:2:NonResourceAttributes",
    "SelfSubjectAccessReview": "metadata:1:ObjectMeta spec:2:SelfSubjectAccessReviewSpec status:3:AccessReviewStatus",
    "SubjectAccessReviewSpec": "resourceAttributes:1:ResourceAttributes "
    "nonResourceAttributes:2:NonResourceAttributes user:3 "
    "groups:4:s* extra:5:ExtraValue{} uid:6",
    "SubjectAccessReview": "metadata:1:ObjectMeta spec:2:SubjectAccessReviewSpec status:3:AccessReviewStatus",
    "LocalSubjectAccessReview": "metadata:1:ObjectMeta spec:2:SubjectAccessReviewSpec status:3:AccessReviewStatus",
    "RulesReviewSpec": "namespace:1",
    "RulesReviewStatus": "incomplete:3:t evaluationError:4",
    "SelfSubjectRulesReview": "metadata:1:ObjectMeta spec:2:RulesReviewSpec status:3:RulesReviewStatus",
    "PolicyRule": "verbs:1:s* apiGroups:2:s* resources:3:s* resourceNames:4:s* nonResourceURLs:5:s*",
    "AggregationRule": "clusterRoleSelectors:1:LabelSelector*",
    "Subject": "kind:1 apiGroup:2 name:3 namespace:4",
    "RoleRef": "apiGroup:1 kind:2 name:3",
    "Role": "metadata:1:ObjectMeta rules:2:PolicyRule*",
    "ClusterRole": "metadata:1:ObjectMeta rules:2:PolicyRule* aggregationRule:3:AggregationRule",
    "RoleBinding": "metadata:1:ObjectMeta subjects:2:Subject* roleRef:3:RoleRef",
    "ClusterRoleBinding": "metadata:1:ObjectMeta subjects:2:Subject* roleRef:3:RoleRef",
    "CrossVersionObjectReference": "kind:1 name:2 apiVersion:3",
    "MetricTarget": "type:1 value:2:Quantity averageValue:3:Quantity averageUtilization:4:i",
    "MetricIdentifier": "name:1 selector:2:LabelSelector",
    "ResourceMetricSource": "name:1 target:2:MetricTarget",
    "PodsMetricSource": "metric:1:MetricIdentifier target:2:MetricTarget",
    "MetricSpec": "type:1 pods:3:PodsMetricSource resource:4:ResourceMetricSource",
    "HPAScalingPolicy": "type:1 value:2:i periodSeconds:3:i",
    "HPAScalingRules": "selectPolicy:1 policies:2:HPAScalingPolicy* stabilizationWindowSeconds:3:i",
    "AutoscalerBehavior": "scaleUp:1:HPAScalingRules scaleDown:2:HPAScalingRules",
    "HorizontalPodAutoscalerSpec": "scaleTargetRef:1:CrossVersionObjectReference minReplicas:2:i maxReplicas:3:i "
    "metrics:4:MetricSpec* behavior:5:AutoscalerBehavior",
    "HorizontalPodAutoscalerStatus": "observedGeneration:1:l lastScaleTime:2:Time currentReplicas:3:i "
    "desiredReplicas:4:i",
    "HorizontalPodAutoscaler": "metadata:1:ObjectMeta spec:2:HorizontalPodAutoscalerSpec "
    "status:3:HorizontalPodAutoscalerStatus",
    "ContainerPort": "name:1 hostPort:2:i containerPort:3:i protocol:4 hostIP:5",
    "EnvVar": "name:1 value:2",
    "ResourceRequirements": "limits:1:Quantity{} requests:2:Quantity{}",
    "Container": "name:1 image:2 command:3:s* args:4:s* workingDir:5 ports:6:ContainerPort* env:7:EnvVar* "
    "resources:8:ResourceRequirements terminationMessagePath:13 imagePullPolicy:14 stdin:16:t stdinOnce:17:t tty:18:t "
    "terminationMessagePolicy:20",
    "PodSpec": "containers:2:Container* restartPolicy:3 terminationGracePeriodSeconds:4:l "
    "activeDeadlineSeconds:5:l dnsPolicy:6 "
    "nodeSelector:7:s{} serviceAccountName:8 serviceAccount:9 nodeName:10 hostNetwork:11:t hostPID:12:t hostIPC:13:t "
    "hostname:16 subdomain:17 schedulerName:19 initContainers:20:Container* priorityClassName:24",
    "PodTemplateSpec": "metadata:1:ObjectMeta spec:2:PodSpec",
    "DeploymentStrategy": "type:1",
    "DeploymentSpec": "replicas:1:i selector:2:LabelSelector template:3:PodTemplateSpec strategy:4:DeploymentStrategy "
    "minReadySeconds:5:i revisionHistoryLimit:6:i paused:7:t progressDeadlineSeconds:9:i",
    "DeploymentStatus": "observedGeneration:1:l replicas:2:i updatedReplicas:3:i availableReplicas:4:i "
    "unavailableReplicas:5:i "
    "readyReplicas:7:i",
    "Deployment": "metadata:1:ObjectMeta spec:2:DeploymentSpec status:3:DeploymentStatus",
    "JobSpec": "parallelism:1:i completions:2:i activeDeadlineSeconds:3:l selector:4:LabelSelector manualSelector:5:t "
    "template:6:PodTemplateSpec backoffLimit:7:i ttlSecondsAfterFinished:8:i suspend:10:t",
    "JobStatus": "active:4:i succeeded:5:i failed:6:i completedIndexes:7",
    "Job": "metadata:1:ObjectMeta spec:2:JobSpec status:3:JobStatus",
    "OpenApiInfo": "title:1 version:2",
    "OpenApiPaths": "vendorExtension:1",
    "OpenApiDocument": "swagger:1 info:2:OpenApiInfo paths:8:OpenApiPaths",
    "TypeMeta": "apiVersion:1 kind:2",
    "Unknown": "typeMeta:1:TypeMeta raw:2:b contentEncoding:3 contentType:4",
}
_PACKAGE: Final = "k8s"


class ProtobufError(ValueError):
    """The body is not a protobuf message that this server reads; the text says why."""


def _field(message: Any, text: str) -> None:
    name, number, *rest = text.split(":")
    kind = rest[0] if rest else "s"
    proto = descriptor_pb2.FieldDescriptorProto
    scalars = {
        "s": proto.TYPE_STRING,
        "b": proto.TYPE_BYTES,
        "t": proto.TYPE_BOOL,
        "i": proto.TYPE_INT32,
        "l": proto.TYPE_INT64,
    }
    field = message.field.add(name=name, number=int(number))
    field.label = proto.LABEL_REPEATED if kind.endswith(("*", "{}")) else proto.LABEL_OPTIONAL
    base = kind.rstrip("*{}")
    if kind.endswith("{}"):
        entry = message.nested_type.add(name=f"{name[0].upper()}{name[1:]}Entry")
        entry.options.map_entry = True
        _field(entry, "key:1")
        _field(entry, f"value:2:{base}")
        field.type, field.type_name = proto.TYPE_MESSAGE, f".{_PACKAGE}.{message.name}.{entry.name}"
    elif base in scalars:
        field.type = scalars[base]
    else:
        field.type, field.type_name = proto.TYPE_MESSAGE, f".{_PACKAGE}.{base}"


def _build() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(name="k8s.proto", package=_PACKAGE, syntax="proto2")
    for name, fields in _TABLE.items():
        message = file.message_type.add(name=name)
        for text in fields.split():
            _field(message, text)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {n: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{n}")) for n in _TABLE}


_CLASSES: Final = _build()


def _parse(name: str, raw: bytes) -> Any:
    message = _CLASSES[name]()
    try:
        message.ParseFromString(raw)
    except DecodeError:
        raise ProtobufError("unexpected EOF") from None
    return message


def _refuse_unknown(message: Any, path: str) -> None:
    unknown = UnknownFieldSet(message)
    if len(unknown):
        numbers = sorted({f.field_number for f in unknown})
        raise ProtobufError(f"fields {numbers} of {path} are not served as protobuf; JSON would work")


def decode(body: bytes) -> dict[str, Any]:
    """The object of a protobuf body in its JSON form."""
    if not body.startswith(MAGIC):
        raise ProtobufError(
            "provided data does not appear to be a protobuf message, expected prefix "
            f"[{' '.join(str(b) for b in MAGIC)}]"
        )
    envelope = _parse("Unknown", body[len(MAGIC) :])
    kind, version = envelope.typeMeta.kind, envelope.typeMeta.apiVersion
    if kind not in _TABLE or (not _TABLE[kind].startswith("metadata:") and kind != "DeleteOptions"):
        raise ProtobufError(f"{kind or 'an object without kind'} is not served as protobuf; JSON would work")
    made: dict[str, Any] = _to_json(_parse(kind, envelope.raw), kind)
    return {"apiVersion": version, "kind": kind, **made}


def empty_openapi_v2() -> bytes:
    """An OpenAPI v2 document without types: kubectl asks for one to validate a ``List``, and skips what it lacks."""
    document: Any = _CLASSES["OpenApiDocument"]()
    document.swagger, document.info.title, document.info.version = "2.0", "Kubernetes", "v1.36.0"
    document.paths.SetInParent()
    return bytes(document.SerializeToString())


def _to_json(message: Any, path: str) -> Any:
    _refuse_unknown(message, path)
    name = message.DESCRIPTOR.name
    if name == "Time":
        return _time(message)
    if name == "Quantity":
        return message.string
    if name == "FieldsV1":
        return json.loads(message.Raw or b"{}")
    if name == "ExtraValue":
        return list(message.items)
    made: dict[str, Any] = {}
    for field, value in message.ListFields():
        shown = _value(field, value, f"{path}.{field.name}")
        if shown not in ("", None):
            made[field.name] = shown
    return made


def _time(message: Any) -> str | None:
    if not message.seconds:
        return None
    return datetime.fromtimestamp(message.seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _value(field: Any, value: Any, path: str) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return {key: _scalar(value[key], path) for key in value}
    if field.is_repeated:
        return [_scalar(item, path) for item in value]
    return _scalar(value, path)


def _scalar(value: Any, path: str) -> Any:
    if isinstance(value, Message):
        return _to_json(value, path)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
