"""Lures: files that make a careless reader open what they name; a Bait (what there is to be caught) comes in, bytes and a name go out.

The first eleven are the attacks that PyAV was measured against with its default options; four of them read or sent something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz import boxes, elements

# Every lure is tried under each of these: some demuxers look at the name before they look at the bytes.
SUFFIXES: Final = ("m3u8", "mp4", "ts", "mpd", "sdp", "ffconcat", "txt", "")


@dataclass(frozen=True, slots=True)
class Bait:
    """What must not be touched: a file beside the input, one in the folder above, and a server."""

    sibling: Path
    secret: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/secret.ts"


def hls(target: str, *tags: str) -> str:
    """A playlist of one segment."""
    return "\n".join(("#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:2", *tags, "#EXTINF:2,", target, "#EXT-X-ENDLIST", ""))


def concat(*targets: str) -> str:
    """A list for FFmpeg's concat demuxer."""
    return "ffconcat version 1.0\n" + "".join(f"file '{target}'\n" for target in targets)


def dash(target: str) -> str:
    """A manifest of one segment list, with a template as well."""
    return (
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S">'
        '<Period><AdaptationSet contentType="video" mimeType="video/mp4"><Representation id="v" codecs="avc1.42c00a" bandwidth="9000" '
        f'width="96" height="64"><BaseURL>{target}</BaseURL><SegmentList duration="2"><Initialization sourceURL="{target}"/>'
        f'<SegmentURL media="{target}"/></SegmentList></Representation></AdaptationSet></Period></MPD>\n'
    )


def sdp(port: int) -> str:
    """A session whose media would be received from this machine."""
    return (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\na=control:rtsp://127.0.0.1:{port}/v\n"
    )


# name: the text. Each is what an uploader who knows the server's paths would send.
ELEVEN: Final[dict[str, Callable[[Bait], str]]] = {
    "hls_absolute_path": lambda bait: hls(str(bait.secret)),
    "hls_file_url": lambda bait: hls(f"file://{bait.secret}"),
    "hls_parent_folder": lambda bait: hls(f"../{bait.secret.name}"),
    "hls_local_http": lambda bait: hls(bait.url),
    "hls_sibling": lambda bait: hls(bait.sibling.name),
    "concat_sibling": lambda bait: concat(bait.sibling.name),
    "hls_system_file": lambda bait: hls("/etc/passwd"),
    "hls_concat_protocol": lambda bait: hls(f"concat:{bait.sibling}|{bait.secret}"),
    "hls_subfile_protocol": lambda bait: hls(f"subfile,,start,0,end,4000,,:{bait.secret}"),
    "dash": lambda bait: dash(f"file://{bait.secret}"),
    "sdp": lambda bait: sdp(bait.port),
}
MORE: Final[dict[str, Callable[[Bait], str]]] = {
    "hls_data_url": lambda bait: hls("data:video/mp2t;base64,R0AAEAAAsA0AAcEAAAAB8AAqsQSy" + "/" * 400),
    "hls_key": lambda bait: hls(bait.sibling.name, f'#EXT-X-KEY:METHOD=AES-128,URI="{bait.url}"'),
    "hls_map": lambda bait: hls(bait.sibling.name, f'#EXT-X-MAP:URI="file://{bait.secret}",BYTERANGE="188@0"'),
    "hls_master": lambda bait: (
        f'#EXTM3U\n#EXT-X-MEDIA:TYPE=VIDEO,GROUP-ID="a",URI="{bait.url}"\n#EXT-X-STREAM-INF:BANDWIDTH=9\n{bait.url}\n'
    ),
    "hls_crypto_protocol": lambda bait: hls(f"crypto+file:{bait.secret}"),
    "hls_late": lambda bait: "\n" * 40 + hls(str(bait.secret)),
    "concat_absolute_path": lambda bait: concat(str(bait.secret), f"file:{bait.secret}", f"../{bait.secret.name}"),
    "concat_local_http": lambda bait: concat(bait.url),
    "concat_data_url": lambda bait: concat("data:text/plain,#EXTM3U", f"concat:{bait.sibling}"),
    "concat_options": lambda bait: f"ffconcat version 1.0\noption safe 0\nfile '{bait.secret}'\noption protocol_whitelist ALL\ninpoint 0\n",
    "dash_local_http": lambda bait: dash(bait.url),
    "dash_entity": lambda bait: f'<!DOCTYPE MPD [<!ENTITY x SYSTEM "file://{bait.secret}">]>{dash("&amp;x;")}',
    "rtsp_text": lambda bait: f"rtsptextrtsp://127.0.0.1:{bait.port}/x\n",
    "asx": lambda bait: f'[Reference]\nRef1={bait.url}\n<ASX><ENTRY><REF HREF="{bait.url}"/></ENTRY></ASX>\n',
    "imf": lambda bait: (
        '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"><Id>urn:uuid:0</Id>'
        f"<EditRate>25 1</EditRate><SegmentList><Segment><Path>{bait.secret}</Path></Segment></SegmentList></CompositionPlaylist>"
    ),
    "vobsub": lambda bait: (
        f"# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\ntimestamp: 00:00:00:000, filepos: 0\n{bait.sibling}"
    ),
    "avisynth": lambda bait: f'AviSource("{bait.secret}")\n',
    "lavfi": lambda bait: f"movie={bait.secret},scale=96:64\n",
    "svg": lambda bait: f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{bait.url}"/><image href="file://{bait.secret}"/></svg>',
}


def lures(bait: Bait, mp4: bytes, mkv: bytes) -> Iterator[tuple[str, str, bytes]]:
    """(kind, file name, bytes) of every lure: the eleven under all names, the others under their own and as an mp4, then the containers."""
    for kind, text in ELEVEN.items():
        for suffix in SUFFIXES:
            yield kind, f"{kind}.{suffix}".rstrip("."), text(bait).encode()
    for kind, text in MORE.items():
        for suffix in ("m3u8", "mp4", ""):
            yield kind, f"{kind}.{suffix}".rstrip("."), text(bait).encode()
    playlist = hls(str(bait.secret))
    yield "hls_utf16", "hls_utf16.m3u8", playlist.encode("utf-16")
    yield "hls_bom", "hls_bom.m3u8", b"\xef\xbb\xbf" + playlist.encode()
    yield "hls_nul", "hls_nul.m3u8", playlist.encode() + bytes(4000)
    yield "pattern", "pattern-%03d.png", b"\x89PNG\r\n\x1a\n" + bytes(64)
    yield "name_is_protocol", "concat:sibling.ts|sibling.ts", playlist.encode()
    yield "name_is_subfile", "subfile,,start,0,end,99,,:sibling.ts", playlist.encode()
    yield "mp4_then_playlist", "mp4_then_playlist.mp4", mp4[:32] + b"\n" + playlist.encode()
    yield "playlist_then_mp4", "playlist_then_mp4.mp4", playlist.encode() + mp4
    for name, entry in (("url", _url(f"file://{bait.secret}")), ("http", _url(bait.url)), ("alias", _alias(str(bait.secret)))):
        yield f"dref_{name}", f"dref_{name}.mov", _with_dref(mp4, entry)
    reference = boxes.build("rmra", boxes.build("rmda", boxes.build("rdrf", bytes(4), b"url ", _text(bait.url))))
    yield "reference_movie", "reference_movie.mov", boxes.build("ftyp", b"qt  ", bytes(4)) + boxes.build("moov", reference)
    yield "attachment", "attachment.mkv", _with_child(mkv, elements.SEGMENT, _attachment("../secret.ts", playlist.encode()))
    yield "attached_font", "attached_font.mkv", _with_child(mkv, elements.SEGMENT, _attachment("/etc/passwd", bytes(2000)))
    links = elements.build(0x3E83BB, str(bait.secret).encode()) + elements.build(0x3C83AB, f"../{bait.secret.name}".encode())
    yield "linked_segment", "linked_segment.mkv", _with_child(mkv, elements.INFO, links)


def _text(text: str) -> bytes:
    return len(text).to_bytes(4, "big") + text.encode() + b"\0"


def _url(target: str) -> bytes:
    """A data reference that is not "this file"."""
    return boxes.build("url ", bytes(4), target.encode(), b"\0")


def _alias(target: str) -> bytes:
    """A Macintosh alias record, the one kind of data reference that FFmpeg can follow: volume, file name, then typed paths."""
    path = target.encode()
    path += bytes(len(path) % 2)
    fixed = bytes(10) + b"\x04disk".ljust(28, b"\0") + bytes(12) + b"\x09secret.ts".ljust(64, b"\0") + bytes(16)
    levels = b"\0\x01\0\x01" + bytes(16)
    return boxes.build(
        "alis", bytes(4), fixed, levels, *(k + len(path).to_bytes(2, "big") + path for k in (b"\0\x02", b"\0\x12")), b"\xff\xff"
    )


def _with_dref(mp4: bytes, entry: bytes) -> bytes:
    dref = boxes.first(mp4, "dref")
    assert dref is not None
    return boxes.replaced(mp4, dref, boxes.build("dref", bytes(4), b"\0\0\0\x01", entry))


def _with_child(mkv: bytes, parent: int, child: bytes) -> bytes:
    """A further element at the end of the first `parent`."""
    element = elements.first(mkv, parent)
    assert element is not None
    return elements.replaced(mkv, element, elements.build(parent, mkv[element.body : element.end], child))


def _attachment(name: str, content: bytes) -> bytes:
    described = elements.build(0x466E, name.encode()), elements.build(0x4660, b"application/vnd.apple.mpegurl")
    return elements.build(0x1941A469, elements.build(0x61A7, *described, elements.build(0x465C, content), elements.build(0x46AE, b"\x07")))
