"""Load the TLS certificates of the receiver from the files in the settings.

Used by the receiver process and by health checks.
"""

import logging
from typing import TYPE_CHECKING

from django.conf import settings

from adit_engine.dicom_ul.tls import ServerTls, TlsCredentials
from adit_engine.errors import InvalidInput

if TYPE_CHECKING:
    from adit_engine.storage_scp.server import StorageScp

CERTIFICATE = "ADIT_RECEIVER_TLS_CERTIFICATE"
KEY = "ADIT_RECEIVER_TLS_KEY"
CLIENT_CA = "ADIT_RECEIVER_TLS_CLIENT_CA"

log = logging.getLogger(__name__)


def uses_tls() -> bool:
    """Return whether any of the three settings is set.

    One is enough: it shows that unencrypted connections are not intended.
    """
    return any(_get_paths())


def load_receiver_tls() -> ServerTls | None:
    """Return the TLS configuration, or None without TLS.

    Raise InvalidInput, which names the setting.
    """
    if not uses_tls():
        return None
    certificate, key, client_ca = _get_paths()
    papers = TlsCredentials.from_files(
        (CERTIFICATE, certificate), (KEY, key), (CLIENT_CA, client_ca)
    )
    return ServerTls(papers)


def reload_certificates(receiver: "StorageScp") -> None:
    """Use the current content of the files for new connections.

    If it is invalid, the old certificates stay in use.
    """
    if receiver.tls is None:
        return
    try:
        renewed = load_receiver_tls()
    except InvalidInput as error:
        log.error("the receiver continues to use its old certificates: %s", error)
        return
    if renewed is not None and renewed.credentials != receiver.tls.credentials:
        receiver.tls = renewed
        log.info("the receiver uses new certificates from now on")


def _get_paths() -> tuple[str, str, str]:
    given = settings
    return (
        given.RECEIVER_TLS_CERTIFICATE,
        given.RECEIVER_TLS_KEY,
        given.RECEIVER_TLS_CLIENT_CA,
    )
