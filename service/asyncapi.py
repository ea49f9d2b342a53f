"""The AsyncAPI document of the live stream: the models of `stream_wire.py` come in, a description that tools can read goes out.

Shown at `/asyncapi.json` and committed as `service/asyncapi.json`; a test fails when that is stale.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service import __version__
from service.close_codes import CloseCode
from service.media_header import FARTHEST_US, HEADER_VERSION, NO_PTS, MediaFlag, MediaHeader, MediaKind
from service.stream_wire import (
    PATH,
    ROUTE,
    SUBPROTOCOL,
    Ack,
    Credit,
    DropEvent,
    End,
    ErrorEvent,
    FaceEvent,
    GapEvent,
    Pause,
    Ping,
    Pong,
    Ready,
    Resumed,
    ResumeFailed,
    ResumeMedia,
    ScoreEvent,
    Source,
    Start,
    Stats,
    Stop,
)

CLIENT: Final[tuple[type[BaseModel], ...]] = (Start, Ack, Pause, ResumeMedia, Stop, Ping)
SERVER: Final[tuple[type[BaseModel], ...]] = (
    Ready,
    Source,
    ScoreEvent,
    FaceEvent,
    GapEvent,
    DropEvent,
    Credit,
    Stats,
    ErrorEvent,
    End,
    Resumed,
    ResumeFailed,
    Pong,
)
HEADER_FIELDS: Final = (
    ("version", "u8", f"{HEADER_VERSION}"),
    ("kind", "u8", ", ".join(f"{int(kind)} {kind.name.lower()}" for kind in MediaKind)),
    ("flags", "u16", ", ".join(f"{int(flag)} {str(flag.name).lower()}" for flag in MediaFlag)),
    ("seq", "u32", "Number of the piece, from 0, one more each time."),
    ("pts_us", "i64", f"Microseconds; {NO_PTS} for none; at most {FARTHEST_US} either side of 0. Pictures need it."),
    ("capture_epoch_us", "i64", "Microseconds since 1970 by the client's clock; 0 for unknown. Comes back with the score."),
)
DESCRIPTION: Final = """\
Live video over one WebSocket: media and commands go in, scores as they come and the verdict at the end come out.

Every event has an `event_seq`, without a hole from 1. After a disconnection connect again and send `start` with `resume`: nothing is lost
or told twice, and the memory of each face goes on. Only a service that stops takes its sessions with it: `end` has the verdict so far, the
close code is 1012, and a client begins a new stream. Media is sent within the credit; the newest `credit` says all.\
"""

router = APIRouter()


@router.get("/asyncapi.json", include_in_schema=False)
async def asyncapi() -> dict[str, Any]:
    """The document, as it is committed."""
    return asyncapi_document()


def asyncapi_document() -> dict[str, Any]:
    """The document, the same on every machine."""
    _, definitions = models_json_schema(
        [(model, "serialization" if model in SERVER else "validation") for model in (*CLIENT, *SERVER)],
        ref_template="#/components/schemas/{model}",
    )
    schemas = definitions["$defs"]
    for name, models in (("ClientMessage", CLIENT), ("ServerMessage", SERVER)):
        schemas[name] = {"discriminator": "type", "oneOf": [{"$ref": f"#/components/schemas/{model.__name__}"} for model in models]}
    messages = {_type(model): _message(model) for model in (*CLIENT, *SERVER)} | {"media": _media()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Undercurrent",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "stream": {
                "address": PATH,
                "description": "One connection is one stream, or a part of one.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {
                    "ws": {
                        "bindingVersion": "0.1.0",
                        "method": "GET",
                        "headers": {
                            "type": "object",
                            "required": ["Sec-WebSocket-Protocol"],
                            "properties": {"Sec-WebSocket-Protocol": {"type": "string", "const": SUBPROTOCOL}},
                        },
                        "query": {
                            "type": "object",
                            "properties": {
                                ROUTE: {
                                    "type": "string",
                                    "description": "Anything, the same on each connection of one stream: whatever balances replicas leads "
                                    "by it to the one that has the stream. The service itself does not read it.",
                                }
                            },
                        },
                    }
                },
                "x-close-codes": {str(int(code)): code.meaning for code in CloseCode},
            }
        },
        "operations": {
            "hear": _operation("receive", [*map(_type, CLIENT), "media"], "What a client sends."),
            "tell": _operation("send", list(map(_type, SERVER)), "What the service sends."),
        },
        "components": {"schemas": dict(sorted(schemas.items())), "messages": messages},
    }


def _type(model: type[BaseModel]) -> str:
    (name,) = model.model_json_schema()["properties"]["type"].get("enum") or [model.model_json_schema()["properties"]["type"]["const"]]
    return str(name)


def _message(model: type[BaseModel]) -> dict[str, Any]:
    return {
        "name": _type(model),
        "contentType": "application/json",
        "summary": " ".join((model.__doc__ or model.__name__).split()),
        "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
    }


def _media() -> dict[str, Any]:
    fields, at = [], 0
    for name, kind, says in HEADER_FIELDS:
        fields.append({"name": name, "offset": at, "type": kind, "description": says})
        at += int(kind[1:]) // 8
    assert at == MediaHeader.FORM.size
    return {
        "name": "media",
        "contentType": "application/octet-stream",
        "summary": f"A piece of media in a binary frame: {at} bytes of header, big-endian, then the payload.",
        "payload": {"type": "string", "format": "binary"},
        "x-header": fields,
    }


def _operation(action: str, names: list[str], summary: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/stream"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/stream/messages/{name}"} for name in names],
    }
