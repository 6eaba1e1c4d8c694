"""Create a superuser and a finished 7-Zip file for the proxy tests; print its URL as JSON."""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path

DATA = Path(os.environ["ADIT_DATA"])


def main(password: str, size_bytes: int) -> None:
    from adit import cli

    cli.prepare()
    from django.utils import timezone

    from adit.accounts.models import User
    from adit.jobs.models import ArchiveFile, Job, JobState
    from adit.nodes.models import Node

    root = User.objects.create_superuser("root", password=password)
    place = DATA / "archives"
    place.mkdir()
    node = Node.objects.create(
        name="Encrypted 7-Zip file", kind="archive", is_open=True, settings={}
    )
    now = timezone.now()
    job = Job.objects.create(
        kind="selective",
        owner=root,
        destination=node,
        order={"change": "pseudonymize", "announced": []},
        state=JobState.SUCCESS,
        started_at=now,
        ended_at=now,
    )
    (place / "job-1.7z").write_bytes(os.urandom(size_bytes))
    archive = ArchiveFile.objects.create(
        job=job,
        round=0,
        name="job-1.7z",
        size_bytes=size_bytes,
        images=1,
        built_at=now,
        expires_at=now + timedelta(days=14),
    )
    print(json.dumps({"file": f"/jobs/{job.pk}/files/{archive.pk}/"}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
