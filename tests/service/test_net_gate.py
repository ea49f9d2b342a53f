"""The gate: a decode child reaches the host that was named and no other, whatever that host, a redirect or a playlist says."""

from __future__ import annotations

import select
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from itertools import islice
from pathlib import Path
from typing import Self

import pytest

from pipelines.errors import PipelineError, SourceRefused, SourceUnreachable, UrlNotAllowed
from pipelines.frames import read_frames
from pipelines.media import Frame, Limits, RtspTransport
from service.media_sandbox import MediaSandbox
from service.media_wire import MAX_MESSAGE_BYTES
from service.net_gate import NetGate
from service.url_policy import UrlPolicy
from tests import clips
from tests.rtsp import Answering, RtspServer, rtsp_server
from tests.service.test_media_sandbox import _greets, _Taken
from tests.support import ROOT, require

LIMITS = Limits(open_timeout_s=60.0, read_timeout_s=30.0)
"""Nothing here waits for a source to fall silent."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[MediaSandbox]:
    if not MediaSandbox.supported():
        pytest.skip("this system has no memfd, pidfd or packet sockets")
    with MediaSandbox(UrlPolicy([ip_network("127.0.0.1/32"), ip_network("::1/128")])) as running:
        yield running


@pytest.fixture(scope="module")
def camera() -> Iterator[RtspServer]:
    require("rtsp")
    with rtsp_server() as running:
        yield running


def _first(sandbox: MediaSandbox, url: str, n: int = 10, *, transport: RtspTransport = "tcp") -> list[Frame]:
    with sandbox.read_frames(url, hz=None, limits=LIMITS, transport=transport) as frames:
        assert frames.started.network_gated
        return list(islice(frames, n))


def test_a_camera_is_watched_through_the_gate(sandbox: MediaSandbox, camera: RtspServer) -> None:
    there = _first(sandbox, camera.url("/live"))
    with read_frames(camera.url("/live"), hz=None, limits=LIMITS) as frames:
        here = list(islice(frames, 10))
    assert [(frame.pts, frame.provenance, frame.image.tobytes()) for frame in there] == [
        (frame.pts, frame.provenance, frame.image.tobytes()) for frame in here
    ]
    assert len(_first(sandbox, camera.url("/live").replace("127.0.0.1", "localhost"))) == 10


def test_a_camera_is_watched_over_udp(sandbox: MediaSandbox, camera: RtspServer) -> None:
    there = _first(sandbox, camera.url("/udp"), 60, transport="udp")
    ticks = [(frame.pts - there[0].pts) * frame.time_base * 30 for frame in there]
    assert {frame.provenance for frame in there} == {"rtp"} and all(tick.denominator == 1 for tick in ticks)
    assert len(_first(sandbox, camera.url("/live").replace("127.0.0.1", "localhost"), transport="udp")) == 10
    with pytest.raises(SourceRefused, match="does not send over TCP"):
        _first(sandbox, camera.url("/udp"))


TRANSPORTS: list[RtspTransport] = ["tcp", "udp"]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("names", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_a_redirect_to_another_camera_is_not_followed(
    sandbox: MediaSandbox, camera: RtspServer, names: str, transport: RtspTransport
) -> None:
    where = camera.url("/live").replace("127.0.0.1", names)
    with Answering("302 Moved Temporarily", where) as stranger:
        with pytest.raises(UrlNotAllowed, match="leads elsewhere"):
            _first(sandbox, stranger.url, transport=transport)
        assert len(stranger.asked) == 1


def test_a_camera_may_not_have_its_datagrams_sent_to_another_host(sandbox: MediaSandbox, camera: RtspServer) -> None:
    def lies(said: bytes) -> bytes:
        return said.replace(b";server_port=", b";source=127.0.0.2;server_port=")

    with _Between(camera.port, lies) as door, pytest.raises(UrlNotAllowed, match="leads elsewhere") as refusal:
        _first(sandbox, f"rtsp://127.0.0.1:{door.port}/live", transport="udp")
    assert refusal.value.got.startswith("127.0.0.2:")
    with _Between(camera.port, lambda said: said) as door:
        assert len(_first(sandbox, f"rtsp://127.0.0.1:{door.port}/live", transport="udp")) == 10


TRIES = """
import os, socket, sys, threading
from pipelines.media import Limits
from service.media_lock import lock_up
from service.media_wire import Request
from service.net_gate import lock_sending
talk, port = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ready = [socket.socket() for _ in range(3)]
started, gate = lock_up(Request(url="rtsp://x", name="x", hz=None, limits=Limits(), closely=None), files=64)
socket.send_fds(talk, [started.model_dump_json().encode()], [gate])
os.close(gate)
lock_sending()
def can(what):
    try:
        what()
    except OSError:
        return False
    return True
there = ("127.0.0.1", port)
def sends():
    if udp.sendto(b"x", there) != 1:
        raise OSError
def fast():
    ready[0].sendto(b"x", 0x20000000, there)  # TCP fast open: connects as it sends
def messages():
    ready[1].sendmsg([b"x"], [], 0x20000000, there)
def datagram(host, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect((host, port))
        one.send(b"x")
def addressed():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", there)
def listens():
    ready[2].listen()
def forks():
    if os.fork() == 0:
        os._exit(0)
tries = {
    "connects": lambda: socket.create_connection(there, timeout=2).close(),
    "sends": sends, "fast": fast, "messages": messages, "listens": listens, "forks": forks,
    "opens datagrams": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
    "sends datagrams": lambda: datagram(*there), "sends them to services": lambda: datagram(there[0], 53),
    "sends them elsewhere": lambda: datagram("127.0.0.2", port), "sends them as addressed": addressed,
    "opens unix": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
    "opens raw netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "opens mptcp": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262),
}
talk.send(",".join(name for name, what in tries.items() if can(what)).encode() or b"nothing")
"""


@pytest.mark.parametrize("datagrams", [False, True])
@pytest.mark.parametrize("named", [True, False])
def test_a_process_behind_the_gate_has_no_other_way_out(named: bool, datagrams: bool) -> None:
    """A child that was taken over asks for whatever it likes; here, all the ways that the kernel has."""
    with ExitStack() as bound:
        listener, hidden = (bound.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2))
        policy = UrlPolicy([ip_network("127.0.0.0/8")])
        target = policy.admit(f"rtsp://127.0.0.1:{listener.getsockname()[1]}/live")
        port = (listener if named else hidden).getsockname()[1]
        heard, elsewhere = (bound.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2))
        heard.bind(("127.0.0.1", port))
        elsewhere.bind(("127.0.0.2", port))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            command = [sys.executable, "-c", TRIES, str(theirs.fileno()), str(port)]
            with subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()]) as child:
                theirs.close()
                ours.settimeout(120)
                _, descriptors, _, _ = socket.recv_fds(ours, MAX_MESSAGE_BYTES, 1)
                gate = NetGate(descriptors[0], target=target, policy=policy, datagrams=datagrams)
                answering = threading.Thread(target=_answer_all, args=(gate,))
                answering.start()
                could = ours.recv(4096).decode()
                child.wait(60)
                answering.join(60)
                gate.close()
        assert could == (",".join(["connects"] * named + ["opens datagrams", "sends datagrams"] * datagrams) or "nothing")
        assert gate.strayed
        assert (select.select([heard], [], [], 0)[0] == [heard]) is datagrams
        assert not select.select([elsewhere], [], [], 0)[0]


def _answer_all(gate: NetGate) -> None:
    ready = select.poll()
    ready.register(gate, select.POLLIN)
    while ready.poll(60_000)[0][1] & select.POLLIN:
        gate.answer()


class _Site(ThreadingHTTPServer):
    """Serves `files` with their own headers; a path that begins with /to/ redirects to what follows."""

    daemon_threads = True

    def __init__(self, address: str = "127.0.0.1") -> None:
        super().__init__((address, 0), _Page)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        """Path and Host header of each request."""


class _Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site = self.server
        assert isinstance(site, _Site)
        site.asked.append((self.path, self.headers["Host"]))
        moved, body = self.path.startswith("/to/"), site.files.get(self.path.removeprefix("/").partition("?")[0], b"")
        self.send_response(302 if moved else 200 if body else 404)
        if moved:
            self.send_header("Location", self.path.removeprefix("/to/"))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@contextmanager
def _running(site: _Site) -> Iterator[_Site]:
    with site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
            thread.join()


def test_http_keeps_its_name_and_no_redirect_is_followed(sandbox: MediaSandbox, tmp_path: Path) -> None:
    clip = clips.face_clip(tmp_path / "a.mkv", seconds=1.0)
    with _running(_Site()) as site, _running(_Site()) as hidden:
        site.files["a.mkv"] = hidden.files["a.mkv"] = clip.read_bytes()
        with sandbox.read_frames(f"http://me:word@localhost:{site.server_port}/a.mkv?x=1", hz=None, limits=LIMITS) as frames:
            assert [frame.pts for frame in frames] == [frame.pts for frame in _here(clip)]
        assert set(site.asked) == {("/a.mkv?x=1", f"localhost:{site.server_port}")}
        with pytest.raises(SourceUnreachable):
            _first(sandbox, f"http://127.0.0.1:{site.server_port}/to/http://127.0.0.1:{hidden.server_port}/a.mkv")
        assert hidden.asked == []


def _here(clip: Path) -> list[Frame]:
    with read_frames(clip, hz=None) as frames:
        return list(frames)


def _hls(folder: Path, prefix: str) -> dict[str, bytes]:
    """Two segments, at `prefix`, and the playlist that names them."""
    options = {"hls_time": "1", "hls_playlist_type": "vod", "hls_base_url": prefix, "hls_segment_filename": str(folder / "s%d.ts")}
    codec = {"preset": "ultrafast", "g": "30", "bf": "0", "sc_threshold": "0"}
    pictures = (clips.empty_frame(n / 30, width=160, height=120) for n in range(60))
    clips.write_clip(folder / "x.m3u8", pictures, [3000 * n for n in range(60)], Fraction(1, 90000), options=codec, container=options)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
def test_a_playlist_leads_only_where_a_url_may(sandbox: MediaSandbox, tmp_path: Path, address: str) -> None:
    with _running(_Site()) as site, _running(_Site(address)) as store:
        files = _hls(tmp_path, f"http://{address}:{store.server_port}/")
        site.files["x.m3u8"], store.files = files["x.m3u8"], files
        url = f"http://localhost:{site.server_port}/x.m3u8"
        if address == "127.0.0.1":
            with sandbox.read_frames(url, hz=None, limits=LIMITS) as frames:
                assert len(list(frames)) == 60
            assert [path for path, _ in store.asked] == ["/s0.ts", "/s1.ts"]
        else:
            with pytest.raises(PipelineError):
                _first(sandbox, url)
            assert store.asked == []


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    if shutil.which("openssl") is None:
        pytest.skip("there is no `openssl` on the PATH to make a certificate with")
    key, certificate = (tmp_path_factory.getbasetemp() / name for name in ("key.pem", "certificate.pem"))
    make: list[str | Path] = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
        "-keyout",
        key,
        "-out",
        certificate,
    ]
    subprocess.run(make, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_https_asks_for_its_host_by_name(sandbox: MediaSandbox, tmp_path: Path, tls: ssl.SSLContext) -> None:
    asked: list[str | None] = []
    tls.sni_callback = lambda _socket, name, _context: asked.append(name)
    with _running(_Site()) as site:
        site.files["a.mkv"] = clips.face_clip(tmp_path / "a.mkv", seconds=1.0).read_bytes()
        site.socket = tls.wrap_socket(site.socket, server_side=True)
        assert len(_first(sandbox, f"https://localhost:{site.server_port}/a.mkv")) == 10
    assert set(asked) == {"localhost"}


def test_rtsps_is_watched_and_not_led_elsewhere(sandbox: MediaSandbox, camera: RtspServer, tls: ssl.SSLContext) -> None:
    with _Tls(tls, camera.port) as door:
        assert len(_first(sandbox, f"rtsps://localhost:{door.port}/live")) == 10
    with (
        Answering("302 Moved Temporarily", f"rtsps://localhost:{camera.port}/live") as stranger,
        _Tls(tls, stranger.port) as door,
        pytest.raises(UrlNotAllowed, match="leads elsewhere"),
    ):
        _first(sandbox, f"rtsps://127.0.0.1:{door.port}/live")


class _Between:
    """Stands before a server on loopback, for one connection after another, and passes on what it says as `said` has it."""

    def __init__(self, port: int, said: Callable[[bytes], bytes] = lambda said: said) -> None:
        self._behind, self._said = port, said
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                with suppress(OSError), self._met(plain) as client, socket.create_connection(("127.0.0.1", self._behind)) as server:
                    back = threading.Thread(target=_copy, args=(server, client, self._said))
                    back.start()
                    _copy(client, server)
                    server.shutdown(socket.SHUT_RDWR)
                    back.join()

    def _met(self, plain: socket.socket) -> socket.socket:
        return plain


class _Tls(_Between):
    """Puts TLS before a server."""

    def __init__(self, context: ssl.SSLContext, port: int) -> None:
        super().__init__(port)
        self._context = context

    def _met(self, plain: socket.socket) -> socket.socket:
        return self._context.wrap_socket(plain, server_side=True)


def _copy(source: socket.socket, sink: socket.socket, said: Callable[[bytes], bytes] = lambda said: said) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(said(data))


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_system_without_a_gate_opens_no_url() -> None:
    """As its child says that could not lock itself up."""
    with pytest.raises(UrlNotAllowed, match="cannot hold a decoder to one address"):
        _Taken(lambda talk, _: _greets(talk)).read_frames("rtsp://127.0.0.1:9/live")
