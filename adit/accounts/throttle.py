"""Pauses after wrong passwords, by account and by address. Used by the allauth adapter.

Counts are in the cache. An unknown account is counted like an existing one, so that a pause does
not tell whether it exists.
"""

import ipaddress
from dataclasses import dataclass
from datetime import timedelta

from django.core.cache import cache
from django.utils import timezone

from adit.vault.master_key import master_cipher

COUNTED = timedelta(hours=24)
"""Failures are forgotten this time after the first one."""
FIRST_PAUSE = timedelta(minutes=1)


class TooManyAttempts(Exception):
    """The password is not checked now; the next attempt is possible after `seconds`."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class AttemptLimit:
    """Attempts in a row without a pause. Each further one is followed by a pause twice as long."""

    purpose: str
    attempts: int
    longest_pause: timedelta

    def count_attempt(self, subject: str) -> int:
        """Count an attempt before the password is checked; return the number so far.

        Raises TooManyAttempts during a pause. Of concurrent attempts at its end one is possible.
        """
        count_key, pause_key = self._keys(subject)
        self._require_no_pause(pause_key)
        cache.add(count_key, 0, COUNTED.total_seconds())
        count = cache.incr(count_key)
        if count >= self.attempts:
            doublings = min(count - self.attempts, 16)
            pause = min(FIRST_PAUSE * 2**doublings, self.longest_pause)
            ends = (timezone.now() + pause).timestamp()
            if not cache.add(pause_key, ends, pause.total_seconds()):
                self._require_no_pause(pause_key)
        return count

    def forget(self, subject: str) -> None:
        """Forget all attempts: the password was right."""
        cache.delete_many(self._keys(subject))

    def take_back(self, subject: str, count: int) -> None:
        """Forget the attempt that had this number, and the pause that it has started."""
        count_key, pause_key = self._keys(subject)
        cache.add(count_key, 1, COUNTED.total_seconds())
        cache.decr(count_key)
        if count >= self.attempts:
            cache.delete(pause_key)

    def _require_no_pause(self, key: str) -> None:
        ends = cache.get(key)
        if ends is not None:
            raise TooManyAttempts(max(1, round(ends - timezone.now().timestamp())))

    def _keys(self, subject: str) -> tuple[str, str]:
        digest = master_cipher().index(subject, f"attempts {self.purpose}")
        return f"attempts:{digest}", f"pause:{digest}"


ACCOUNT = AttemptLimit("account", 5, timedelta(minutes=15))
"""The pause is bounded, since anybody can cause it. It allows about 100 attempts a day."""
ADDRESS = AttemptLimit("address", 20, timedelta(hours=1))
"""More than for an account, since many people may share an address."""


def account_subject(typed: str) -> str:
    """Return the account as allauth finds it: regardless of case and surrounding spaces."""
    return typed.strip().lower()


def address_subject(address: str) -> str:
    """Return the address; of IPv6 the network of 64 bits, which one computer usually has."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network(f"{found}/64", strict=False))
    return address


@dataclass(frozen=True, slots=True)
class SignInAttempt:
    """One attempt to sign in, counted for the account and for the address."""

    account: str
    address: str
    account_count: int
    address_count: int

    @classmethod
    def count(cls, typed: str, address: str) -> "SignInAttempt":
        """Count an attempt. Raise TooManyAttempts; the attempt is then not counted."""
        account, network = account_subject(typed), address_subject(address)
        address_count = ADDRESS.count_attempt(network)
        try:
            account_count = ACCOUNT.count_attempt(account)
        except TooManyAttempts:
            ADDRESS.take_back(network, address_count)
            raise
        return cls(account, network, account_count, address_count)

    @property
    def starts_locking(self) -> bool:
        """Whether this is the first attempt after which a pause begins."""
        return self.account_count == ACCOUNT.attempts or self.address_count == ADDRESS.attempts

    def take_back(self) -> None:
        """The password was right: forget the failures of the account, not those of the address."""
        ACCOUNT.forget(self.account)
        ADDRESS.take_back(self.address, self.address_count)
