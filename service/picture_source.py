"""Where the pictures of a live stream come from: a seam. A source offers Frames and tells its state until it ends or is stopped.

`FedPictures` decodes what a client sends; a camera that the service connects to fits the same seam. Run by `stream_session.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from pipelines.media import Frame, MediaInfo


@dataclass(frozen=True, slots=True)
class SourceState:
    """How it is with a source."""

    state: Literal["connecting", "running", "stalled", "reconnecting"]
    attempt: int = 0
    next_retry_s: float | None = None
    code: str | None = None
    media: MediaInfo | None = None


class PictureSource(Protocol):
    """Offers Frames. One thread lives in `run`; `stop` may be called by another, at any time and more than once."""

    def run(self, offer: Callable[[Frame], bool], tell: Callable[[SourceState], None]) -> None:
        """Offer Frames until there are no more, `offer` says False, or `stop` is called.

        Raises:
            PipelineError: there is no going on.
        """
        ...

    def stop(self) -> None:
        """Make `run` return soon."""
        ...


OpenCamera = Callable[[str, Callable[[], float]], PictureSource]
"""Makes the source of a URL, that looks as often as it is told; refuses with a typed error what may not be connected to."""
