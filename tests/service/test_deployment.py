"""What is shipped in `docker/`: linted by others' tools, and held against the service, so that a renamed setting or port is noticed here.

There is no Docker and no cluster where these tests run: nginx, Prometheus and the service itself are proven as processes (`test_nginx.py`,
`test_monitoring.py`), the images by what they are made from.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sysconfig
import tomllib
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import compose_spec
import httpx
import kubernetes_validate
import pytest
import yaml

from service.app import SHUTDOWN_GRACE_S
from service.drain import FAREWELL_S
from service.settings import Settings
from service.webhook_deliverer import LEAVING_S
from service.workflows import ENDING_S
from tests.service.conftest import Serve, upload
from tests.service.test_analyses import until
from tests.support import ROOT

DOCKER = ROOT / "docker"
KUBERNETES = DOCKER / "kubernetes"
KUBERNETES_VERSION = "1.31"
OF_OTHERS = {"TriggerAuthentication", "ScaledObject", "Kustomization"}

Mapping = dict[str, Any]


def literal_of_kubernetes(name: str) -> str:
    """What the ConfigMap of the base gives a setting."""
    read = yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text("utf-8"))
    literals: list[str] = read["configMapGenerator"][0]["literals"]
    return dict(one.split("=", 1) for one in literals)[name]


def settings_named_in(text: str) -> set[str]:
    return set(re.findall(r"\bUNDERCURRENT_[A-Z_]+\b", text))


def compose() -> Mapping:
    """The compose file as it is without an environment."""
    text = (DOCKER / "compose.yaml").read_text("utf-8").replace("$$", "\0")
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    assert "${" not in text, "a variable without a value would stop the profile that does not need it"
    text = text.replace("\0", "$")
    read: Mapping = yaml.safe_load(text)
    return read


def manifests() -> list[Mapping]:
    return [one for path in sorted((KUBERNETES / "base").glob("*.yaml")) for one in yaml.safe_load_all(path.read_text("utf-8"))]


def manifest(kind: str, name: str = "undercurrent") -> Mapping:
    found = [one for one in manifests() if one["kind"] == kind and one.get("metadata", {}).get("name") == name]
    assert len(found) == 1, (kind, name)
    return found[0]


def test_every_setting_that_is_set_anywhere_exists() -> None:
    known = {f"UNDERCURRENT_{name.upper()}" for name in Settings.model_fields}
    for path in (ROOT / "Dockerfile", *DOCKER.rglob("*.y*ml")):
        assert {name.partition("__")[0] for name in settings_named_in(path.read_text("utf-8"))} <= known, path


# -- image ----------------------------------------------------------------------------------------------------


def stages() -> dict[str, list[str]]:
    """The Dockerfile's instructions by stage, continued lines joined."""
    text = re.sub(r"\\\n(?:\s*#.*\n)*", "", (ROOT / "Dockerfile").read_text("utf-8"))
    found: dict[str, list[str]] = {}
    for line in (line for line in text.splitlines() if line and not line.startswith("#")):
        if named := re.match(r"FROM (\S+) AS (\S+)", line):
            found[named[2]] = [*found.get(named[1], [])]
        elif found:
            found[list(found)[-1]].append(line)
    return found


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sysconfig.get_path("scripts"), "hadolint")
    done = subprocess.run([hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_an_image_runs_as_nobody_and_knows_when_it_is_well(target: str) -> None:
    instructions = stages()[target]
    assert [line for line in instructions if line.startswith("USER ")][-1] == "USER 10001:10001"
    assert any(line.startswith("HEALTHCHECK ") and "/livez" in line for line in instructions)
    assert 'ENTRYPOINT ["undercurrent"]' in instructions and 'CMD ["serve"]' in instructions
    assert f"COPY --from=build-{target} /opt/undercurrent /opt/undercurrent" in instructions


def test_everything_that_is_copied_is_there_and_reaches_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    copied = {
        name
        for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    }
    assert copied >= {"pyproject.toml", "models", "pipelines", "service"}
    for name in copied:
        assert (ROOT / name).exists() and f"!{name}" in ignored, name


def test_the_image_installs_what_pyproject_asks_for(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    step = next(line for line in stages()["build"] if "requirements.txt" in line)
    subprocess.run(["bash", "-euc", step.removeprefix("RUN ")], cwd=tmp_path, check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    optional = project["optional-dependencies"]
    wanted = [*project["dependencies"], *optional["traces"], *optional["credentials"]]
    assert (tmp_path / "requirements.txt").read_text("utf-8").splitlines() == wanted
    assert [line.partition(">")[0] for line in (tmp_path / "torch.txt").read_text("utf-8").splitlines()] == ["torch", "torchvision"]


# -- compose ----------------------------------------------------------------------------------------------------


def test_compose_keeps_to_its_specification() -> None:
    file = compose()
    compose_spec.PyCompose.from_json(json.dumps(file)).validate()
    services = file["services"]
    assert {name: service["profiles"] for name, service in services.items() if service["profiles"] != ["scaled"]} == {
        "undercurrent": ["single"]
    }


def test_every_container_is_locked_up_and_only_this_machine_comes_in() -> None:
    # By the images' own Dockerfiles; a service that is in neither names its user itself.
    with_a_user_of_its_own = {"undercurrent", "undercurrent-1", "undercurrent-2", "nginx", "prometheus", "grafana"}
    root_without_capabilities = {"objects", "mediamtx"}
    for name, service in compose()["services"].items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if name not in with_a_user_of_its_own | root_without_capabilities:
            assert int(service["user"].partition(":")[0]) > 0, name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        tag = service["image"].rpartition(":")[2]
        assert tag != "latest" and "/" not in tag, f"{name}: expected an image with a version, got {service['image']}"
    assert {name for name, service in compose()["services"].items() if service.get("ports")} == {"undercurrent", "nginx", "grafana"}


def test_a_container_and_a_pod_have_time_to_leave() -> None:
    """Everything that a process may take after SIGTERM, one after the other; killed sooner, it would leave work to be taken over."""
    takes_s = FAREWELL_S + SHUTDOWN_GRACE_S + ENDING_S + LEAVING_S
    services = compose()["services"]
    for name in ("undercurrent", "undercurrent-1", "undercurrent-2"):
        notice_s = Settings(drain_notice_s=float(services[name]["environment"].get("UNDERCURRENT_DRAIN_NOTICE_S", "0"))).drain_notice_s
        grace = re.fullmatch(r"(\d+)s", services[name]["stop_grace_period"])
        assert grace is not None and float(grace[1]) > notice_s + takes_s, name
    pod = manifest("StatefulSet")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > float(literal_of_kubernetes("UNDERCURRENT_DRAIN_NOTICE_S")) + takes_s


def test_what_compose_mounts_and_waits_for_is_there() -> None:
    file = compose()
    for name, service in file["services"].items():
        for source in (mount.partition(":")[0] for mount in service.get("volumes", [])):
            assert (DOCKER / source).exists() if source.startswith((".", "/")) else source in file["volumes"], (name, source)
        assert set(service.get("networks", [])) <= file["networks"].keys()
        for other, how in service.get("depends_on", {}).items():
            has_check = "healthcheck" in file["services"][other] or file["services"][other]["image"].startswith("undercurrent:")
            assert has_check or how["condition"] == "service_completed_successfully", (name, other)
    settings = Settings(camera_networks=json.loads(file["services"]["undercurrent-1"]["environment"]["UNDERCURRENT_CAMERA_NETWORKS"]))
    subnet = file["networks"]["cameras"]["ipam"]["config"][0]["subnet"]
    assert subnet in map(str, settings.camera_networks) and file["services"]["mediamtx"]["networks"] == ["cameras"]
    assert [name for name, one in file["services"].items() if "cameras" in one.get("networks", [])] == [
        "undercurrent-1",
        "undercurrent-2",
        "mediamtx",
    ]
    assert file["networks"]["back"]["internal"] and file["services"]["postgres"]["networks"] == ["back"]


def test_what_stands_in_front_is_named_where_it_is_believed() -> None:
    file = compose()

    def subnet(network: str) -> str:
        found: str = file["networks"][network]["ipam"]["config"][0]["subnet"]
        return found

    def gateway(network: str) -> str:
        found: str = file["networks"][network]["ipam"]["config"][0]["gateway"]
        return found

    def trusted(service: str) -> list[str]:
        given = json.loads(file["services"][service]["environment"]["UNDERCURRENT_TRUSTED_PROXIES"])
        return list(map(str, Settings(trusted_proxies=given).trusted_proxies))

    assert trusted("undercurrent-1") == trusted("undercurrent-2") == [subnet("front")] and file["services"]["nginx"]["networks"] == [
        "front"
    ]
    assert trusted("undercurrent") == [f"{gateway('alone')}/32"] and file["services"]["undercurrent"]["networks"] == ["alone"]
    believed = re.search(r"geo \$tls_end_before \{(.*?)\}", (DOCKER / "nginx" / "nginx.conf").read_text("utf-8"), flags=re.DOTALL)
    assert believed is not None
    assert set(re.findall(r"(\S+) +1;", believed[1])) == {"127.0.0.1", "::1", gateway("front")}
    given = Settings(trusted_proxies=json.loads(literal_of_kubernetes("UNDERCURRENT_TRUSTED_PROXIES"))).trusted_proxies
    assert all(network.is_private for network in given if str(network) != "100.64.0.0/10")


def test_the_replicas_have_one_name_everywhere() -> None:
    services = compose()["services"]
    replicas = {name for name in services if re.fullmatch(r"undercurrent-\d", name)}
    addresses = {f"{name}:8000" for name in replicas}
    assert len(replicas) == 2 and {services[name]["hostname"] for name in replicas} == replicas
    scraped = yaml.safe_load((DOCKER / "monitoring" / "prometheus.yml").read_text("utf-8"))["scrape_configs"][0]["static_configs"][0][
        "targets"
    ]
    balanced = re.findall(r"^\s*server (\S+) ", (DOCKER / "nginx" / "nginx.conf").read_text("utf-8"), flags=re.MULTILINE)
    assert set(scraped) == addresses == set(balanced)
    for name in replicas:
        assert replicas < set(json.loads(services[name]["environment"]["UNDERCURRENT_ALLOWED_HOSTS"])), (
            "Prometheus asks them by these names"
        )


# -- Kubernetes ----------------------------------------------------------------------------------------------------


def test_every_manifest_keeps_to_the_schema_of_its_kind() -> None:
    checked = [one["kind"] for one in manifests() if one["kind"] not in OF_OTHERS]
    for one in manifests():
        if one["kind"] not in OF_OTHERS:
            kubernetes_validate.validate(one, KUBERNETES_VERSION, strict=True)
    assert set(checked) == {"Namespace", "ServiceAccount", "Service", "StatefulSet", "PodDisruptionBudget", "NetworkPolicy", "Secret"}
    listed = yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text("utf-8"))["resources"]
    there = {path.name for path in (KUBERNETES / "base").glob("*.yaml")}
    assert set(listed) == there - {"kustomization.yaml", "secret.example.yaml"}, "secrets are not applied from the repository"


@pytest.mark.parametrize(("overlay", "tag"), [("base", "cpu"), ("gpu", "cuda")])
def test_kustomize_builds_what_is_meant(overlay: str, tag: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no `kubectl` on the PATH")
    built = subprocess.run([kubectl, "kustomize", KUBERNETES / overlay], capture_output=True, text=True, check=True).stdout
    found = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(built)}
    for (kind, _), one in found.items():
        if kind not in OF_OTHERS:
            kubernetes_validate.validate(one, KUBERNETES_VERSION, strict=True)
    pod = found["StatefulSet", "undercurrent"]["spec"]["template"]
    container = pod["spec"]["containers"][0]
    assert container["image"] == f"undercurrent:{tag}"
    assert container["resources"]["limits"].get("nvidia.com/gpu") == (1 if overlay == "gpu" else None)
    policy = found["NetworkPolicy", "undercurrent"]["spec"]
    dns = policy["egress"][0]["to"][0]["podSelector"]["matchLabels"]
    assert dns == {"k8s-app": "kube-dns"}, "with a label of ours, no name would be found"
    ours = {"app.kubernetes.io/name": "undercurrent"}
    assert pod["metadata"]["labels"] == ours
    for selector in (
        policy["podSelector"]["matchLabels"],
        found["StatefulSet", "undercurrent"]["spec"]["selector"]["matchLabels"],
        found["PodDisruptionBudget", "undercurrent"]["spec"]["selector"]["matchLabels"],
        found["Service", "undercurrent"]["spec"]["selector"],
        found["Service", "undercurrent-replicas"]["spec"]["selector"],
    ):
        assert selector == ours


def test_a_pod_is_locked_up_and_has_time_to_leave() -> None:
    pod = manifest("StatefulSet")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/data", "/tmp"}
    notice_s = float(literal_of_kubernetes("UNDERCURRENT_DRAIN_NOTICE_S"))
    ready = container["readinessProbe"]
    assert ready["periodSeconds"] * ready["failureThreshold"] < notice_s < pod["terminationGracePeriodSeconds"] / 2
    assert "replicas" not in manifest("StatefulSet")["spec"], "KEDA's number would be overwritten with each deployment"


def test_the_probes_ask_for_what_the_service_answers(client: httpx.Client) -> None:
    container = manifest("StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert client.get(container[probe]["httpGet"]["path"]).status_code == 200
    assert container["ports"][0]["containerPort"] == Settings.model_fields["port"].default
    annotations = manifest("StatefulSet")["spec"]["template"]["metadata"]["annotations"]
    assert client.get(annotations["prometheus.io/path"]).status_code == 200


def test_keda_counts_what_has_not_ended(serve: Serve, settings: Settings, endless: Path) -> None:
    trigger = manifest("ScaledObject")["spec"]["triggers"][0]
    with serve(settings) as client:
        paths = [upload(client, endless).headers["Location"] for _ in range(3)]
        client.post(f"{paths[2]}/cancel")
        until(client, paths[0], "running")
        with sqlite3.connect(settings.data_dir / "undercurrent.db") as database:
            assert database.execute(trigger["metadata"]["query"]).fetchall() == [(2,)]
        database.close()
        for path in paths[:2]:
            client.post(f"{path}/cancel")
    target = manifest("ScaledObject")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("StatefulSet", manifest("StatefulSet")["metadata"]["name"])
    secret = manifest("Secret")["stringData"]
    assert manifest("TriggerAuthentication", "undercurrent-database")["spec"]["secretTargetRef"][0]["key"] in secret


def test_cameras_may_be_watched_over_udp_and_nothing_else() -> None:
    rules = manifest("NetworkPolicy")["spec"]["egress"]
    datagrams = [
        (to, port) for rule in rules for to in rule["to"] for port in rule["ports"] if port["protocol"] == "UDP" and port["port"] != 53
    ]
    camera = next(to for rule in rules for to in rule["to"] if {"protocol": "TCP", "port": 554} in rule["ports"])
    assert datagrams == [(camera, {"protocol": "UDP", "port": 1024, "endPort": 65535})]


@pytest.mark.parametrize(
    ("address", "may"), [("93.184.216.34", True), ("10.1.2.3", False), ("169.254.169.254", False), ("127.0.0.1", False)]
)
def test_the_public_internet_can_be_reached_and_the_inside_cannot(address: str, may: bool) -> None:
    rules = manifest("NetworkPolicy")["spec"]["egress"]
    blocks = [to["ipBlock"] for rule in rules for to in rule["to"] if "ipBlock" in to]
    reached = any(
        ip_address(address) in ip_network(block["cidr"])
        and not any(ip_address(address) in ip_network(cut) for cut in block.get("except", []))
        for block in blocks
    )
    assert reached is may
