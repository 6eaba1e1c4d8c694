"""Logs: sentences of ours to standard error, as lines for people or as JSON for machines.

What an exception says of itself may quote a patient, so only its kind and its places are written.
"""

import logging
import traceback
from types import TracebackType
from typing import Any

import structlog

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def format_exception(trouble: Any) -> str:
    """Where it happened and of which kind it is, without its text."""
    kind, _, place = trouble
    return "".join(traceback.format_tb(place)) + kind.__name__


class ExceptionTextFilter(logging.Filter):
    """Celery puts the texts of exceptions into its sentences."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.name.startswith("celery"):
            record.msg, record.args = "a task failed", None
        return True


class LineFormatter(logging.Formatter):
    """A line for each sentence, with the job and task that it is about."""

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # another formatter may have left the whole text there
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
    """What Django hands to logging; `form` is lines or json."""
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
