"""The contract of live streams: the committed AsyncAPI document is the one the code makes, whole, and true to the models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx

import service
from service.asyncapi import CLIENT, SERVER, asyncapi_document
from service.stream_wire import SUBPROTOCOL, client_message, server_message

COMMITTED = Path(service.__file__).with_name("asyncapi.json")


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolved(document: dict[str, Any], reference: str) -> dict[str, Any]:
    node: Any = document
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    assert isinstance(node, dict)
    return node


def test_the_committed_document_is_up_to_date() -> None:
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == asyncapi_document(), "run `undercurrent asyncapi`"


def test_the_running_service_shows_it(judged: tuple[httpx.Client, str]) -> None:
    assert judged[0].get("/asyncapi.json").json() == asyncapi_document()


def test_every_reference_leads_somewhere_and_nothing_is_left_over() -> None:
    document = asyncapi_document()
    assert document["asyncapi"] == "3.0.0"
    followed = set(references(document))
    for reference in followed:
        assert resolved(document, reference)
    parts = {f"#/components/{kind}/{name}" for kind, named in document["components"].items() for name in named}
    assert parts - followed == {"#/components/schemas/ClientMessage", "#/components/schemas/ServerMessage"}


def test_every_message_of_the_models_is_in_one_direction_with_its_type() -> None:
    document = asyncapi_document()
    said = {}
    for name, operation in document["operations"].items():
        said[name] = [resolved(document, one["$ref"]) for one in operation["messages"]]
        for message in said[name]:
            while "$ref" in message:
                message = resolved(document, message["$ref"])
            if message["name"] != "media":
                assert resolved(document, message["payload"]["$ref"])["properties"]["type"]["const"] == message["name"]
    assert len(said["hear"]) == len(CLIENT) + 1 and len(said["tell"]) == len(SERVER)
    # Both unions are what the service really reads and writes.
    assert set(get_args(get_args(client_message._type)[0])) == set(CLIENT)
    assert set(get_args(get_args(server_message._type)[0])) == set(SERVER)


def test_the_channel_is_the_connection_and_names_its_subprotocol_and_close_codes() -> None:
    channel = asyncapi_document()["channels"]["stream"]
    assert channel["bindings"]["ws"]["bindingVersion"] == "0.1.0"
    assert channel["bindings"]["ws"]["headers"]["properties"]["Sec-WebSocket-Protocol"]["const"] == SUBPROTOCOL
    assert {"1000", "1013", "4400", "4408", "4429"} <= set(channel["x-close-codes"])
    header = asyncapi_document()["components"]["messages"]["media"]["x-header"]
    assert [(one["offset"], one["type"]) for one in header] == [(0, "u8"), (1, "u8"), (2, "u16"), (4, "u32"), (8, "i64"), (16, "i64")]
