"""What may stand in the manifests of docs/kubernetes: the fields of KubeRay and Kubernetes that one would use there.

A form says what a value must be: a type, a regular expression that text must match, a set of choices, a list of one
form for all elements, a dict of fields, or Free for a mapping whose keys are the user's. A field whose name ends with
``!`` must be there. Kubernetes refuses a field that it does not know, or drops it without a word, as it is set up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_QUANTITY = re.compile(r"\d+(\.\d+)?(m|[kMGTP]|[KMGTP]i)?")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


@dataclass(frozen=True)
class Free:
    """A mapping whose keys are the user's.

    Attributes:
        form: of each value.
    """

    form: object


def faults(value: object, form: object, where: str = "") -> Iterator[str]:
    """What is wrong with a value, in words, with the path that leads there."""
    if isinstance(form, type):
        if not isinstance(value, form) or (form is int and isinstance(value, bool)):
            yield f"{where} is {value!r}, no {form.__name__}"
    elif isinstance(form, re.Pattern):
        if not isinstance(value, str) or not form.fullmatch(value):
            yield f"{where} is {value!r}, not as {form.pattern}"
    elif isinstance(form, frozenset):
        if value not in form:
            yield f"{where} is {value!r}, none of {sorted(form)}"
    elif isinstance(form, list):
        if not isinstance(value, list):
            yield f"{where} is no list"
            return
        for number, element in enumerate(value):
            yield from faults(element, form[0], f"{where}[{number}]")
    elif not isinstance(value, dict):
        yield f"{where} is no mapping"
    elif isinstance(form, Free):
        for key, below in value.items():
            yield from faults(key, str, f"a key of {where}")
            yield from faults(below, form.form, f"{where}.{key}")
    else:
        assert isinstance(form, dict)
        yield from _faults_of_fields(value, form, where)


def _faults_of_fields(value: dict[str, object], form: dict[str, object], where: str) -> Iterator[str]:
    forms = {name.removesuffix("!"): below for name, below in form.items()}
    for key, below in value.items():
        if key in forms:
            yield from faults(below, forms[key], f"{where}.{key}")
        else:
            yield f"{where}.{key} is no field"
    for name in form:
        if name.endswith("!") and name[:-1] not in value:
            yield f"{where}.{name[:-1]} is missing"


_METADATA = {"name!": _NAME, "namespace": _NAME, "labels": Free(str), "annotations": Free(str)}
_RESOURCES = {"requests": Free(_QUANTITY), "limits": Free(_QUANTITY)}
_KEY_OF = {"name!": _NAME, "key!": str, "optional": bool}
_SECURITY = {
    "runAsNonRoot": bool,
    "runAsUser": int,
    "runAsGroup": int,
    "readOnlyRootFilesystem": bool,
    "allowPrivilegeEscalation": bool,
    "capabilities": {"drop": [str], "add": [str]},
    "seccompProfile": {"type!": frozenset({"RuntimeDefault", "Unconfined", "Localhost"})},
}
_ENVIRONMENT = [
    {
        "name!": re.compile(r"[A-Za-z_][A-Za-z0-9_]*"),
        "value": str,
        "valueFrom": {"secretKeyRef": _KEY_OF, "configMapKeyRef": _KEY_OF, "fieldRef": {"fieldPath!": str}},
    }
]
_CONTAINER = {
    "name!": _NAME,
    "image!": str,
    "imagePullPolicy": frozenset({"Always", "IfNotPresent", "Never"}),
    "command": [str],
    "args": [str],
    "ports": [{"name": re.compile(r"[a-z0-9-]{1,15}"), "containerPort!": int, "protocol": frozenset({"TCP", "UDP"})}],
    "env": _ENVIRONMENT,
    "envFrom": [
        {
            "prefix": str,
            "secretRef": {"name!": _NAME, "optional": bool},
            "configMapRef": {"name!": _NAME, "optional": bool},
        }
    ],
    "resources": _RESOURCES,
    "volumeMounts": [{"name!": _NAME, "mountPath!": re.compile("/.+"), "subPath": str, "readOnly": bool}],
    "securityContext": _SECURITY,
}
_VOLUME = {
    "name!": _NAME,
    "emptyDir": {"medium": frozenset({"", "Memory"}), "sizeLimit": _QUANTITY},
    "configMap": {"name!": _NAME, "optional": bool, "items": [{"key!": str, "path!": str}]},
    "secret": {"secretName!": _NAME, "optional": bool, "defaultMode": int},
    "persistentVolumeClaim": {"claimName!": _NAME, "readOnly": bool},
}
_POD = {
    "containers!": [_CONTAINER],
    "initContainers": [_CONTAINER],
    "volumes": [_VOLUME],
    "enableServiceLinks": bool,
    "automountServiceAccountToken": bool,
    "serviceAccountName": _NAME,
    "imagePullSecrets": [{"name!": _NAME}],
    "nodeSelector": Free(str),
    "tolerations": [{"key": str, "operator": str, "value": str, "effect": str}],
    "priorityClassName": str,
    "terminationGracePeriodSeconds": int,
    "securityContext": {**_SECURITY, "fsGroup": int},
}
_TEMPLATE = {"metadata": {"labels": Free(str), "annotations": Free(str)}, "spec!": _POD}
_GROUP = {
    "rayStartParams!": Free(str),  # text throughout, also numbers: they become a command line
    "resources": Free(str),
    "labels": Free(str),
    "template!": _TEMPLATE,
}
_CLUSTER = {
    "rayVersion": _VERSION,
    "authOptions": {"mode": frozenset({"token", "disabled"}), "secretName": _NAME, "enableK8sTokenAuth": bool},
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": {
        "version": frozenset({"v1", "v2"}),
        "idleTimeoutSeconds": int,
        "upscalingMode": frozenset({"Default", "Aggressive", "Conservative"}),
        "resources": _RESOURCES,
        "imagePullPolicy": str,
        "env": _ENVIRONMENT,
    },
    "suspend": bool,
    "headServiceAnnotations": Free(str),
    "headGroupSpec!": {
        **_GROUP,
        "serviceType": frozenset({"ClusterIP", "NodePort", "LoadBalancer"}),
        "enableIngress": bool,
    },
    "workerGroupSpecs": [
        {
            **_GROUP,
            "groupName!": _NAME,
            "replicas": int,
            "minReplicas!": int,
            "maxReplicas!": int,
            "numOfHosts": int,
            "idleTimeoutSeconds": int,
            "priority": int,
        }
    ],
}
_JOB = {
    "entrypoint": str,
    "entrypointNumCpus": int,
    "submissionMode": frozenset({"K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"}),
    "submitterConfig": {"backoffLimit": int},
    "submitterPodTemplate": _TEMPLATE,
    "runtimeEnvYAML": str,
    "metadata": Free(str),
    "backoffLimit": int,
    "activeDeadlineSeconds": int,
    "preRunningDeadlineSeconds": int,
    "shutdownAfterJobFinishes": bool,
    "ttlSecondsAfterFinished": int,
    "suspend": bool,
    "clusterSelector": Free(str),
    "rayClusterSpec": _CLUSTER,
}
_CLAIM = {
    "accessModes!": [frozenset({"ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany", "ReadOnlyMany"})],
    "resources!": {"requests!": Free(_QUANTITY)},
    "storageClassName": _NAME,
}


def _object(version: str, kind: str, spec: object) -> dict[str, object]:
    return {
        "apiVersion!": frozenset({version}),
        "kind!": frozenset({kind}),
        "metadata!": _METADATA,
        "spec!": spec,
    }


FORMS = {
    "RayCluster": _object("ray.io/v1", "RayCluster", _CLUSTER),
    "RayJob": _object("ray.io/v1", "RayJob", _JOB),
    "PersistentVolumeClaim": _object("v1", "PersistentVolumeClaim", _CLAIM),
}
"""Kind of object → its form."""
