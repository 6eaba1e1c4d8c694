"""Mail: what letters about jobs say; nothing in them is about a patient."""

from django.conf import settings
from django.urls import reverse
from django.utils.translation import gettext as _

from adit.jobs.models import Letter, state_in_words
from adit.nodes.outbox import Outbox


def send_waiting() -> int:
    """Sends what is due; how many went out."""
    return OUTBOX.send()


def _name(letter: Letter) -> str:
    return f"{letter.job_id}.{letter.what}.{letter.number}"


def _text(letter: Letter) -> tuple[str, str]:
    subject, first = _words(letter)
    link = f"{settings.SITE_URL}{reverse('job', args=[letter.job_id])}"
    ending = _("Mails say nothing about patients: the page does, after signing in.")
    return subject, f"{first}\n\n{link}\n\n{ending}\n"


def _came_empty(letter: Letter) -> bool:
    """The job may be under way again since."""
    return letter.state == letter.job.state and letter.job.came_empty


def _words(letter: Letter) -> tuple[str, str]:
    """Subject and first sentence. Titles and reasons are people's own words, so they stay here."""
    job, W = letter.job, Letter.What
    words = {
        "n": job.pk,
        "state": state_in_words(letter.state, came_empty=_came_empty(letter)),
        "who": job.owner.get_full_name() or job.owner.get_username(),
    }
    if letter.what == W.ASKED:
        return (
            _("job %(n)d waits for approval") % words,
            _("%(who)s has ordered a job that somebody else has to approve.") % words,
        )
    if letter.what == W.APPROVED:
        return _("job %(n)d is approved") % words, _("Your job %(n)d may start.") % words
    if letter.what == W.RETURNED:
        return (
            _("job %(n)d is returned to you") % words,
            _("Your job %(n)d was not approved. Its page says why.") % words,
        )
    if letter.what == W.HELD:
        return (
            _("job %(n)d waits for a decision about a patient") % words,
            _(
                "A patient of job %(n)d of %(who)s has another ID at the source now, as after "
                "patients were merged. Nothing of that study is sent before you, or somebody else "
                "who may, has said on its page whether it is the same person. Further studies of "
                "this job may wait for the same: Home counts them, and no other mail comes."
            )
            % words,
        )
    if letter.what == W.FAILED:
        return (
            _("job %(n)d has failed") % words,
            _("Job %(n)d of %(who)s has failed. Its page says why, and what to do next.") % words,
        )
    return (
        _("job %(n)d has ended: %(state)s") % words,
        _("Your job %(n)d has ended: %(state)s.") % words,
    )


OUTBOX = Outbox(Letter, _text, _name)
