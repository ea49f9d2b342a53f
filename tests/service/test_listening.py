"""Where the service listens: answers go out at once, and an address that is taken is refused."""

from __future__ import annotations

import socket

import pytest

from service.app import AddressNotFree, _listen


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_no_part_of_an_answer_waits_for_the_one_before_to_be_acknowledged(host: str) -> None:
    with _listen(host, 0) as listener, socket.create_connection(listener.getsockname()[:2]):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_address_that_is_taken_is_refused() -> None:
    with _listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(AddressNotFree, match=f"port {port}"):
            _listen("127.0.0.1", port)
