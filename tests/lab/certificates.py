"""A small certificate authority for tests, which also issues invalid certificates."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HERE = ("localhost", "127.0.0.1", "::1")
_PEM = serialization.Encoding.PEM
_DAY = timedelta(days=1)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Held:
    """A certificate and its key in PEM format."""

    certificate: str
    key: str

    def files(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write both to files and return the paths of certificate and key."""
        paths = folder / f"{name}.crt", folder / f"{name}.key"
        for path, text in zip(paths, (self.certificate, self.key), strict=True):
            path.write_text(text)
        return paths


class Authority:
    """Issues certificates. `Authority("Other")` is another one, which no peer trusts."""

    def __init__(self, name: str = "Test CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        builder = _builder(self._name, self._name, self._key, -1, 3650)
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        self.certificate = _text(builder.sign(self._key, hashes.SHA256()))

    def issue(
        self,
        name: str = "somebody",
        names: Sequence[str] = HERE,
        *,
        from_day: float = -1,
        until_day: float = 365,
        is_rsa: bool = False,
        password: bytes = b"",
    ) -> Held:
        """Issue a certificate for servers and clients. Days are relative to now."""
        key: PrivateKey = (
            rsa.generate_private_key(65537, 2048)
            if is_rsa
            else ec.generate_private_key(ec.SECP256R1())
        )
        builder = _builder(_named(name), self._name, key, from_day, until_day)
        builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        if names:
            others = x509.SubjectAlternativeName([_other(one) for one in names])
            builder = builder.add_extension(others, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Held(_text(certificate), _key_text(key, password))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, from_day: float, until_day: float
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + from_day * _DAY)
        .not_valid_after(now + until_day * _DAY)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _other(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _text(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(_PEM).decode()


def _key_text(key: PrivateKey, password: bytes) -> str:
    how: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        how = serialization.BestAvailableEncryption(password)
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, how).decode()
