"""The files for Kubernetes fit KubeRay's fields, each other, docs/ray.md and the checkout.

No cluster is asked: what is here is what can be known without one.
"""

from __future__ import annotations

import copy
import fnmatch
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from kuberay_fields import FORMS, faults

ROOT = Path(__file__).parents[1]
HERE = ROOT / "docs" / "kubernetes"
PAGE = (ROOT / "docs" / "ray.md").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
DOCKERFILE = (HERE / "Dockerfile").read_text("utf-8")
IGNORED = (HERE / "Dockerfile.dockerignore").read_text("utf-8")
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_RAY_ITSELF = 2 * 2**30  # gcs, raylet, agents: the least that is to be left beside what Ray counts


def objects(name: str) -> list[dict[str, Any]]:
    """The objects of a manifest."""
    return list(yaml.safe_load_all((HERE / name).read_text("utf-8")))


CLUSTER: dict[str, Any] = objects("cluster.yaml")[0]
JOB: dict[str, Any]
JOB, CLAIM = objects("job.yaml")
CLUSTERS = {"cluster.yaml": CLUSTER["spec"], "job.yaml": JOB["spec"]["rayClusterSpec"]}
both = pytest.mark.parametrize("spec", CLUSTERS.values(), ids=CLUSTERS)


def pods(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The specs of the Pods of a cluster, the head's first."""
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        yield group["template"]["spec"]


def size(quantity: str) -> int:
    """Bytes of a quantity."""
    return int(quantity[:-2]) * _UNITS[quantity[-2:]]


def arguments() -> dict[str, str]:
    """The arguments of the Dockerfile and their values."""
    return dict(re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILE, re.MULTILINE))


def instructions(kind: str) -> list[list[str]]:
    """The words of each instruction of a kind."""
    return [shlex.split(words) for words in re.findall(rf"^{kind} (.+)$", DOCKERFILE, re.MULTILINE)]


@pytest.mark.parametrize("name", ["cluster.yaml", "job.yaml"])
def test_all_fields_are_known_and_hold_what_belongs_there(name: str) -> None:
    for one in objects(name):
        assert not list(faults(one, FORMS[one["kind"]], one["kind"]))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["spec", "rayversion"], "2.60.0", "RayCluster.spec.rayversion is no field"),
        (["spec", "rayVersion"], 2.6, "RayCluster.spec.rayVersion is 2.6, not as"),
        (["spec", "headGroupSpec", "rayStartParams", "num-cpus"], 0, "rayStartParams.num-cpus is 0, no str"),
        (["spec", "workerGroupSpecs", 0, "replicas"], True, "workerGroupSpecs[0].replicas is True, no int"),
        (["spec", "workerGroupSpecs", 0, "minReplicas"], None, "workerGroupSpecs[0].minReplicas is missing"),
        (["spec", "authOptions", "mode"], "tokens", "authOptions.mode is 'tokens', none of"),
        (["spec", "workerGroupSpecs"], {}, "RayCluster.spec.workerGroupSpecs is no list"),
        (["spec", "headGroupSpec", "template"], [], "headGroupSpec.template is no mapping"),
    ],
)
def test_what_is_wrong_is_found(path: list[str | int], value: object, said: str) -> None:
    wrong = copy.deepcopy(CLUSTER)
    at: Any = wrong
    for key in path[:-1]:
        at = at[key]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    [found] = faults(wrong, FORMS["RayCluster"], "RayCluster")
    assert said in found


def test_one_version_of_ray_everywhere() -> None:
    ray = arguments()["RAY_VERSION"]
    allowed = [Requirement(one) for one in PROJECT["optional-dependencies"]["ray"]]
    assert [one.name for one in allowed if ray in one.specifier] == ["ray"]
    for spec in CLUSTERS.values():
        assert spec["rayVersion"] == ray
        assert all(pod["containers"][0]["image"].endswith(f":{ray}") for pod in pods(spec))
    images = set(re.findall(r"\bREGISTRY/\S+", PAGE + DOCKERFILE))
    assert images == {pod["containers"][0]["image"] for spec in CLUSTERS.values() for pod in pods(spec)}
    try:
        assert version("ray") == ray
    except PackageNotFoundError:
        pass


def test_the_image_has_a_python_that_is_supported() -> None:
    major, minor = re.fullmatch(r"py(\d)(\d+)", arguments()["PYTHON"]).groups()  # type: ignore[union-attr]
    assert f"{major}.{minor}" in SpecifierSet(PROJECT["requires-python"])


def test_the_image_is_built_of_the_checkout() -> None:
    copied = [source for words in instructions("COPY") for source in words[1:-1]]
    assert all((ROOT / source).exists() for source in copied), copied
    wanted = {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "src"}
    assert set(copied) == wanted, "what the build of the package reads"
    kept = [line[1:] for line in IGNORED.splitlines() if line.startswith("!")]
    assert IGNORED.splitlines()[1] == "*" and set(kept) == wanted
    [install] = [words for words in instructions("RUN") if words[:2] == ["pip", "install"]]
    folder = instructions("COPY")[0][-1].rstrip("/")
    assert f"{folder}[ray]" in install and "ray==${RAY_VERSION}" in install
    assert fnmatch.fnmatch("src/gristmill/__pycache__", IGNORED.splitlines()[-1])


def test_the_image_does_not_run_as_root_and_neither_do_pods() -> None:
    *_, [user] = instructions("USER")
    for spec in CLUSTERS.values():
        for pod in pods(spec):
            security = pod["securityContext"]
            assert user == f"{security['runAsUser']}:{security['runAsGroup']}" and security["runAsNonRoot"]
            assert security["fsGroup"] == security["runAsGroup"], "or volumes could not be written"
            assert all(not one["securityContext"]["allowPrivilegeEscalation"] for one in pod["containers"])


def test_no_place_to_download_from_is_named() -> None:
    for text in (DOCKERFILE, (HERE / "cluster.yaml").read_text("utf-8"), (HERE / "job.yaml").read_text("utf-8")):
        assert "://" not in text.replace("s3://BUCKET", "") and "index" not in text
    for [image] in instructions("FROM"):
        assert "." not in image.partition("/")[0] and ":" not in image.partition("/")[0]


@both
def test_a_token_is_asked_for(spec: dict[str, Any]) -> None:
    assert spec["authOptions"]["mode"] == "token"
    assert tuple(map(int, spec["rayVersion"].split("."))) >= (2, 52, 0), "KubeRay refuses it before"
    for pod in pods(spec):
        names = {one["name"] for container in pod["containers"] for one in container["env"]}
        assert not names & {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS"}, "KubeRay sets them"


@both
def test_memory_and_processors_add_up(spec: dict[str, Any]) -> None:
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for group in groups:
        [container] = group["template"]["spec"]["containers"]
        resources, params = container["resources"], group["rayStartParams"]
        assert resources["requests"] == resources["limits"], "Ray counts on what it sees"
        assert resources["limits"]["cpu"].isdecimal()
        counted = int(params.get("memory", 0)) + int(params["object-store-memory"])
        assert counted + _RAY_ITSELF <= size(resources["limits"]["memory"])
    assert groups[0]["rayStartParams"]["num-cpus"] == "0"
    for group in spec["workerGroupSpecs"]:
        assert "memory" in group["rayStartParams"], "KubeRay would let Ray count the whole container"
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


@both
def test_what_is_mounted_is_there_and_data_lies_on_it(spec: dict[str, Any]) -> None:
    for pod in pods(spec):
        [container] = pod["containers"]
        mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
        assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
        [folder] = [one["value"] for one in container["env"] if one["name"] == "GRISTMILL_DATA_DIR"]
        assert Path(folder).parent == Path(mounts["data"]), "a folder of its own, that only its user can read"
        assert pod["enableServiceLinks"] is False
    for group in spec["workerGroupSpecs"]:
        assert group["rayStartParams"]["object-spilling-directory"] == mounts["data"]
        assert group["template"]["spec"]["automountServiceAccountToken"] is False


def test_the_cluster_of_the_job_is_the_cluster_but_for_its_script_and_its_disk() -> None:
    ours = copy.deepcopy(CLUSTERS["job.yaml"])
    head = ours["headGroupSpec"]["template"]["spec"]
    [script] = [one for one in head["containers"][0]["volumeMounts"] if one["name"] == "job"]
    head["containers"][0]["volumeMounts"].remove(script)
    [disk, job] = head["volumes"]
    assert disk["persistentVolumeClaim"]["claimName"] == CLAIM["metadata"]["name"]
    theirs = CLUSTERS["cluster.yaml"]["headGroupSpec"]["template"]["spec"]["volumes"]
    assert job["name"] == script["name"] and script["readOnly"] is True
    head["volumes"] = theirs
    assert ours == CLUSTERS["cluster.yaml"]
    assert CLAIM["spec"]["resources"]["requests"]["storage"] == theirs[0]["emptyDir"]["sizeLimit"]


def test_what_the_page_makes_is_what_the_manifests_name() -> None:
    [(secret, config, script)] = re.findall(
        r"create secret generic (\S+) .*?create configmap (\S+) --from-file=(\S+)", PAGE, re.DOTALL
    )
    for spec in CLUSTERS.values():
        for pod in pods(spec):
            assert [one["secretRef"]["name"] for one in pod["containers"][0]["envFrom"]] == [secret]
    head = CLUSTERS["job.yaml"]["headGroupSpec"]["template"]["spec"]
    assert [one["configMap"]["name"] for one in head["volumes"] if "configMap" in one] == [config]
    [folder] = [one["mountPath"] for one in head["containers"][0]["volumeMounts"] if one["name"] == "job"]
    assert f"{folder}/{script}" in JOB["spec"]["entrypoint"].split()
    cluster, job = CLUSTER["metadata"]["name"], JOB["metadata"]["name"]
    assert f"service/{cluster}-head-svc" in PAGE and f"get secret {cluster} " in PAGE
    assert f"get rayjob {job}" in PAGE and f"logs -f job/{job}" in PAGE
    ports = {one["containerPort"] for one in head["containers"][0]["ports"]}
    assert {int(one) for one in re.findall(r"localhost:(\d+)", PAGE)} <= ports


@both
def test_a_cluster_that_grows_is_told_how_far(spec: dict[str, Any]) -> None:
    """A job that names no number of slots takes what is there, which may be nothing."""
    assert spec["enableInTreeAutoscaling"] and spec["autoscalerOptions"]["version"] == "v2"
    [workers] = spec["workerGroupSpecs"]
    most = workers["maxReplicas"] * int(workers["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    commands = [
        JOB["spec"]["entrypoint"],
        *re.findall(r"^ray job submit --address http://localhost.*", PAGE, re.MULTILINE),
    ]
    wanted = [int(number) for one in commands for number in re.findall(r" --executors (\d+)", one)]
    assert len(wanted) == len(commands) and max(wanted) <= most


def test_ray_knows_its_parameters() -> None:
    pytest.importorskip("ray")
    from ray.scripts.scripts import start

    known = {option.removeprefix("--") for param in start.params for option in param.opts}
    for spec in CLUSTERS.values():
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            assert set(group["rayStartParams"]) <= known
