"""Devices: what `--device` and `UNDERCURRENT_DEVICE` say in, the devices that it means on this machine out. For `model.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipelines.errors import DeviceMissing

if TYPE_CHECKING:  # whoever only checks words need not wait for it
    import torch

DEVICE_WORDS: Final = r"^(auto|cpu|cuda(:\d+(,\d+)*)?)$"
"""auto: every GPU, or the processor where there is none; cuda: every GPU; cuda:0,2: these two."""


def devices(words: str) -> tuple[torch.device, ...]:
    """The devices that `words` (DEVICE_WORDS) name, each once.

    Raises:
        DeviceMissing: one of them is not there.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if words == "cpu" or (words == "auto" and not count):
        return (torch.device("cpu"),)
    numbers = words.partition(":")[2]
    asked = list(dict.fromkeys(int(number) for number in numbers.split(","))) if numbers else list(range(count))
    if not asked or max(asked) >= count:
        raise DeviceMissing(f"This machine has no {words} that torch can use.", expected=_there(count), got=words)
    return tuple(torch.device("cuda", number) for number in asked)


def _there(count: int) -> str:
    return "cpu" if not count else "cpu or " + ", ".join(f"cuda:{number}" for number in range(count))
