"""A job from the page to the archive over four associations, at archives that cannot serve them."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import images
import pytest
from conftest import adit_up, free_port, sign_in
from lab.counting_proxy import AssociationCounts, CountingProxy
from lab.crowded_archive import Crowded, Manner
from lab.lies import Site as Held
from lab.lies import holdings
from lab.prepared import copy_prepared
from orthanc import needs_chromium
from playwright.sync_api import Page
from test_transfer import DESTINATION, SOON, SOURCE, order, run_transfer_site, wait_for_end

pytestmark = needs_chromium

LIMIT, SEARCHES = 4, 2
ECHOES = {"ADIT_ECHO_S": "1", "ADIT_ECHO_IN_USE_S": "1"}


@contextmanager
def crowded(folder: Path, title: str, manner: Manner, limit: int) -> Iterator[Crowded]:
    held = folder / title
    held.mkdir(exist_ok=True)
    with Crowded(Held(title, holdings(held)), manner, limit, scratch=folder) as archive:
        yield archive


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("manner", "served"), [(Manner.REJECT, 1), (Manner.DIE, 3)], ids=["refused", "dies"]
)
def test_a_job_over_four_associations_delivers_each_image_once_whatever_the_archives_do(
    tmp_path: Path, open_page: Callable[[bool], Page], manner: Manner, served: int
) -> None:
    data = tmp_path / "data"
    copy_prepared(data)
    (tmp_path / "SOURCE").mkdir()
    for number, file in enumerate(images.long_study()):
        (tmp_path / "SOURCE" / f"{number}.dcm").write_bytes(file)
    counts = {SOURCE: AssociationCounts(), DESTINATION: AssociationCounts()}
    with (
        crowded(tmp_path, "SOURCE", manner, served) as source,
        crowded(tmp_path, "RESEARCH", manner, served) as destination,
        CountingProxy(source.port, counts[SOURCE]) as before_source,
        CountingProxy(destination.port, counts[DESTINATION]) as before_destination,
    ):
        four = {"retrieve": "get", "retrieve_associations": 4, "store_associations": 4}
        nodes = {
            name: {
                **four,
                "host": "127.0.0.1",
                "port": proxy.port,
                "called_ae_title": title,
                "retrieve_limit": LIMIT,
            }
            for name, proxy, title in (
                (SOURCE, before_source, "SOURCE"),
                (DESTINATION, before_destination, "RESEARCH"),
            )
        }
        run_transfer_site(data, "make", json.dumps(nodes))
        url = f"http://127.0.0.1:{(port := free_port())}"
        environment = {
            **os.environ,
            **{"ADIT_DATA": str(data), "PORT": str(port), "ADIT_RETRY_PAUSES_S": "1"},
            **SOON,
            **ECHOES,
        }
        with adit_up(data / "up.log", environment):
            page = open_page(True)
            sign_in(page, url, "coordinator")
            order(page, url, "LUNG-JS", images.LONG_ID)
            page.click("#start")
            job = wait_for_end(page, url, seconds=200)
            ledger = run_transfer_site(data, "ledger", str(job))

    (manifest,) = ledger["manifests"]
    ends = Counter(entry["state"] for entry in manifest["instances"].values())
    assert ends == {"delivered": images.LONG}
    stored = Counter(one.instance_uid for one in destination.log.stored)
    assert stored.keys() == set(ledger["out"].values())
    if manner is Manner.REJECT:
        assert set(stored.values()) == {1}
        assert set(Counter(one.instance_uid for one in source.log.sent).values()) == {1}
    for name, counted in counts.items():
        assert 1 < counted.most <= LIMIT + SEARCHES, name
