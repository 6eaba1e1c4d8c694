"""Certificate: for whom it is and until when, read from PEM text; for people, not for trust."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from adit_engine.errors import WrongInput


@dataclass(frozen=True, slots=True)
class Certificate:
    """`names` are those that a caller may look for, first the one to be known by."""

    names: tuple[str, ...]
    ends_at: datetime

    @property
    def days_left(self) -> int:
        """Whole days; less than 0 when it has ended."""
        return (self.ends_at - datetime.now(UTC)).days

    def __str__(self) -> str:
        return f"{self.names[0] if self.names else '?'}, until {self.ends_at:%Y-%m-%d}"


def read(text: str) -> tuple[Certificate, ...]:
    """In the order of the text: with a chain, the one that is shown comes first. Raises WrongInput."""
    try:
        found = x509.load_pem_x509_certificates(text.encode())
        return tuple(Certificate(tuple(_names(one)), one.not_valid_after_utc) for one in found)
    except (ValueError, TypeError) as error:
        raise WrongInput("This is no certificate in PEM format.") from error


def _names(one: x509.Certificate) -> Iterator[str]:
    try:
        others = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        yield from others.get_values_for_type(x509.DNSName)
        yield from map(str, others.get_values_for_type(x509.IPAddress))
    except x509.ExtensionNotFound:
        pass
    for named in one.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        yield str(named.value)
