"""Logging to standard error, as lines for people or as JSON for machines.

Exception texts may quote patient data, so only the type and the traceback are logged. Used by the
settings.
"""

import logging
import traceback
from types import TracebackType
from typing import Any

import structlog

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def format_exception(error: Any) -> str:
    """Return traceback and type of an exception, without its text."""
    kind, _, place = error
    return "".join(traceback.format_tb(place)) + kind.__name__


class ExceptionTextFilter(logging.Filter):
    """Replaces log texts of Celery, which contain texts of exceptions."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.name.startswith("celery"):
            record.msg, record.args = "a task failed", None
        return True


class LineFormatter(logging.Formatter):
    """One line per message, with the job and task that it belongs to."""

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # another formatter may have set the full text
        return super().format(record)

    def formatException(self, ei: Any) -> str:
        return format_exception(ei)

    def formatMessage(self, record: logging.LogRecord) -> str:
        about = structlog.contextvars.get_contextvars()
        words = "".join(f" {name}={value}" for name, value in sorted(about.items()))
        return super().formatMessage(record) + (f" [{words.strip()}]" if words else "")


def _hide_exception_text(_logger: Any, _name: str, event: Any) -> Any:
    trouble = event.pop("exc_info", None)
    if trouble:
        event["exception"] = format_exception(trouble)
    return event


def make_json_formatter() -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _hide_exception_text,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
    )


def make_logging_config(form: str) -> dict[str, Any]:
    """Return the LOGGING setting; `form` is lines or json."""
    lines = {"()": LineFormatter, "format": "%(asctime)s %(levelname)s %(name)s %(message)s"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"discreet": {"()": ExceptionTextFilter}},
        "formatters": {"chosen": {"()": make_json_formatter} if form == "json" else lines},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "chosen",
                "filters": ["discreet"],
            }
        },
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "adit": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
            "pydicom": {"handlers": [], "level": "CRITICAL", "propagate": False},
            "pynetdicom": {"handlers": [], "level": "CRITICAL", "propagate": False},
        },
    }
