"""The failure tree of the pipelines: every refusal has a type, a sentence, what was expected and what came.

    PipelineError
    |-- SourceError             the media cannot be opened as video
    |   |-- SourceNotFound        no such file
    |   |-- NotAFile              a directory, socket or device
    |   |-- EmptySource           zero bytes
    |   |-- SourceUnreachable     a URL that does not answer, or answers with an error; may be better later
    |   |   |-- SourceSilent        it was connected to, and showed nothing for too long
    |   |   `-- SourceRefused       it answers that it does not know, or does not serve, whoever asks
    |   |       `-- SourceAbsent        it answers that it has nothing there: a wrong path, or a camera that is away from its relay
    |   |-- UrlNotAllowed         a URL to where this service may not go, or that leads there
    |   |-- UnsupportedMedia      text, playlist, unknown or refused container
    |   |   `-- ManifestError         a list of media that cannot be used: malformed, one class, a person on both sides
    |   |       `-- MissingMedia        it names files that are not there
    |   |-- NoVideoStream         audio only, subtitles only
    |   |-- StillImage            a picture, not a video
    |   |-- MediaTooLarge         more pixels, streams, frames, bytes or seconds than the limits allow
    |   `-- FeedFailed            the caller's byte source raised while it was read
    |-- DecodeError             opened, but not one frame could be decoded
    |   |-- NoTimestamps          pictures, but none says when
    |   |-- DecoderCrashed        the decode child died of this input
    |   `-- DecoderStalled        the decode child gave no answer in time and was killed
    |-- RenditionFailed         it was decoded, but cannot be made a video that browsers play
    |-- TimestampError          a pushed frame goes backwards in time or changes its time base
    |-- ModelFailed             the nets raised on a picture, or said nothing finite
    |-- EngineClosed            asked of an engine that has ended
    |-- Overloaded              no room for another stream now; says when to ask again
    |-- BookmarkUnusable        a bookmark of other weights, another format or another source, or a damaged one
    |-- DeviceMissing           asked to judge on a GPU that is not there
    |-- OutputError             a result file cannot be written
    |-- NothingToShow           no aligned face is there that the request could be shown on
    `-- AnalysisCancelled       the caller asked to stop

`service/problems.py` turns each into an RFC 9457 problem; `slug` is the last part of its `type` URI.
"""

from __future__ import annotations

from typing import ClassVar

from models.errors import Refusal


class PipelineError(Refusal):
    """Base of the tree."""

    slug: ClassVar[str] = "pipeline-error"
    title: ClassVar[str] = "The analysis failed"


class SourceError(PipelineError):
    slug = "source-error"
    title = "The source cannot be opened as video"


class SourceNotFound(SourceError):
    slug = "source-not-found"
    title = "There is no such file"


class NotAFile(SourceError):
    slug = "not-a-file"
    title = "The source is not a file"


class EmptySource(SourceError):
    slug = "empty-source"
    title = "The file is empty"


class SourceUnreachable(SourceError):
    slug = "source-unreachable"
    title = "The URL cannot be reached"


class SourceSilent(SourceUnreachable):
    slug = "source-silent"
    title = "The camera shows nothing"


class SourceRefused(SourceUnreachable):
    slug = "source-refused"
    title = "The URL refuses to serve"


class SourceAbsent(SourceRefused):
    slug = "source-absent"
    title = "There is nothing at the URL"


class UrlNotAllowed(SourceError):
    slug = "url-not-allowed"
    title = "The URL may not be opened"


class UnsupportedMedia(SourceError):
    slug = "unsupported-media"
    title = "The file is not a supported video"


class ManifestError(UnsupportedMedia):
    slug = "bad-manifest"
    title = "The manifest cannot be used"


class MissingMedia(ManifestError):
    slug = "missing-media"
    title = "The manifest names files that are not there"


class NoVideoStream(SourceError):
    slug = "no-video-stream"
    title = "The media has no video stream"


class StillImage(SourceError):
    slug = "still-image"
    title = "The file is a picture, not a video"


class MediaTooLarge(SourceError):
    slug = "media-too-large"
    title = "The media exceeds a limit"


class FeedFailed(SourceError):
    slug = "feed-failed"
    title = "The source failed while it was read"


class DecodeError(PipelineError):
    slug = "undecodable-media"
    title = "No frame could be decoded"


class NoTimestamps(DecodeError):
    slug = "no-timestamps"
    title = "The video has no timestamps"


class DecoderCrashed(DecodeError):
    slug = "decoder-crashed"
    title = "The media made its decoder fail"


class DecoderStalled(DecodeError):
    slug = "decoder-stalled"
    title = "The media could not be decoded in time"


class RenditionFailed(PipelineError):
    slug = "rendition-failed"
    title = "The video cannot be made playable"


class TimestampError(PipelineError):
    slug = "bad-timestamp"
    title = "Frames must come in the order of their timestamps"


class ModelFailed(PipelineError):
    slug = "model-failed"
    title = "The nets failed"


class EngineClosed(PipelineError):
    slug = "engine-closed"
    title = "The engine has ended"


class Overloaded(PipelineError):
    """`retry_after_s`: seconds after which there may be room; None where nobody knows."""

    slug = "overloaded"
    title = "There is no room for another stream"

    def __init__(self, detail: str, *, expected: str, got: str, retry_after_s: float | None = None) -> None:
        super().__init__(detail, expected=expected, got=got)
        self.retry_after_s = retry_after_s


class BookmarkUnusable(PipelineError):
    slug = "unusable-bookmark"
    title = "The analysis cannot go on from there"


class DeviceMissing(PipelineError):
    slug = "device-missing"
    title = "There is no such device"


class OutputError(PipelineError):
    slug = "unwritable-output"
    title = "A result file cannot be written"


class NothingToShow(PipelineError):
    slug = "nothing-to-show"
    title = "There is no face to show this on"


class AnalysisCancelled(PipelineError):
    slug = "cancelled"
    title = "The analysis was cancelled"

    def __init__(self) -> None:
        super().__init__("The analysis was cancelled.", expected="to run to the end", got="a request to stop")
