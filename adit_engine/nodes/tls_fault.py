"""TLS fault: why no TLS came about, in words, with the next step."""

import re
import ssl

from adit_engine.errors import Untrusted
from adit_engine.nodes.tls import Tls

_NOT_YET, _EXPIRED, _REVOKED, _PURPOSE = 9, 10, 23, 26
_ISSUERS = frozenset({2, 7, 18, 19, 20, 21, 24, 27, 28, 79})
_NAMES = frozenset({62, 63, 64})
"""Results of OpenSSL's verification (X509_V_ERR_...)."""

_WANTS_CERTIFICATE = frozenset({"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_NO_CERTIFICATE"})
_DISTRUSTS = frozenset(
    {
        "TLSV1_ALERT_UNKNOWN_CA",
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "TLSV1_ALERT_ACCESS_DENIED",
    }
)
_ENDED = {
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "was revoked",
}
_VERSIONS = frozenset(
    {
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "UNSUPPORTED_PROTOCOL",
        "WRONG_SSL_VERSION",
        "VERSION_TOO_LOW",
    }
)
_CIPHERS = frozenset(
    {
        "NO_SHARED_CIPHER",
        "TLSV1_ALERT_INSUFFICIENT_SECURITY",
        "NO_SUITABLE_SIGNATURE_ALGORITHM",
        "NO_SHARED_SIGNATURE_ALGORITHMS",
        "NO_SHARED_GROUP",
        "DH_KEY_TOO_SMALL",
    }
)
_REFUSED = frozenset(
    {
        "HTTP_REQUEST",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "UNSAFE_LEGACY_RENEGOTIATION_DISABLED",
        "WRONG_VERSION_NUMBER",
    }
)
_WEAK = frozenset({66, 67, 68})
_DRESS = re.compile(r"^\[[^]]*\] | \(_ssl\.c:\d+\)$")


def hint(tls: Tls) -> str:
    """What to look at when an association does not come about and nobody says why."""
    if tls.is_server:
        return "Ask its administrator whether it speaks TLS, and trusts our certificate."
    wants = "" if tls.papers.certificate.text else ", that it wants no client certificate"
    return (
        f"Check that this port speaks TLS{wants}, and that the PACS knows our address and AE title."
    )


def not_tls(node: str, tls: Tls) -> Untrusted:
    if tls.is_server:
        text = (
            "speaks plain DICOM to a port that wants TLS. Ask its administrator to switch TLS on."
        )
    else:
        text = "does not speak TLS on this port. Ask its administrator for the port that does."
    return Untrusted(node, text)


def fault(node: str, tls: Tls, error: ssl.SSLError) -> Untrusted | None:
    """None for what may be damage on the way or trouble of the hour: another time it may work."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = _verified(tls, error)
    else:
        text = _told(tls, error.reason or "")
    return Untrusted(node, text) if text else None


def words(error: ssl.SSLError) -> str:
    """OpenSSL's own, without where in its code it was found."""
    return _DRESS.sub("", str(error.args[-1] if error.args else "")) or "no reason given"


def _verified(tls: Tls, error: ssl.SSLCertVerificationError) -> str:
    """Why we do not accept its certificate."""
    code = error.verify_code
    whose = "its client certificate" if tls.is_server else "its certificate"
    if code in _NAMES:
        return (
            f"{whose} carries another name than {tls.name}. Check the host, or write the name "
            "that it carries into Name in its certificate."
        )
    if code == _EXPIRED:
        return f"{whose} has expired, or that of its issuer. Ask its administrator to renew it."
    if code == _NOT_YET:
        return f"{whose} is not valid yet. Check the clocks of both machines."
    if code == _REVOKED:
        return f"{whose} was revoked. Ask its administrator for a new one."
    if code == _PURPOSE:
        use = "clients" if tls.is_server else "servers"
        return f"{whose} is not made for {use}. Ask its administrator for one that is."
    if code in _WEAK:
        return f"{whose} uses a key or digest that is no longer safe. Ask for a new one."
    if code in _ISSUERS:
        where = tls.papers.trusted.label
        return (
            f"{whose} comes from nobody whom we trust. Put the certificate of its issuer, or "
            f"itself, into {where}; first make sure with its administrator that it is the right one."
        )
    return f"{whose} is not accepted ({error.verify_message}). Ask its administrator for another."


def _told(tls: Tls, reason: str) -> str:
    """What the other side refuses, as far as it has a reason that we know."""
    ours = tls.papers.certificate
    if reason in _WANTS_CERTIFICATE or (reason == "SSLV3_ALERT_BAD_CERTIFICATE" and not ours.text):
        return "wants a client certificate. Give one that its administrator accepts, with its key."
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "shows no client certificate. Ask its administrator to set one up for our receiver."
    if reason in _DISTRUSTS:
        return (
            f"does not accept our certificate ({ours.label}). Give its administrator the "
            "certificate of whoever issued ours."
        )
    if reason in _ENDED:
        return f"says that our certificate {_ENDED[reason]} ({ours.label}). Renew it."
    if reason in _VERSIONS:
        return (
            "offers no version of TLS that we allow (1.2 or newer). Ask its administrator to "
            "switch one on."
        )
    if reason in _CIPHERS:
        return (
            "has no cipher in common with us. Ask its administrator to allow those of BCP 195: "
            "ECDHE with AES-GCM."
        )
    if reason == "TLSV1_UNRECOGNIZED_NAME":
        return f"does not know the name {tls.name}. Check the host and Name in its certificate."
    if reason in _REFUSED and not (tls.is_server or ours.text):
        return "refused the TLS handshake. It may want a client certificate: ask its administrator."
    if reason in _REFUSED:
        return "refused the TLS handshake. Ask its administrator to look into its log."
    return ""
