"""Guesses: which SOP classes may come from an archive that does not say what its studies hold."""

_IMAGES = "1.2.840.10008.5.1.4.1.1."

COMMON_CLASSES = frozenset(
    _IMAGES + end
    for end in ("2", "2.1", "4", "4.1", "1", "1.1", "128", "6.1", "7", "12.1", "88.67")
)
"""Offered first, in all usual syntaxes."""

OTHER_CLASSES = tuple(
    _IMAGES + end
    for end in (
        *("88.11", "88.22", "88.33", "88.34", "88.59", "88.40", "88.50", "88.65", "88.68"),
        *("11.1", "11.2", "11.8", "66.4", "66", "66.1", "66.5", "66.7", "30", "67"),
        *("481.1", "481.2", "481.3", "481.5", "481.8", "104.1", "104.2", "104.3"),
        *("1.2", "1.2.1", "1.3", "13.1.3", "13.1.1", "12.2", "12.1.1", "3.1", "6.2", "20"),
        *("7.2", "7.4", "4.2", "4.3", "4.4", "2.2", "128.1", "130"),
        *("77.1.1", "77.1.2", "77.1.4", "77.1.5.1", "77.1.5.4", "9.1.1"),
    )
)
"""Offered uncompressed where that left something out: reports, keys, segments, plans, rarer images."""
