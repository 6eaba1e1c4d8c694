"""Search, transfer, retrieve and store medical images with ADIT.

    client = Client("https://adit.example.org", token)

docs/api.md of the repository shows a whole session.
"""

from adit_sdk.client import Client
from adit_sdk.download import DownloadReport
from adit_sdk.errors import (
    ActionRefused,
    AllWithheld,
    ApiError,
    IncompleteAnswer,
    InvalidRequest,
    NodeFailed,
    NotFound,
    PermissionMissing,
    ServiceUnavailable,
    TokenRejected,
    WaitTimeout,
)
from adit_sdk.job import Job
from adit_sdk.retrieval import Retrieval, RetrievalSummary
from adit_sdk.storing import StoreReport, UnstoredImage
from adit_sdk.values import (
    IDENTIFIED,
    Identified,
    Node,
    Preview,
    Reason,
    SearchResult,
    Study,
)

__all__ = [
    "IDENTIFIED",
    "ActionRefused",
    "AllWithheld",
    "ApiError",
    "Client",
    "DownloadReport",
    "Identified",
    "IncompleteAnswer",
    "InvalidRequest",
    "Job",
    "Node",
    "NodeFailed",
    "NotFound",
    "PermissionMissing",
    "Preview",
    "Reason",
    "Retrieval",
    "RetrievalSummary",
    "SearchResult",
    "ServiceUnavailable",
    "StoreReport",
    "Study",
    "TokenRejected",
    "UnstoredImage",
    "WaitTimeout",
]
