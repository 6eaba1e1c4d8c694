"""Show no image of a blocked patient in the preview of a profile."""

from typing import Any

from adit.blocklist import blocking
from adit.nodes.access import get_domain
from adit.nodes.models import Node
from adit.projects.profile_preview import image_fetched


def connect() -> None:
    """Check each fetched image. Previews lie below this app, so it is a signal."""
    image_fetched.connect(_require_not_blocked, dispatch_uid="check previews of profiles")


def _require_not_blocked(node: Node, patient_id: str, **kwargs: Any) -> None:
    blocking.require_not_blocked(None, get_domain(node), patient_id)
