"""Pages of encrypted 7-Zip files: download with ranges, and the password of the next file."""

import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import BinaryIO

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, has_right
from adit.audit import trail
from adit.audit.models import AuditEvent
from adit.jobs import actions
from adit.jobs.models import ArchiveFile
from adit.jobs.views.access import current_user, get_visible_job, require_may_act
from adit.nodes import destination_folders
from adit.orders import archive_passwords
from adit.results import archives
from adit.results.archives import make_file_rows
from adit.results.tables import ArchiveTable
from adit_engine.errors import AditError
from adit_engine.messages import Message

CHUNK_BYTES = 256 * 1024
DOWNLOAD_INTERVAL = timedelta(minutes=10)
"""Range requests for one file within this time are one download in the audit trail."""
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@require_safe
def archive_list(request: HttpRequest) -> HttpResponse:
    """List the files that may be downloaded, newest first."""
    user = current_user(request)
    if not has_right(user, Right.DOWNLOAD):
        raise PermissionDenied(str(Message("archive-file.download-not-permitted")))
    files = archives.visible_archives(user)[:200]
    context = {
        "table": ArchiveTable(make_file_rows(user, files), request),
        "days": archives.retention_days(),
    }
    return render(request, "results/archive_list.html", context)


@require_safe
def archive_file(request: HttpRequest, pk: int, number: int) -> HttpResponseBase:
    """Download a file, or the part that an interrupted download still needs."""
    user = current_user(request)
    one = archives.visible_archives(user).filter(job=get_visible_job(user, pk), pk=number).first()
    if one is None or one.job.destination is None:
        raise Http404
    why = archives.explain_no_download(user, one) or archives.find_block(one)
    if why:
        raise PermissionDenied from NotPermitted(why.code, **why.values)
    file = destination_folders.open_archive_file(one.job.destination, one.name)
    if file is None:
        raise Http404
    return _file_response(request, user, one, file)


@require_http_methods(["GET", "HEAD", "POST"])
def job_password(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Ask for a new password before an ended job continues: the old one is not kept."""
    user = current_user(request)
    job = get_visible_job(user, pk)
    action = actions.job_actions().get(verb)
    if action is None or not action.needs_password or not archives.is_archive(job.destination):
        raise Http404
    require_may_act(user, job)
    trouble = ""
    password = archive_passwords.for_next_file(user, job)
    if request.method == "POST":
        password = password.with_entries(request.POST)
        archive_passwords.keep_for_next_file(user, job, password)
        try:
            checked = password.validate(request.POST)
            with transaction.atomic():
                archives.save_password(user, job, checked)
                actions.perform(user, job, verb)
                archive_passwords.drop_for_next_file(user, job)
        except AditError as error:
            trouble = str(error)
        else:
            messages.success(request, str(action.success_message))
            return HttpResponseRedirect(reverse("job", args=[pk]))
    context = {"job": job, "verb": verb, "trouble": trouble, "password": password}
    return render(request, "jobs/job_password.html", context, status=422 if trouble else 200)


# Streaming ----------------------------------------------------------------------------------------


class _DownloadLimit:
    """Limit of downloads in this process: each keeps one of its threads busy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def acquire(self) -> bool:
        with self._lock:
            if self.count >= settings.DOWNLOADS:
                return False
            self.count += 1
            return True

    def release(self) -> None:
        with self._lock:
            self.count -= 1


DOWNLOAD_LIMIT = _DownloadLimit()


class _FileChunks(Iterator[bytes]):
    """A range of a file, in chunks. The sender must close it in any case."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file = file
        self._left = length
        self._is_open = True
        file.seek(start)

    def __next__(self) -> bytes:
        piece = self._file.read(min(CHUNK_BYTES, self._left)) if self._is_open else b""
        if not piece:
            self.close()
            raise StopIteration
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._file.close()
            DOWNLOAD_LIMIT.release()

    def __del__(self) -> None:
        self.close()


def _file_response(
    request: HttpRequest, user: User, one: ArchiveFile, file: BinaryIO
) -> HttpResponseBase:
    size = file.seek(0, 2)
    tag = f'"{one.pk}-{one.built_at.timestamp():.0f}-{size}"'
    start, end = 0, size
    if request.headers.get("If-Range", tag) == tag:
        asked = _parse_range(request.headers.get("Range", ""), size)
        if asked is None:
            file.close()
            return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
        start, end = asked
    headers = {
        "Content-Type": "application/x-7z-compressed",
        "Content-Disposition": f'attachment; filename="{one.name}"',
        "Accept-Ranges": "bytes",
        "ETag": tag,
        "Content-Length": str(end - start),
    }
    is_part = (start, end) != (0, size)
    if is_part:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    if request.method == "HEAD":
        file.close()
        return HttpResponse(status=206 if is_part else 200, headers=headers)
    if not DOWNLOAD_LIMIT.acquire():
        file.close()
        text = _("Too many downloads are running. Try again in a minute.")
        return HttpResponse(
            text, status=503, headers={"Retry-After": "60"}, content_type="text/plain"
        )
    _record_download(user, one)
    pieces = _FileChunks(file, start, end - start)
    return StreamingHttpResponse(pieces, status=206 if is_part else 200, headers=headers)


def _parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Start and end of the range; None if it is not satisfiable.

    The whole file for anything but a single range (RFC 9110 14.2).
    """
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or not any(match.groups()):
        return 0, size
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        return (size - length, size) if length else None
    start, end = int(first), min(int(last) + 1 if last else size, size)
    if last and int(last) < start:
        return 0, size
    return (start, end) if start < size else None


def _record_download(user: User, one: ArchiveFile) -> None:
    about, details = f"job:{one.job_id}", {"file": one.name}
    before = AuditEvent.objects.filter(
        about=about,
        action="archive.downloaded",
        user=user,
        at__gt=timezone.now() - DOWNLOAD_INTERVAL,
    )
    if trail.with_token(details) not in (one.details for one in before.defer("patient_sealed")):
        trail.record("archive.downloaded", user=user, about=about, details=details)
