"""Continuation: whether one version of a profile can follow another without new UIDs."""

from adit_engine.pseudonymize import tables
from adit_engine.pseudonymize.choice import Choice
from adit_engine.pseudonymize.pixel_rules import WITHHELD
from adit_engine.pseudonymize.profile import CLEAN_PIXELS, Profile


def continues(before: Profile, after: Profile, header_word: Choice) -> bool:
    """Whether whatever could leave under `before` leaves with the same bytes under `after`.

    So it is where pixel rules were added that open what was withheld, and touch nothing else: the
    number of a version stands in no header, and 113101 only where rectangles were blanked.
    Taking a rule away does not count, since another one could come in its place. `header_word` is
    what the project had chosen before.
    """
    if before.name != after.name or before.options - {CLEAN_PIXELS} != after.options - {
        CLEAN_PIXELS
    }:
        return False
    if not set(before.pixel_rules) <= set(after.pixel_rules):
        return False
    added = [rule for rule in after.pixel_rules if rule not in before.pixel_rules]
    return all(
        rule.opens_only(header_word) and not any(rule.meets(known) for known in before.pixel_rules)
        for rule in added
    )


def choice_continues(profile: Profile, before: Choice, after: Choice) -> bool:
    """Whether images leave with the same bytes under another choice for the header's word.

    A rule that is for withheld images alone masks fewer of them once the word is accepted. When it
    is accepted no longer, a rule may follow that masks images which left unmasked.
    """
    if (before is Choice.ACCEPT) is (after is Choice.ACCEPT):
        return True
    return before is not Choice.ACCEPT and not any(
        rule.applies == WITHHELD
        and rule.rectangles
        and tables.admitted()[rule.sop_class].needs_choice
        for rule in profile.pixel_rules
    )
