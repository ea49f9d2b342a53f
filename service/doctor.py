"""What this machine can do, and what is unsafe about this deployment: settings in, an Examination out. Shown by `undercurrent doctor`."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Final

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from models.checkpoint import WeightsError
from pipelines.model import load_model
from service import __version__
from service.deployment_facts import Decoding, decode_child, look_up
from service.deployment_findings import Finding, findings
from service.media_sandbox import MediaSandbox
from service.settings import Settings

STYLES: Final = {"unsafe": "bold red", "warning": "yellow", "info": "dim"}


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found."""

    machine: dict[str, str]
    works: bool
    """Whether all that judging needs is there."""
    findings: list[Finding]

    @property
    def healthy(self) -> bool:
        """Whether it works, and nothing is unsafe."""
        return self.works and all(one.severity != "unsafe" for one in self.findings)

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {"healthy": self.healthy, "machine": self.machine, "findings": [asdict(one) for one in self.findings]}

    def shown(self) -> RenderableType:
        """The same for people."""
        facts = Table("what", "found", box=None, pad_edge=False)
        for what, found in self.machine.items():
            facts.add_row(what, found)
        if not self.findings:
            return facts
        told = Table("severity", "this deployment", "what to do", box=None, pad_edge=False)
        for one in self.findings:
            told.add_row(Text(one.severity, STYLES[one.severity]), Text(one.says), Text(one.do))
        return Group(facts, "", told)


def examine(settings: Settings) -> Examination:
    """Look at this machine, and at the service that these settings would start on it."""
    with MediaSandbox() as sandbox:
        decoding, network_gone, files_gone = decode_child(sandbox)
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    machine = {
        "undercurrent": __version__,
        "python": platform.python_version(),
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
        "av": version("av"),
        "CPU": f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "GPU": ", ".join(gpus) or "none that torch can use; judging runs on the CPU",
        "media": _how_media_is_decoded(decoding, network_gone=network_gone, files_gone=files_gone),
    }
    works = decoding != "no answer"
    try:
        info = load_model(settings.weights).info
    except WeightsError as error:
        works, machine["weights"] = False, str(error)
    else:
        machine["weights"] = f"{info.name} {info.version}, sha256 {info.weights_sha256[:16]} matches"
    facts = look_up(settings, decoding, network_gone=network_gone, files_gone=files_gone)
    return Examination(machine, works, findings(settings, facts))


def _how_media_is_decoded(decoding: Decoding, *, network_gone: bool, files_gone: bool) -> str:
    if decoding == "no child":
        return "decoded in this process: this system has no memfd, pidfd or packet sockets"
    if decoding == "no answer":
        return "no decode child answers"
    gone = [word for word, is_gone in (("network", network_gone), ("files", files_gone)) if is_gone]
    return f"decoded in a child of its own, {'without ' + ' and '.join(gone) if gone else 'which keeps its network and files'}"
