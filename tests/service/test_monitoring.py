"""Dashboard and alerts: a real Prometheus scrapes a real service, and every expression in `docker/monitoring` finds what it asks for."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import yaml

from pipelines.model import load_model
from service.app import open_rooms
from service.metrics import Page
from service.settings import Settings
from tests.ports import free_port
from tests.service.conftest import Serve, upload
from tests.support import ROOT, require

MONITORING = ROOT / "docker" / "monitoring"
OURS = re.compile(r"\b(?:undercurrent|process|python)_[a-z_]+\b")


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MONITORING / "grafana/dashboards/undercurrent.json").read_text("utf-8"))
    return found


def expressions() -> list[tuple[str, str]]:
    """Every expression that is drawn, with its panel."""
    return [(panel["title"], target["expr"]) for panel in dashboard()["panels"] for target in panel.get("targets", [])]


def alerts() -> list[tuple[str, str]]:
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text("utf-8"))
    return [(rule["alert"], rule["expr"]) for group in rules["groups"] for rule in group["rules"]]


@contextmanager
def prometheus(directory: Path, target: str) -> Iterator[httpx.Client]:
    """Debian's Prometheus with our configuration, but for its target and its patience."""
    program = require("prometheus").with_name("prometheus")  # type: ignore[union-attr]
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text("utf-8"))
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(MONITORING / "alerts.yml")]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    port = free_port()
    arguments = [
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/db",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (
        subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        try:
            yield client
        finally:
            running.kill()


def ask(client: httpx.Client, expression: str) -> list[dict[str, Any]]:
    answer = client.get("/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", answer
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def wait_for_scrapes(client: httpx.Client, times: int) -> None:
    """Until Prometheus has come so many times more."""
    before, until = scrapes(client), time.monotonic() + 60
    while scrapes(client) < before + times:
        assert time.monotonic() < until, f"Prometheus did not come {times} times in a minute"
        time.sleep(0.2)


def scrapes(client: httpx.Client) -> int:
    try:
        found = ask(client, 'count_over_time(up{job="undercurrent"}[10m])')
    except (httpx.TransportError, json.JSONDecodeError):  # it is not there yet
        return 0
    return int(found[0]["value"][1]) if found else 0


def test_every_panel_has_something_to_show(serve: Serve, settings: Settings, clip: Path, tmp_path: Path) -> None:
    with serve(settings) as service, prometheus(tmp_path, f"127.0.0.1:{service.base_url.port}") as client:
        upload(service, clip, wait_s=60)
        wait_for_scrapes(client, 2)
        # A rate needs a counter that it knew before.
        upload(service, clip, wait_s=60)
        wait_for_scrapes(client, 2)
        filled = {"$instance": ".*", "$__rate_interval": "30s"}
        empty = []
        for panel, expression in expressions():
            for variable, value in filled.items():
                expression = expression.replace(variable, value)
            if not ask(client, expression) and "undercurrent_gpu_" not in expression:
                empty.append((panel, expression))
        assert empty == []
        assert ask(client, 'ALERTS{alertstate="firing"}') == []
        rules = client.get("/api/v1/rules").json()["data"]["groups"][0]["rules"]
        assert {rule["name"]: rule["health"] for rule in rules} == {name: "ok" for name, _ in alerts()}
        asked = {name for _, expression in (*expressions(), *alerts()) for name in OURS.findall(expression)}
        known = set(client.get("/api/v1/label/__name__/values").json()["data"])
        assert {name for name in asked - known if not name.startswith("undercurrent_gpu_")} == set()


@pytest.mark.gpu
async def test_on_a_gpu_its_memory_is_shown_under_the_names_that_are_asked_for(settings: Settings) -> None:
    require("gpu")
    async with open_rooms(settings.model_copy(update={"device": "cuda"}), load_model(device="cuda")) as rooms:
        found = {sample.name: sample.value for family in Page(rooms, None, None).collect() for sample in family.samples}
    asked = {name for _, expression in (*expressions(), *alerts()) for name in OURS.findall(expression)}
    assert {name for name in asked if name.startswith("undercurrent_gpu_")} <= found.keys()
    reserved, used, total = (found[f"undercurrent_gpu_memory_{name}bytes"] for name in ("reserved_", "used_", ""))
    assert 0 < reserved <= used <= total == pytest.approx(torch.cuda.get_device_properties(0).total_memory, rel=0.02)


def test_the_alerts_fire_when_they_should() -> None:
    promtool = str(require("prometheus"))
    for command in (["check", "config", "prometheus.yml"], ["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run([promtool, *command], cwd=MONITORING, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_says_what_to_do_and_every_panel_what_it_means() -> None:
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text("utf-8"))
    for rule in rules["groups"][0]["rules"]:
        assert rule["labels"]["severity"] in ("page", "ticket") and rule["annotations"].keys() == {"summary", "action"}, rule
    panels = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
    assert [panel["title"] for panel in panels if not panel["description"]] == []
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])
    for panel in panels:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
