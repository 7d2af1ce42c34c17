"""The files in clusters/ fit the schemas that Ray ships, KubeRay's field names, and the commands as they are."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.dashboard.modules.job.cli import submit
from ray.scripts.scripts import cli as ray_cli

from cellscale.cli.main import cli

ROOT = Path(__file__).parents[1]
CLUSTERS = ROOT / "clusters"
PAGES = sorted(CLUSTERS.rglob("README.md"))
PINNED = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)


def fields(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """A JSON schema of an object that has these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


TEXT, NUMBER, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
CONTAINER = fields(
    ("name", "image", "resources"),
    name=TEXT,
    image=TEXT,
    ports={"type": "array", "items": fields(("containerPort",), containerPort=NUMBER, name=TEXT)},
    env={"type": "array"},
    envFrom={"type": "array", "items": fields(("secretRef",), secretRef=fields(("name",), name=TEXT, optional=FLAG))},
    resources=fields(("requests", "limits"), requests=TEXTS, limits=TEXTS),
)
TOLERATION = fields(("key", "operator"), key=TEXT, operator={"enum": ["Equal", "Exists"]}, value=TEXT, effect=TEXT)
POD = fields(
    ("spec",),
    metadata={"type": "object"},
    spec=fields(
        ("containers",),
        containers={"type": "array", "items": CONTAINER, "minItems": 1},
        nodeSelector=TEXTS,
        tolerations={"type": "array", "items": TOLERATION},
        serviceAccountName=TEXT,
    ),
)
WORKERS = fields(
    ("groupName", "template", "minReplicas", "maxReplicas", "rayStartParams"),
    groupName=TEXT,
    replicas=NUMBER,
    minReplicas=NUMBER,
    maxReplicas=NUMBER,
    idleTimeoutSeconds=NUMBER,
    numOfHosts=NUMBER,
    rayStartParams=TEXTS,
    scaleStrategy={"type": "object"},
    template=POD,
)
CLUSTER = fields(
    ("rayVersion", "headGroupSpec", "workerGroupSpecs"),
    rayVersion=TEXT,
    authOptions=fields(("mode",), mode={"enum": ["token", "disabled"]}),
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=fields(
        idleTimeoutSeconds=NUMBER,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        resources={"type": "object"},
        version={"enum": ["v1", "v2"]},
    ),
    gcsFaultToleranceOptions={"type": "object"},
    headServiceAnnotations=TEXTS,
    suspend=FLAG,
    headGroupSpec=fields(
        ("template", "rayStartParams"), template=POD, rayStartParams=TEXTS, serviceType=TEXT, enableIngress=FLAG
    ),
    workerGroupSpecs={"type": "array", "items": WORKERS, "minItems": 1},
)
JOB = fields(
    ("entrypoint", "rayClusterSpec"),
    entrypoint=TEXT,
    rayClusterSpec=CLUSTER,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=NUMBER,
    activeDeadlineSeconds=NUMBER,
    backoffLimit=NUMBER,
    runtimeEnvYAML=TEXT,
    suspend=FLAG,
)


def kuberay(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Schema of a KubeRay resource of version ray.io/v1, by the field names of its API reference."""
    metadata = fields(("name",), name=TEXT, namespace=TEXT, labels=TEXTS)
    every = ("apiVersion", "kind", "metadata", "spec")
    return fields(every, apiVersion={"const": "ray.io/v1"}, kind={"const": kind}, metadata=metadata, spec=spec)


def read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((CLUSTERS / name).read_text())
    return document


@pytest.mark.parametrize(("name", "kind", "spec"), [("raycluster", "RayCluster", CLUSTER), ("rayjob", "RayJob", JOB)])
def test_kuberay_resources_have_known_fields_and_groups_of_both_kinds(name: str, kind: str, spec: Any) -> None:
    found = read(f"kuberay/{name}.yaml")
    jsonschema.validate(found, kuberay(kind, spec))
    cluster = found["spec"].get("rayClusterSpec", found["spec"])
    assert cluster["rayVersion"] == ray.__version__
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    limits = [
        group["template"]["spec"]["containers"][0]["resources"]["limits"] for group in cluster["workerGroupSpecs"]
    ]
    assert ["nvidia.com/gpu" in limit for limit in limits] == [False, True]
    assert all(
        group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] for group in cluster["workerGroupSpecs"]
    )


def test_the_job_brings_the_cluster_that_stays() -> None:
    assert read("kuberay/rayjob.yaml")["spec"]["rayClusterSpec"] == read("kuberay/raycluster.yaml")["spec"]


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_ray_up_accepts_the_configuration(cloud: str) -> None:
    """Ray's own schema, and its own defaults and checks; its defaults know every field of a node."""
    config = read(f"{cloud}/cluster.yaml")
    home = Path(ray.__path__[0]) / "autoscaler"
    jsonschema.validate(config, json.loads((home / "ray-schema.json").read_text()))
    prepared = prepare_config(config)
    validate_config(prepared)
    defaults = yaml.safe_load((home / cloud / "defaults.yaml").read_text())
    assert set(config) <= set(defaults)
    assert set(config["provider"]) <= set(defaults["provider"])
    assert prepared["head_start_ray_commands"] != defaults["head_start_ray_commands"]


@pytest.mark.parametrize(("cloud", "spot"), [("aws", "InstanceMarketOptions"), ("gcp", "scheduling")])
def test_workers_are_spot_machines_and_the_head_is_none(cloud: str, spot: str) -> None:
    config = read(f"{cloud}/cluster.yaml")
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    assert spot not in head["node_config"]
    assert head["resources"] == {"CPU": 0}
    assert set(types) == {"processors", "gpus"}
    assert all("spot" in json.dumps(kind["node_config"][spot]).lower() for kind in types.values())


def test_the_image_has_the_pinned_ray_and_what_it_copies_exists() -> None:
    text = (CLUSTERS / "docker" / "Dockerfile").read_text()
    assert PINNED is not None
    assert f"rayproject/ray:{PINNED[1]}-py311" in text
    copied = [words.split()[2:-1] for words in re.findall(r"^(COPY .*)$", text, re.M)]
    assert all((ROOT / name).exists() for names in copied for name in names)
    wanted = re.search(r"'\.\[(.*)\]'", text)
    assert wanted is not None
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(wanted[1].split(",")) <= set(extras)


def test_the_batch_script_is_sound_and_names_options_that_ray_has() -> None:
    script = CLUSTERS / "slurm" / "segment.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text().replace("\\\n", "")
    line = re.search(r"ray (symmetric-run .*) -- ", text)
    assert line is not None
    options = re.findall(r"--[\w-]+", line[1])
    known = {
        name for command in ("symmetric-run", "start") for p in ray_cli.commands[command].params for name in p.opts
    }
    assert {"--address", "--min-nodes"} <= set(options) <= known


def commands(page: Path) -> list[list[str]]:
    """The words of each line of a page's shell blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.M | re.S)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


def ours(words: list[str]) -> list[str]:
    """What a line of a page passes to the command cellscale, or nothing."""
    if words[:3] == ["ray", "job", "submit"]:
        words = list(submit.make_context("submit", words[3:]).params["entrypoint"])
    if words[0] == "sbatch":
        image, model, *more = words[words.index("clusters/slurm/segment.sbatch") + 1 :]
        return ["segment", image, "--model", model, *more]
    return words[words.index("cellscale") + 1 :] if words[0] in ("cellscale", "docker") and "cellscale" in words else []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_every_command_on_a_page_exists_with_its_options(page: Path) -> None:
    found = [words for words in map(ours, commands(page)) if words]
    assert found
    for words in found:
        parsed(cli, words)


def parsed(group: click.Group, words: list[str]) -> None:
    """Parse a command of a group without running it; click raises for what it does not know."""
    group.commands[words[0]].make_context(words[0], words[1:]).close()


def test_each_folder_explains_itself_on_one_page() -> None:
    folders = {page.parent for page in PAGES}
    assert {path for path in CLUSTERS.iterdir() if path.is_dir()} | {CLUSTERS} == folders
    assert all(page.read_text().count("\n") <= 60 for page in PAGES)
    asked = [page for page in PAGES if page.parent.name != "docker"]
    assert all("ray job submit" in page.read_text() for page in asked)


def test_the_jobs_entrypoint_is_a_command() -> None:
    parsed(cli, shlex.split(read("kuberay/rayjob.yaml")["spec"]["entrypoint"])[1:])
