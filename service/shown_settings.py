"""Settings as an admin may see them: the settings in force come in, each of a chosen few goes out with the name of its variable. Pure.

Chosen, not all: no secret, no path and no host is among them, and none that is added later is by itself. Asked by `system.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Final, Literal, cast

from pydantic import Field

from service.schemas import Wire
from service.settings import Settings

Unit = Literal["days", "s", "bytes", "per_s", "per_minute", "share", "count", "words"]
Group = Literal["retention", "limits", "live", "judging", "review"]
SHOWN: Final[tuple[tuple[Group, str, Unit], ...]] = (
    ("retention", "retention_days", "days"),
    ("retention", "feeds.kept_alerts", "count"),
    ("retention", "feeds.kept_bytes", "bytes"),
    ("retention", "min_free_bytes", "bytes"),
    ("limits", "max_upload_bytes", "bytes"),
    ("limits", "tenants.max_unfinished", "count"),
    ("limits", "tenants.max_running", "count"),
    ("limits", "tenants.max_bytes", "bytes"),
    ("limits", "tenants.max_streams", "count"),
    ("limits", "tenants.max_feeds", "count"),
    ("limits", "keys.per_minute", "per_minute"),
    ("limits", "keys.at_once", "count"),
    ("live", "streams.max_streams", "count"),
    ("live", "feeds.max_feeds", "count"),
    ("live", "streams.latency_s", "s"),
    ("live", "streams.low_hz", "per_s"),
    ("live", "streams.outage_s", "s"),
    ("judging", "hz", "per_s"),
    ("judging", "workers", "count"),
    ("judging", "segment_s", "s"),
    ("judging", "max_wait_s", "s"),
    ("review", "reviews.verdicts", "words"),
    ("review", "reviews.second_share", "share"),
    ("review", "reviews.lease_s", "s"),
)


class SettingOut(Wire):
    """One setting; it is changed where the service is started, not over the wire."""

    group: Group
    variable: str = Field(description="The environment variable that gives it.")
    unit: Unit
    value: float | list[str] | None = Field(description="Null: no limit, or for ever.")
    is_default: bool = Field(description="Whether it is what it would be if nobody had said anything.")


def shown_settings(settings: Settings) -> list[SettingOut]:
    """All of SHOWN, in that order."""
    return list(_shown(settings))


def _shown(settings: Settings) -> Iterator[SettingOut]:
    defaults = Settings.model_construct()
    for group, name, unit in SHOWN:
        value, default = (_value(some, name) for some in (settings, defaults))
        yield SettingOut(
            group=group,
            variable=f"UNDERCURRENT_{name.replace('.', '__').upper()}",
            unit=unit,
            value=list(value) if isinstance(value, tuple) else value,
            is_default=value == default,
        )


def _value(settings: Settings, name: str) -> float | tuple[str, ...] | None:
    return cast(float | tuple[str, ...] | None, reduce(getattr, name.split("."), settings))
