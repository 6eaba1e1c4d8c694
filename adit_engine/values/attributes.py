"""Tag, keyword and VR of the attributes used in queries and responses (PS3.6).

The table avoids importing pydicom, which takes a third of a second. pydicom is imported only for
attributes that the table lacks.
"""

from functools import cache

_TABLE = """
00020010 UI TransferSyntaxUID
00080005 CS SpecificCharacterSet
00080016 UI SOPClassUID
00080018 UI SOPInstanceUID
00080020 DA StudyDate
00080021 DA SeriesDate
00080030 TM StudyTime
00080031 TM SeriesTime
00080050 SH AccessionNumber
00080052 CS QueryRetrieveLevel
00080054 AE RetrieveAETitle
00080056 CS InstanceAvailability
00080058 UI FailedSOPInstanceUIDList
00080060 CS Modality
00080061 CS ModalitiesInStudy
00080062 UI SOPClassesInStudy
00080070 LO Manufacturer
00080080 LO InstitutionName
00080090 PN ReferringPhysicianName
00081030 LO StudyDescription
0008103E LO SeriesDescription
00081090 LO ManufacturerModelName
00081190 UR RetrieveURL
00100010 PN PatientName
00100020 LO PatientID
00100021 LO IssuerOfPatientID
00100030 DA PatientBirthDate
00100040 CS PatientSex
00120020 LO ClinicalTrialProtocolID
00120050 LO ClinicalTrialTimePointID
00180015 CS BodyPartExamined
00181030 LO ProtocolName
0020000D UI StudyInstanceUID
0020000E UI SeriesInstanceUID
00200010 SH StudyID
00200011 IS SeriesNumber
00200013 IS InstanceNumber
00201206 IS NumberOfStudyRelatedSeries
00201208 IS NumberOfStudyRelatedInstances
00201209 IS NumberOfSeriesRelatedInstances
"""

_BY_TAG = {int(t, 16): (keyword, vr) for t, vr, keyword in map(str.split, _TABLE.split("\n")[1:-1])}
_BY_KEYWORD = {keyword: (tag, vr) for tag, (keyword, vr) in _BY_TAG.items()}


@cache
def find_by_tag(tag: int) -> tuple[str, str]:
    """Return keyword and VR, both empty for a private or unknown element.

    Where the dictionary allows several VRs, the first one is returned.
    """
    if tag in _BY_TAG:
        return _BY_TAG[tag]
    if (tag >> 16) % 2:
        return "", ""
    from pydicom.datadict import dictionary_keyword, dictionary_VR

    try:
        return dictionary_keyword(tag), dictionary_VR(tag).partition(" ")[0]
    except KeyError:
        return "", ""


@cache
def find_by_keyword(keyword: str) -> tuple[int, str] | None:
    """Return tag and VR, or None if the dictionary has no such keyword."""
    if keyword in _BY_KEYWORD:
        return _BY_KEYWORD[keyword]
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    return None if tag is None else (tag, find_by_tag(tag)[1])
