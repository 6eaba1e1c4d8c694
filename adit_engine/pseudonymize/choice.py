"""Choice: what a research project decides about a risk that only people can judge."""

from enum import Enum


class Choice(Enum):
    """There is no default: as long as a risk is UNDECIDED, what bears it is withheld."""

    UNDECIDED = "undecided"
    WITHHOLD = "withhold"
    ACCEPT = "accept"
