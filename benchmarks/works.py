"""The commands that are timed, by the engine and by each other tool, including start-up."""

import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import Study, write
from benchmarks.peers import BIG_PDU, Orthanc, run

PSEUDONYM = "BENCH-PSEUDONYM"
_NEW_UID = "2.25.4711"
_CALLING = ("-aet", "ADIT", "-aec")


@dataclass(frozen=True, slots=True)
class Site:
    """The environment of a comparison: three archives, a study and its files.

    The study is in the first archive.
    """

    source: Orthanc
    relay: Orthanc
    destination: Orthanc
    study: Study
    files: Path
    scratch: Path
    receiver_port: int
    """Port at which ADIT receives the images of a C-MOVE."""
    associations: int | None = None
    """Associations of the engine at each archive; None: the default of the command line."""

    @property
    def source_url(self) -> str:
        return self._url(self.source, "retrieve_associations")

    @property
    def destination_url(self) -> str:
        return self._url(self.destination, "store_associations")

    def _url(self, one: Orthanc, setting: str) -> str:
        return one.url if self.associations is None else f"{one.url}?{setting}={self.associations}"

    @property
    def out(self) -> Path:
        return self.scratch / "out"

    @property
    def key(self) -> Path:
        """A project key that protects no data."""
        return self.files.parent / "project.key"

    def fill(self) -> None:
        """Write the study's files and store them in the source."""
        shutil.rmtree(self.files, ignore_errors=True)
        self.key.write_text("42" * 32)
        write(self.study, self.files)
        self.source.clear()
        storescu(self, self.files, self.source)
        if self.source.count() != self.study.count:
            raise RuntimeError("The source did not keep all that it was sent.")

    def clean(self) -> None:
        """Remove the results of the previous work."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        self.relay.clear()
        self.destination.clear()


@dataclass(frozen=True, slots=True)
class Work:
    """One way to do one thing.

    `arrived` counts the results, so that a failure cannot win.
    """

    name: str
    go: Callable[[Site], None]
    arrived: Callable[[Site], int]


def engine(*arguments: str | Path, options: bool = True) -> None:
    """Run the command as a user enters it."""
    command = [Path(sys.executable).with_name("adit-engine"), *arguments, "--json"]
    run([str(word) for word in command], options=options)


def get_by_engine(site: Site) -> None:
    engine("fetch", "--from", site.source_url, "--to", site.out, *_ledger(site), *_which(site))


def get_by_getscu(site: Site) -> None:
    _getscu(site)


def get_by_script(site: Site) -> None:
    """Run getscu between two lists of the images.

    A script that compares them afterwards would do the same.
    """
    _findscu(site, "SOPInstanceUID", "SOPClassUID")
    _getscu(site)
    _findscu(site, "SOPInstanceUID")


def move_by_engine(site: Site) -> None:
    mark = "?" if site.associations is None else "&"
    source = f"{site.source_url}{mark}retrieve=move"
    words = ("--from", source, "--to", site.out, "--receiver", str(site.receiver_port))
    engine("fetch", *words, *_ledger(site), *_which(site))


def move_by_movescu(site: Site) -> None:
    _retrieve(site, "movescu", "-aem", "ADIT", "+P", site.receiver_port)


def store_by_engine(site: Site) -> None:
    engine("send", "--from", site.files, "--to", site.destination_url, *_ledger(site))


def store_by_storescu(site: Site) -> None:
    storescu(site, site.files, site.destination)


def transfer_by_engine(site: Site) -> None:
    engine(*transfer_command(site))


def transfer_command(site: Site) -> list[str]:
    """Archive to archive, pseudonymized, verified, and confirmed."""
    places = ("--from", site.source_url, "--to", site.destination_url)
    key = ("--key-file", site.key, "--pseudonym", PSEUDONYM)
    radiographs = ("--accept-header-word", "made-up images without text")
    words = ("transfer", *places, *key, *radiographs, *_ledger(site), *_which(site))
    return [str(word) for word in words]


def transfer_by_relay(site: Site) -> None:
    """An Orthanc in between fetches, anonymizes and sends, each as one REST request."""
    relay, source = site.relay, site.source.ae_title
    wish = {"Level": "Study", "Resources": [{"StudyInstanceUID": site.study.uid}]}
    relay.ask(f"/modalities/{source}/get", {**wish, "Synchronous": True})
    (fetched,) = relay.study_ids()
    change = {"Replace": {"PatientID": PSEUDONYM, "PatientName": PSEUDONYM}, "Force": True}
    made = relay.ask(f"/studies/{fetched}/anonymize", {**change, "Synchronous": True})
    body = {"Resources": [made["ID"]], "Synchronous": True}
    relay.ask(f"/modalities/{site.destination.ae_title}/store", body)


def transfer_by_dcmtk(site: Site) -> None:
    """getscu, dcmodify and storescu in sequence, as in a script."""
    _getscu(site)
    changes = (
        f"(0010,0010)={PSEUDONYM}",
        f"(0010,0020)={PSEUDONYM}",
        f"(0020,000d)={_NEW_UID}.1",
        f"(0020,000e)={_NEW_UID}.2",
    )
    words = [word for change in changes for word in ("-m", change)]
    erased = [word for tag in ("(0010,0030)", "(0008,0090)") for word in ("-ea", tag)]
    run(["dcmodify", "-nb", "-gin", *words, *erased, *sorted(site.out.iterdir())])
    storescu(site, site.out, site.destination)


def storescu(site: Site, folder: Path, to: Orthanc) -> None:
    pdu = ("--max-pdu", BIG_PDU) if to.options else ()
    where = (*_CALLING, to.ae_title, "127.0.0.1", to.dicom_port)
    command = ("storescu", *pdu, *where, "+sd", folder)
    run([str(word) for word in command], options=to.options)


def _getscu(site: Site) -> None:
    _retrieve(site, "getscu")


def _findscu(site: Site, *wanted: str) -> None:
    one = site.source
    where = (*_CALLING, one.ae_title, "127.0.0.1", str(one.dicom_port))
    for series_uid in site.study.series_uids:
        place = (f"StudyInstanceUID={site.study.uid}", f"SeriesInstanceUID={series_uid}")
        keys = [word for key in (*place, *wanted) for word in ("-k", key)]
        command = ["findscu", "-S", "-k", "QueryRetrieveLevel=IMAGE", *keys, *where]
        run(command, options=one.options)


def search_by_findscu(site: Site) -> None:
    """Search one patient, as another user of the archive does."""
    one = site.source
    words = ("QueryRetrieveLevel=STUDY", f"PatientID=BENCH-{site.study.number:04}", "StudyDate")
    keys = [word for key in words for word in ("-k", key)]
    where = (*_CALLING, one.ae_title, "127.0.0.1", str(one.dicom_port))
    run(["findscu", "-S", *keys, *where], options=one.options)


def get_by_several_getscu(site: Site) -> None:
    """Run as many getscu at once as the engine has associations, one series each."""

    def get(series_uid: str) -> None:
        _retrieve(site, "getscu", series_uid=series_uid)

    with ThreadPoolExecutor(site.associations) as pool:
        list(pool.map(get, site.study.series_uids))


def _retrieve(site: Site, tool: str, *more: str | int, series_uid: str = "") -> None:
    site.out.mkdir(exist_ok=True)
    one = site.source
    pdu = ("--max-pdu", BIG_PDU) if one.options else ()
    level = "SERIES" if series_uid else "STUDY"
    keys = ["-k", f"QueryRetrieveLevel={level}", "-k", f"StudyInstanceUID={site.study.uid}"]
    if series_uid:
        keys += ["-k", f"SeriesInstanceUID={series_uid}"]
    where = (*_CALLING, one.ae_title, "127.0.0.1", one.dicom_port)
    command = (tool, *pdu, *more, "-S", *keys, "-od", site.out, *where)
    run([str(word) for word in command], options=one.options)


def _ledger(site: Site) -> tuple[str, Path]:
    return "--manifest", site.scratch / "ledger.json"


def _which(site: Site) -> tuple[str, str]:
    return "--study", site.study.uid


def in_folder(site: Site) -> int:
    return sum(1 for path in site.out.rglob("*") if path.is_file())


def in_destination(site: Site) -> int:
    return site.destination.count()


GET = Work("adit-engine fetch", get_by_engine, in_folder)
GETSCU = Work("getscu", get_by_getscu, in_folder)
SEVERAL_GETSCU = Work("several getscu at once", get_by_several_getscu, in_folder)
LISTED = Work("findscu; getscu; findscu", get_by_script, in_folder)
MOVE = Work("adit-engine fetch by C-MOVE", move_by_engine, in_folder)
MOVESCU = Work("movescu", move_by_movescu, in_folder)
STORE = Work("adit-engine send", store_by_engine, in_destination)
STORESCU = Work("storescu", store_by_storescu, in_destination)
TRANSFER = Work("adit-engine transfer", transfer_by_engine, in_destination)
RELAY = Work("Orthanc relay", transfer_by_relay, in_destination)
SCRIPT = Work("getscu; dcmodify; storescu", transfer_by_dcmtk, in_destination)
