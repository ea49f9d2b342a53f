"""An RTSP server of known pictures and times on loopback: `rtsp.py` starts it with the system's Python, the only one that knows GStreamer.

    /usr/bin/python3 tests/rtsp_server.py PORT CLIP KEPT [WITHOUT]    port 0: any; prints "ready PORT" once it listens, ends with its stdin

WITHOUT is a mount that is not there, as a relay's whose camera is away. Every client gets a pipeline of its own, which starts at frame 0.
KEPT is a pattern of 0 and 1: /vfr shows frame n where KEPT[n % len] is 1.

    /file      CLIP, an mp4 or Matroska with H.264, as it is; ends when the clip ends
    /live      30 fps, one slice, a key frame every 2 s
    /vfr       the same camera, dropping frames before the encoder
    /loss      30 fps, a key frame a second; frames 20 and 21 of each second are lost after the encoder, as a network loses them
    /holes     /loss, but 5 of 100 are lost in a row: frames 60 to 89 of each 600
    /slices    sliced encoder behind `config-interval=-1`: each key frame falls into several access units of one timestamp
    /prompt    /live with a sender report (RTCP) every tenth of a second instead of the first after one or two
    /av        /prompt with sound
    /udp       /live, but only for clients that take UDP
    /private   /live for the user `camera` with the password `hunter2`
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

FPS = 30
LOST = (20, 21)
HOLE = range(60, 90)
HOLE_EVERY = 600
TEST_CARD = f"videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=160,height=120,framerate={FPS}/1"
# Everything that would cut the picture, or the group of pictures, elsewhere than where the mount says is off.
ENCODER = (
    "x264enc name=encoder speed-preset=ultrafast bframes=0 threads=1 sliced-threads=false option-string=scenecut=0:slices=1 bitrate=400"
)
CAMERA = f"{TEST_CARD} ! {ENCODER} key-int-max=60 ! rtph264pay name=pay0 pt=96 config-interval=1"

# The bindings are made at run time and come without types.
GObject = Any
Keep = Callable[[int], bool]


def main(port: str, clip: str, kept: str, without: str = "") -> None:
    gi = import_module("gi")
    for name in ("Gst", "GstRtsp", "GstRtspServer"):
        gi.require_version(name, "1.0")
    glib, gst, rtsp, serving = (import_module(f"gi.repository.{name}") for name in ("GLib", "Gst", "GstRtsp", "GstRtspServer"))
    gst.init(None)
    server = serving.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    mounts = server.get_mount_points()

    def mount(path: str, pipeline: str, *, private: bool = False, udp: bool = False) -> GObject:
        factory = serving.RTSPMediaFactory()
        factory.set_launch(f"( {pipeline} )")
        factory.set_protocols(rtsp.RTSPLowerTrans.UDP if udp else rtsp.RTSPLowerTrans.TCP | rtsp.RTSPLowerTrans.UDP)
        for role, constructs in (("anyone", not private), ("camera", True)):
            # Without the first right the server would say 404, without the second it says 401.
            may = f"{role}, media.factory.access=(boolean)true, media.factory.construct=(boolean){constructs}"
            factory.add_role_from_structure(gst.Structure.from_string(may)[0])
        mounts.add_factory(path, factory)
        return factory

    mount("/file", f'filesrc location="{clip}" ! parsebin ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=1')
    mount("/live", CAMERA)
    _thin(gst, mount("/vfr", CAMERA), "sink", lambda frame: kept[frame % len(kept)] == "1")
    often = CAMERA.replace("key-int-max=60", "key-int-max=30")
    _thin(gst, mount("/loss", often), "src", lambda frame: frame % FPS not in LOST)
    _thin(gst, mount("/holes", often), "src", lambda frame: frame % HOLE_EVERY not in HOLE)
    sliced = ENCODER.replace("threads=1 sliced-threads=false", "threads=4 sliced-threads=true").replace("slices=1", "slices=4")
    mount("/slices", f"{TEST_CARD} ! {sliced} key-int-max=30 ! rtph264pay name=pay0 pt=96 config-interval=-1")
    _report_often(mount("/prompt", CAMERA))
    sound = mount("/av", f"{CAMERA} audiotestsrc is-live=true ! audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay name=pay1 pt=8")
    _report_often(sound)
    mount("/udp", CAMERA, udp=True)
    mount("/private", CAMERA, private=True)
    if without:
        mounts.remove_factory(without)
    server.set_auth(_doorkeeper(gst, rtsp, serving))

    # Kept in a name: when the source is collected, the server stops listening.
    source = server.attach(None)
    loop = glib.MainLoop()
    # Whoever started us has ended, by whatever way: so do we.
    glib.io_add_watch(sys.stdin.fileno(), glib.PRIORITY_DEFAULT, glib.IOCondition.HUP, lambda *_: loop.quit())
    print("ready", server.get_bound_port(), flush=True)
    loop.run()
    del source


def _thin(gst: GObject, factory: GObject, pad: str, keep: Keep) -> None:
    """Let only the frames pass that `keep` wants, before the encoder (its sink) or after it (its src)."""
    first: dict[str, int] = {}

    def probe(_: GObject, info: GObject) -> GObject:
        # x264enc shifts its timestamps by 1000 hours, a whole number of frames and of every period used here.
        number = round(info.get_buffer().pts * FPS / gst.SECOND)
        number -= first.setdefault("number", number // (3_600_000 * FPS) * 3_600_000 * FPS)
        return gst.PadProbeReturn.OK if keep(number) else gst.PadProbeReturn.DROP

    def configure(_: GObject, media: GObject) -> None:
        first.clear()
        encoder = media.get_element().get_by_name("encoder")
        encoder.get_static_pad(pad).add_probe(gst.PadProbeType.BUFFER, probe)

    factory.connect("media-configure", configure)


def _report_often(factory: GObject) -> None:
    """Say soon, and again and again, what UTC it is at which timestamp."""

    def prepared(media: GObject) -> None:
        for index in range(media.n_streams()):
            media.get_stream(index).get_rtpsession().set_property("rtcp-min-interval", 100_000_000)

    factory.connect("media-configure", lambda _, media: media.connect("prepared", prepared))


def _doorkeeper(gst: GObject, rtsp: GObject, serving: GObject) -> GObject:
    """Everybody is `anyone`; who knows the password is `camera` too."""
    auth = serving.RTSPAuth()
    for role in ("anyone", "camera"):
        token = serving.RTSPToken()
        token.set_string("media.factory.role", role)
        if role == "anyone":
            auth.set_default_token(token)
        else:
            auth.add_basic(serving.RTSPAuth.make_basic("camera", "hunter2"), token)
    return auth


if __name__ == "__main__":
    main(*sys.argv[1:])
