"""Spool: complete instances in order, limited by disk space, in bounded memory."""

import tracemalloc
from pathlib import Path

import pytest
from lab.samples import ct, instance

from adit_engine.bounded_stream import memory_bytes
from adit_engine.dicom_file import part10
from adit_engine.errors import StorageError
from adit_engine.storage_scp.spool import IncomingInstance, Spool
from adit_engine.values.instance import Instance

TOKEN = "abc123"
MIB = 1024 * 1024


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    one = Spool(tmp_path / "spool", reserve_bytes=0)
    one.open(TOKEN)
    return one


def filled(spool: Spool, whole: Instance, piece_bytes: int = 100_000) -> IncomingInstance:
    arriving = spool.begin_instance(
        whole.sop_class_uid, whole.instance_uid, whole.transfer_syntax_uid
    )
    for part in whole.parts():
        for start in range(0, len(part), piece_bytes):
            arriving.add(memoryview(part)[start : start + piece_bytes])
    return arriving


def large(number: int, size_bytes: int) -> Instance:
    return instance(ct(number, Rows=1, Columns=1, PixelData=bytes(size_bytes)))


def test_instances_are_taken_unchanged_and_in_order(spool: Spool) -> None:
    sent = [instance(ct(n)) for n in (3, 1, 2)]

    for one in sent:
        filled(spool, one).publish(TOKEN)
    taken = list(spool.take(TOKEN))

    assert [one.sha256() for one in taken] == [one.sha256() for one in sent]
    assert [one.in_header.ref for one in taken] == [one.in_header.ref for one in sent]
    assert list(spool.take(TOKEN)) == []
    assert spool.waiting_bytes(TOKEN) == 0


def test_an_incomplete_instance_is_never_taken(spool: Spool) -> None:
    arriving = filled(spool, large(1, 3 * MIB))

    assert list(spool.take(TOKEN)) == []
    assert spool.last_activity_s() < 5
    arriving.discard()

    assert spool.last_activity_s() == float("inf")
    assert list(spool.take(TOKEN)) == []


def test_incomplete_files_of_a_dead_receiver_are_removed(spool: Spool) -> None:
    filled(spool, large(1, 3 * MIB))

    Spool(spool.folder, 0).sweep_incoming()

    assert spool.last_activity_s() == float("inf")


def test_a_large_instance_is_written_in_chunks_and_memory_mapped(spool: Spool) -> None:
    whole = large(1, 40 * MIB)
    digest = whole.sha256()
    tracemalloc.start()
    try:
        filled(spool, whole).publish(TOKEN)
        (taken,) = spool.take(TOKEN)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak_bytes < 8 * MIB
    assert memory_bytes(taken) == 0
    assert taken.sha256() == digest
    assert not list((spool.folder / TOKEN).glob("*.dcm"))


def test_nothing_is_stored_when_free_space_is_below_the_reserve(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", reserve_bytes=2**60)
    spool.open(TOKEN)

    arriving = filled(spool, large(1, 3 * MIB))

    assert arriving.is_full
    assert not list((tmp_path / "spool" / "_incoming").iterdir())


def test_an_instance_cannot_be_published_to_a_closed_token(spool: Spool) -> None:
    arriving = filled(spool, instance(ct()))
    spool.close(TOKEN)

    with pytest.raises(FileNotFoundError):
        arriving.publish(TOKEN)
    arriving.discard()
    assert spool.tokens() == []
    assert not [path for path in spool.folder.rglob("*") if path.is_file()]


def test_the_journal_keeps_instances_that_were_taken(spool: Spool) -> None:
    arriving = filled(spool, instance(ct()))
    arriving.publish(TOKEN)
    spool.add_to_journal(TOKEN, "1.2.3", arriving.digest)
    list(spool.take(TOKEN))

    assert Spool(spool.folder).journal(TOKEN) == {"1.2.3": arriving.digest}


def test_a_malformed_instance_is_taken_with_its_defect(spool: Spool) -> None:
    whole = instance(ct())
    broken = Instance(whole.sop_class_uid, whole.instance_uid, whole.transfer_syntax_uid, b"\x08")
    filled(spool, broken).publish(TOKEN)

    (taken,) = spool.take(TOKEN)

    assert taken.instance_uid == whole.instance_uid
    assert taken.defect


def test_a_spooled_instance_is_a_part_10_file_with_private_mode(spool: Spool) -> None:
    whole = instance(ct())
    filled(spool, whole).publish(TOKEN)

    (path,) = (spool.folder / TOKEN).glob("*.dcm")

    assert part10.read_file(path).sha256() == whole.sha256()
    assert path.stat().st_mode & 0o077 == 0


def test_an_unusable_spool_folder_raises_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="cannot be used"):
        Spool(tmp_path / "file" / "spool").open(TOKEN)


def test_a_token_that_leads_out_of_the_spool_is_rejected(spool: Spool) -> None:
    with pytest.raises(ValueError, match="small letters"):
        spool.open("../elsewhere")
