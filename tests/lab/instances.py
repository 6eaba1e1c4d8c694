"""Synthetic instances as nodes return them, uncompressed or compressed."""

from io import BytesIO

from pydicom.dataset import Dataset

from adit_engine.dicom_file import part10
from adit_engine.values.instance import Instance
from lab.samples import ct, instance


def images(count: int, series: str = "1", **changes: object) -> list[Instance]:
    return [instance(ct(number, series=series, **changes)) for number in range(1, count + 1)]


def compressed(dataset: Dataset, syntax: str) -> Instance:
    """Return the object with pixel data compressed by pydicom."""
    whole = instance(dataset)
    dataset.compress(syntax, generate_instance_uid=False)
    made = instance_with(dataset, syntax)
    assert made.instance_uid == whole.instance_uid
    return made


def instance_with(dataset: Dataset, syntax: str) -> Instance:
    buffer = BytesIO()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(buffer, enforce_file_format=True)
    return part10.parse_file(buffer.getvalue())


def by_uid(instances: list[Instance]) -> dict[str, tuple[str, str, str]]:
    return {i.instance_uid: (i.sop_class_uid, i.transfer_syntax_uid, i.sha256()) for i in instances}
