"""Parameters of a query that have one value: a request comes in, one that gives two is refused. A dependency of every route of the API,
by `app.py`.

FastAPI takes the last of them, and whoever sits in front may have looked at the first.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.requests import HTTPConnection


async def said_once(connection: HTTPConnection) -> None:
    """Let through what says each single parameter once.

    Raises:
        RequestValidationError: one comes twice.
    """
    times = Counter(name for name, _ in connection.query_params.multi_items())
    if not any(n > 1 for n in times.values()) or connection.scope["type"] != "http":
        return
    app: FastAPI = connection.app
    # Whoever comes first has the document made, and nobody waits for that meanwhile.
    document = await asyncio.to_thread(app.openapi)
    single = _single(document, connection.scope["route"].path_format, connection.scope["method"])
    faults = [
        {"type": "said_once", "loc": ("query", name), "msg": "Input should be one value", "input": connection.query_params.getlist(name)}
        for name, n in times.items()
        if n > 1 and name in single
    ]
    if faults:
        raise RequestValidationError(faults)


def _single(document: dict[str, Any], path: str, method: str) -> set[str]:
    """Those that take one value, as the document says."""
    operation: dict[str, Any] = document["paths"].get(path, {}).get(method.lower(), {})
    return {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query" and not _many(one["schema"])}


def _many(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "array" or any(map(_many, schema.get("anyOf", ())))
