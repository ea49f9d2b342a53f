"""Logs: structlog events and the standard library's records come in, one line each goes to stderr: JSON, or plain text on a terminal."""

from __future__ import annotations

import logging
import sys

import structlog

from service.url_policy import redacted


def configure_logging(level: int = logging.INFO) -> None:
    """Route every log of this process through one renderer; called once by `app.run`."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        without_credentials,
    ]
    on_terminal = sys.stderr.isatty()
    last: list[structlog.typing.Processor] = [
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if on_terminal
        else structlog.processors.JSONRenderer()
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # One line a request comes from `boundary.py`; alembic announces itself at each start; a webhook's path may be a secret of its receiver.
    for name in ("uvicorn.access", "alembic.runtime.migration", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)


def without_credentials(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A structlog processor: URLs lose what nobody is to read, wherever in an event they are spelt out, tracebacks included."""
    return {key: redacted(value) if isinstance(value, str) else value for key, value in event.items()}
