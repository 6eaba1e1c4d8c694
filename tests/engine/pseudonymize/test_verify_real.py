"""Verification accepts every real file that pseudonymization releases."""

from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from lab.verify_pairs import change
from pydicom.filereader import _read_file_meta_info, read_preamble

from adit_engine.errors import InstanceWithheld, Malformed
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.verify.verifier import Verifier
from adit_engine.values.instance import Instance

BUNDLED = Path(pydicom.__file__).parent / "data"


def real_files() -> Iterator[tuple[str, Instance]]:
    for path in sorted(BUNDLED.rglob("*")):
        data = path.read_bytes() if path.is_file() else b""
        if data[128:132] != b"DICM":
            continue
        stream = BytesIO(data)
        read_preamble(stream, False)
        meta = _read_file_meta_info(stream)
        said = [str(meta.get(f"MediaStorageSOP{what}UID", "")) for what in ("Class", "Instance")]
        syntax = str(meta.get("TransferSyntaxUID", ""))
        try:
            yield path.name, Instance.from_data_set(said[0], said[1], syntax, data[stream.tell() :])
        except Malformed:
            continue


@pytest.mark.parametrize("options", [("113107",), ("113106",), ("113107", "113108")])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pseudonymized_real_files_pass_verification(options: tuple[str, ...]) -> None:
    by = change(*options)
    verifier = Verifier(by)
    results: Counter[str] = Counter()
    for name, instance in real_files():
        try:
            made = apply(by, instance)
        except InstanceWithheld:
            results["refused by the change"] += 1
            continue
        try:
            verifier.check(instance, made)
        except InstanceWithheld as found:
            pytest.fail(f"{name}: {found}")
        results["released"] += 1
    assert results["released"] >= 80, results
