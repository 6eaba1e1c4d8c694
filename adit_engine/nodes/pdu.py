"""PDU: the units in which an association speaks (PS3.8 9.3)."""

from enum import IntEnum
from struct import Struct

HEAD = Struct(">BxI")
"""Kind and length."""


class Pdu(IntEnum):
    """The kinds that there are."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


KINDS = {int(kind): kind for kind in Pdu}


def pdu(kind: Pdu, body: bytes = bytes(4)) -> bytes:
    return HEAD.pack(kind, len(body)) + body
