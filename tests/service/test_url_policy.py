"""Where a URL may point: refused by what an address is, however it is written, and no secret is ever shown."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import SourceUnreachable, UnsupportedMedia, UrlNotAllowed
from service import url_policy
from service.settings import SettingsError, read_settings
from service.url_policy import ANYWHERE, UrlPolicy, redacted, shown
from tests.support import ROOT

PUBLIC = UrlPolicy(["public"])
LAN = UrlPolicy(["public", ip_network("192.168.7.0/24")])


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "0x7f000001", "localhost", "0.0.0.0", "10.1.2.3", "172.31.0.1", "192.168.7.9",
        "169.254.169.254", "100.64.0.1", "224.0.0.251", "255.255.255.255", "240.0.0.1", "192.0.2.1",
        "[::1]", "[::]", "[fe80::1]", "[fd00::1]", "[ff02::1]", "[::ffff:10.0.0.1]", "[::ffff:7f00:1]", "[::10.0.0.1]",
        "[64:ff9b::a00:1]", "[64:ff9b:1::808:808]", "[2002:a00:1::]", "[2001:0:a00:1::]",
        "168.63.129.16", "[::ffff:168.63.129.16]",
    ],
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["rtsp", "https"])
def test_what_is_not_public_is_refused_however_it_is_written(host: str, scheme: str) -> None:
    with pytest.raises(UrlNotAllowed, match="where this service may go"):
        PUBLIC.admit(f"{scheme}://user:word@{host}/live")


@pytest.mark.parametrize("host", ["8.8.8.8", "[2606:4700::1]", "[64:ff9b::808:808]"])
def test_what_is_public_is_allowed(host: str) -> None:
    assert PUBLIC.admit(f"rtsp://{host}/live").addresses == (ip_address(host.strip("[]")),)


def test_a_network_that_is_allowed_is_allowed_and_no_other() -> None:
    assert LAN.admit("rtsp://192.168.7.9:8554/a").url == "rtsp://192.168.7.9:8554/a"
    assert LAN.admit("rtsp://[::ffff:192.168.7.9]/a").port == 554
    with pytest.raises(UrlNotAllowed, match=r"public internet or 192\.168\.7\.0/24; got 192\.168\.8\.9"):
        LAN.admit("rtsp://192.168.8.9/a")
    with pytest.raises(UrlNotAllowed):
        UrlPolicy([ip_network("192.168.7.0/24")]).admit("rtsp://8.8.8.8/a")
    assert UrlPolicy(ANYWHERE).admit("rtsp://127.0.0.1/a").port == 554
    assert UrlPolicy([ip_network("168.63.129.16/32")]).admit("rtsp://168.63.129.16/a").port == 554


@given(st.integers(0, 2**32 - 1))
def test_a_covered_address_is_judged_as_the_one_below(number: int) -> None:
    below = ip_address(number)
    assert PUBLIC.allows(ip_address(f"::ffff:{below}")) == PUBLIC.allows(below)
    assert PUBLIC.allows(ip_address(f"64:ff9b::{below}")) <= PUBLIC.allows(below)
    assert PUBLIC.allows(ip_address(0x2002 << 112 | number << 80)) <= PUBLIC.allows(below)


@pytest.mark.parametrize("url", ["ftp://8.8.8.8/a", "file:///etc/passwd", "concat://a", "udp://8.8.8.8:1", "tcp://8.8.8.8", "//8.8.8.8/a"])
def test_other_schemes_are_not_read(url: str) -> None:
    with pytest.raises(UnsupportedMedia, match="is not read here"):
        PUBLIC.admit(url)


@pytest.mark.parametrize(
    "url",
    [
        "rtsp:///live", "rtsp://:554/live", "rtsp://8.8.8.8:0/a", "rtsp://8.8.8.8:99999/a", "rtsp://8.8.8.8:x/a", "rtsp://[::1/a",
        "rtsp://8.8.8.8/a b", "rtsp://8.8.8.8/a\r\nX: y", "rtsp://8.8.8.8\\@127.0.0.1/", "rtsp://[fe80::1%25eth0]/",
        "rtsp://8.8.8.8/" + 4096 * "a", "rtsp://kamera.exämple/",
    ],
)  # fmt: skip
def test_what_two_readers_could_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(UrlNotAllowed):
        PUBLIC.admit(url)


def test_a_host_is_looked_up_once_and_what_was_found_is_what_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public when it is looked at and ours when it is opened (DNS rebinding)."""
    asked = []

    def answers(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8" if len(asked) == 1 else "127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    target = PUBLIC.admit("rtsp://me:word@cam.example:8554/live?x=1")
    assert (asked, target.url) == (["cam.example"], "rtsp://me:word@8.8.8.8:8554/live?x=1")
    with pytest.raises(UrlNotAllowed):
        PUBLIC.admit("rtsp://cam.example/live")


def test_of_several_addresses_only_the_allowed_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 554)) for address in ("10.0.0.1", "8.8.8.8", "8.8.8.8")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert list(map(str, PUBLIC.admit("rtsp://cam.example/live").addresses)) == ["8.8.8.8"]


def test_a_name_nobody_knows_may_be_known_later(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceUnreachable, match="is not known"):
        PUBLIC.admit("rtsp://nowhere.invalid/live")
    with pytest.raises(SourceUnreachable, match="no name that can be asked for"):
        PUBLIC.admit(f"rtsp://{'a' * 64}.example/live")
    monkeypatch.setattr(url_policy, "RESOLVE_S", 0.1)
    enough = threading.Event()

    def dawdles(*_: object, **__: object) -> list[tuple[object, ...]]:
        enough.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 554))]

    monkeypatch.setattr(socket, "getaddrinfo", dawdles)
    try:
        with pytest.raises(SourceUnreachable, match=r"no answer within 0\.1 s"):
            PUBLIC.admit("rtsp://cam.example/live")
    finally:
        enough.set()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("rtsp://admin:hunter2@cam:554/live?token=hunter2", "rtsp://cam:554/live"),
        ("rtsp://cam/user=admin_password=hunter2_channel=1", "rtsp://cam/user=***"),
        ("rtsp://cam/key:hunter2/live", "rtsp://cam/key:***/live"),
        ("rtsp://admin:hun@ter2/hunter2@cam/live", "rtsp://..."),
        ("rtsp://admin:hunter2@[::1]:8554/", "rtsp://[::1]:8554/"),
        ("https://cam/a.m3u8#hunter2", "https://cam/a.m3u8"),
    ],
)
def test_no_secret_is_shown(url: str, says: str) -> None:
    assert shown(url) == says
    assert redacted(f'could not open "{url}": refused') == f'could not open "{says}": refused'


@given(st.text(st.characters(codec="ascii", exclude_characters="/?#@\"'<> ", categories=["L", "N", "P", "S"]), min_size=1))
def test_no_password_is_shown_in_a_target_either(password: str) -> None:
    url = f"rtsp://user:{password}xyzzy@8.8.8.8/live"
    try:
        target = PUBLIC.admit(url)
    except UrlNotAllowed as refusal:
        assert "xyzzy" not in str(refusal)
    else:
        assert "xyzzy" not in f"{target!r} {target.shown}" and target.url == url.replace("8.8.8.8", "8.8.8.8:554")


LOGS = """
import logging, structlog
from service.telemetry import configure_logging
configure_logging()
url = "rtsp://admin:hunter2@cam/live?token=hunter2"
structlog.get_logger().warning("odd", path="/v1/keys/uc_0123456789ab_hunter2-_x", secret="a%20whsec_hunter2+/=")
structlog.get_logger().warning("camera lost", url=url)
logging.getLogger("other").warning("no answer from %s", url)
try:
    raise OSError(url)
except OSError:
    structlog.get_logger().exception("failed")
    logging.getLogger("other").exception("failed")
"""


def test_no_secret_is_logged() -> None:
    done = subprocess.run([sys.executable, "-c", LOGS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.count("rtsp://cam/live") >= 4 and "Traceback" in done.stderr
    assert "hunter2" not in done.stderr


def test_an_operator_says_where_cameras_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings().camera_networks == ("public",)
    monkeypatch.setenv("UNDERCURRENT_CAMERA_NETWORKS", '["public", "192.168.7.0/24", "fd00::/8"]')
    assert read_settings().camera_networks == ("public", ip_network("192.168.7.0/24"), ip_network("fd00::/8"))
    monkeypatch.setenv("UNDERCURRENT_CAMERA_NETWORKS", '["everywhere"]')
    with pytest.raises(SettingsError, match="UNDERCURRENT_CAMERA_NETWORKS"):
        read_settings()
