"""A clip that lasts as long as is asked: an mp4 in, the same packets again and again behind each other out, nothing encoded anew."""

from __future__ import annotations

from pathlib import Path

import av


def looped(source: Path, path: Path, seconds: float) -> Path:
    """Write at least `seconds` of `source`'s video to `path` (mp4, index first)."""
    with av.open(str(source)) as whole, av.open(str(path), "w", options={"movflags": "faststart"}) as out:
        stream = whole.streams.video[0]
        copied = out.add_stream_from_template(stream)
        base = stream.time_base
        assert base is not None and stream.duration is not None
        shift = 0
        while float(shift * base) < seconds:
            whole.seek(0, stream=stream)
            for packet in whole.demux(stream):
                if packet.dts is None or packet.pts is None:
                    continue
                packet.pts += shift
                packet.dts += shift
                packet.stream = copied
                out.mux(packet)
            shift += stream.duration
    return path
