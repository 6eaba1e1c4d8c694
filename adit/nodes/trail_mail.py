"""Trail mail: the end of the trail leaves the machine daily, so that nobody rewrites it unseen."""

import logging

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from adit.audit import trail
from adit.nodes.models import HeadLetter
from adit.nodes.outbox import Outbox

log = logging.getLogger(__name__)


def tell() -> None:
    """Once a day: to the log, which a site ships elsewhere, and to those named in the settings."""
    with transaction.atomic():
        head = trail.take_head()
        if head is None:
            return
        count, last = head
        if settings.MAIL:
            for address in settings.TRAIL_MAIL:
                HeadLetter.objects.create(address=address, count=count, hash=last)
    log.info("the trail has %d events, the last one %s", count, last)


def _words(letter: HeadLetter) -> tuple[str, str]:
    command = f"adit manage audit verify --head {letter.count} {letter.hash}"
    lines = [
        _("On %(day)s the trail had %(n)d events. The hash of the last one:")
        % {"day": f"{letter.created_at:%Y-%m-%d}", "n": letter.count},
        letter.hash,
        _("Keep this mail where nobody who runs ADIT can change it. To compare, later:"),
        command,
    ]
    return _("the end of the trail"), "\n\n".join(lines)


OUTBOX = Outbox(HeadLetter, _words, lambda letter: f"trail.{letter.pk}")
