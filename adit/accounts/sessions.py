"""Sessions in the database, and how to end them. Used as SESSION_ENGINE and by the account pages.

The table holds a keyed hash of each session key, so that a copy of the database opens no session.
"""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.crypto import salted_hmac

from adit.accounts.models import User, UserSession

CLIENT = "client"
"""Name of the session value with address and browser of the sign-in."""
ACTIVITY_INTERVAL = timedelta(minutes=1)
"""How exactly the last activity is known; the row is not written more often."""

_BROWSERS = {"Edg": "Edge", "OPR/": "Opera", "Firefox/": "Firefox", "Chrome/": "Chrome"}
_BROWSERS |= {"Safari/": "Safari"}
_SYSTEMS = {"Windows": "Windows", "Android": "Android", "iPhone": "iPhone", "iPad": "iPad"}
_SYSTEMS |= {"Mac OS X": "macOS", "Linux": "Linux"}


class SessionStore(SessionBase):
    """A session ends a fixed time after the sign-in, or when it was not used for a time."""

    _last_seen_at: datetime | None = None
    """Of a loaded session."""

    def load(self) -> dict[str, Any]:
        row = find_active().filter(digest=_hash_key(self.session_key)).first()
        if row is None:
            self._session_key = None
            return {}
        self._last_seen_at = row.last_seen_at
        return self.decode(row.data)

    def exists(self, session_key: str) -> bool:
        return UserSession.objects.filter(digest=_hash_key(session_key)).exists()

    def create(self) -> None:
        while True:
            self._session_key = self._get_new_session_key()  # type: ignore[attr-defined]
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    def save(self, must_create: bool = False) -> None:
        if self.session_key is None:
            self.create()
            return
        values = self._get_session(no_load=must_create)  # type: ignore[attr-defined]
        client = values.get(CLIENT, {})
        digest = _hash_key(self.session_key)
        columns = {
            "data": self.encode(values),
            "user_id": values.get(SESSION_KEY),
            "address": client.get("address") or None,
            "browser": client.get("browser", ""),
        }
        if not must_create:
            if not UserSession.objects.filter(digest=digest).update(**columns):
                raise UpdateError
            return
        now = timezone.now()
        ends_at = now + timedelta(seconds=self.get_expiry_age())
        try:
            with transaction.atomic():
                UserSession.objects.create(
                    digest=digest, last_seen_at=now, expires_at=ends_at, **columns
                )
        except IntegrityError:
            raise CreateError from None

    def delete(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        if key is not None:
            UserSession.objects.filter(digest=_hash_key(key)).delete()

    def note_activity(self) -> None:
        """Restart the time after which an unused session ends."""
        now = timezone.now()
        # Without this check each page would wait for the lock of the SQLite database.
        if self._last_seen_at is not None and self._last_seen_at < now - ACTIVITY_INTERVAL:
            digest = _hash_key(self.session_key)
            UserSession.objects.filter(digest=digest).update(last_seen_at=now)

    @classmethod
    def clear_expired(cls) -> None:
        delete_ended()


def find_active() -> QuerySet[UserSession]:
    """Return the sessions that have neither expired nor been unused for too long."""
    now = timezone.now()
    return UserSession.objects.filter(expires_at__gt=now, last_seen_at__gt=_oldest_activity(now))


def is_current(row: UserSession, session: SessionBase) -> bool:
    return row.digest == _hash_key(session.session_key)


def end_sessions(user: User, *, keep: SessionBase | None = None) -> int:
    """End the sessions of a user, all but one if given. Return their number."""
    rows = find_active().filter(user=user)
    if keep is not None:
        rows = rows.exclude(digest=_hash_key(keep.session_key))
    count, _ = rows.delete()
    return count


def delete_ended() -> None:
    now = timezone.now()
    UserSession.objects.filter(expires_at__lte=now).delete()
    UserSession.objects.filter(last_seen_at__lte=_oldest_activity(now)).delete()


def describe_browser(agent: str) -> str:
    """Return browser and system of a User-Agent header in two words; empty if unknown."""
    found = (
        next((name for word, name in names.items() if word in agent), "")
        for names in (_BROWSERS, _SYSTEMS)
    )
    return ", ".join(filter(None, found))


def _oldest_activity(now: datetime) -> datetime:
    return now - timedelta(seconds=settings.SESSION_IDLE_S)


def _hash_key(key: str | None) -> str:
    return salted_hmac("adit.accounts.sessions", key or "", algorithm="sha256").hexdigest()
