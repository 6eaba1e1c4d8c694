"""Papers: the receiver's certificates, read from the files that the settings name."""

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
    """Any of the three is enough: nobody who named one meant to listen in the clear."""
    return any(_get_paths())


def load_receiver_tls() -> ServerTls | None:
    """None in the clear. Raises WrongInput, which names the setting."""
    if not uses_tls():
        return None
    certificate, key, client_ca = _get_paths()
    papers = TlsCredentials.of_files((CERTIFICATE, certificate), (KEY, key), (CLIENT_CA, client_ca))
    return ServerTls(papers)


def reload_certificates(receiver: "StorageScp") -> None:
    """Shows what lies in the files now to whoever calls next; keeps the old when it does not fit."""
    if receiver.tls is None:
        return
    try:
        renewed = load_receiver_tls()
    except InvalidInput as error:
        log.error("the receiver goes on with its old certificates: %s", error)
        return
    if renewed is not None and renewed.papers != receiver.tls.papers:
        receiver.tls = renewed
        log.info("the receiver shows new certificates from now on")


def _get_paths() -> tuple[str, str, str]:
    given = settings
    return (
        given.RECEIVER_TLS_CERTIFICATE,
        given.RECEIVER_TLS_KEY,
        given.RECEIVER_TLS_CLIENT_CA,
    )
