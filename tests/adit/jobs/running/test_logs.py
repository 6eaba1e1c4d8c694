"""Log records name job and task, but never contain exception texts with patient data."""

import io
import json
import logging
import logging.config

import pytest
from lab.installed import Installed
from lab.jobs import BrokenNode, work
from structlog.contextvars import bound_contextvars

from adit.config import logging_config

CANARY = "Mustermann^Änne 19560412"


@pytest.fixture(params=["json", "lines"])
def written(request):
    """The log format, and a stream with the output of a logger of ADIT and one of Celery."""
    config = logging_config.make_logging_config(request.param)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    made = config["formatters"]["chosen"]
    handler.setFormatter(made["()"]() if request.param == "json" else made["()"](made["format"]))
    handler.addFilter(logging_config.ExceptionTextFilter())
    loggers = [logging.getLogger(name) for name in ("adit.canary", "celery.app.trace")]
    for logger in loggers:
        logger.addHandler(handler)
    yield request.param, stream
    for logger in loggers:
        logger.removeHandler(handler)


def test_logs_name_the_exception_type_without_its_text(written):
    form, stream = written
    with bound_contextvars(job=12, task=34):
        try:
            raise ValueError(CANARY)
        except ValueError as error:
            logging.getLogger("adit.canary").exception("it broke")
            logging.getLogger("celery.app.trace").error(
                "Task %(name)s raised: %(exc)s", {"name": "work", "exc": repr(error)}, exc_info=True
            )
    told = stream.getvalue()
    assert "Mustermann" not in told.replace(f'"{CANARY}"', "")
    assert "1956" not in told
    assert "ValueError" in told
    assert "test_logs.py" in told
    if form == "json":
        lines = [json.loads(line) for line in told.splitlines()]
        assert [(line["job"], line["task"]) for line in lines] == [(12, 34)] * 2
        assert lines[0]["event"] == "it broke"
        assert lines[0]["level"] == "error"
        assert {"timestamp", "logger", "exception"} <= set(lines[0])
    else:
        assert "it broke [job=12 task=34]" in told


@pytest.mark.django_db(transaction=True)
def test_an_internal_error_is_logged_with_its_job_and_without_patient_data(
    order_studies, source, monkeypatch, written
):
    from adit_engine import nodes

    monkeypatch.setitem(nodes.KINDS, "broken", "lab.jobs:BrokenNode")
    assert BrokenNode
    job = order_studies("1")
    source.kind = "broken"
    source.save()
    form, stream = written
    handler = logging.getLogger("adit.canary").handlers[-1]
    logger = logging.getLogger("adit")
    logger.addHandler(handler)
    try:
        work()
    finally:
        logger.removeHandler(handler)
    told = stream.getvalue()
    assert "ZeroDivisionError" in told
    assert "Mustermann" not in told
    assert "Änne" not in told
    if form == "json":
        assert json.loads(told.splitlines()[0])["job"] == job.pk


def test_warnings_of_libraries_are_not_written_to_the_output(tmp_path):
    installation = Installed(tmp_path / "var")
    installation.prepare()

    done = installation.adit("manage", "shell", "-c", f"import warnings; warnings.warn({CANARY!r})")

    assert done.returncode == 0, done.stderr
    assert "Mustermann" not in done.stdout + done.stderr
