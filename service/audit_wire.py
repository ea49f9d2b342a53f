"""The record of who did what, on the wire: pydantic models of what `GET /v1/audit` shows. Filled by `audit.py`, read by `audit_csv.py`."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from service.audit_rows import Action
from service.schemas import Wire


class AuditOut(Wire):
    """One action."""

    id: str
    at: datetime
    key_id: str | None = Field(description="Who did it; null: the service itself, or somebody on its own machine, without a key.")
    name: str | None = Field(description="What people call that key, or the e-mail of whoever had signed in.")
    action: Action
    subject: str = Field(description="The id of what it was done to.")
    request_id: str | None


class AuditPage(Wire):
    """Some of the record."""

    items: list[AuditOut]
    next: str | None
