"""Continuation: whether one version of a profile can follow another without new UIDs."""

from adit_engine.pseudonymize.profile import CLEAN_PIXELS, Profile


def continues(before: Profile, after: Profile) -> bool:
    """Whether whatever could leave under `before` leaves with the same bytes under `after`.

    So it is where pixel rules were added that open what was withheld, and touch nothing else: the
    number of a version stands in no header, and 113101 only where rectangles were blanked.
    Taking a rule away does not count, since another one could come in its place.
    """
    if before.name != after.name or before.options - {CLEAN_PIXELS} != after.options - {
        CLEAN_PIXELS
    }:
        return False
    if not set(before.pixel_rules) <= set(after.pixel_rules):
        return False
    added = [rule for rule in after.pixel_rules if rule not in before.pixel_rules]
    return all(
        rule.opens_only and not any(rule.meets(known) for known in before.pixel_rules)
        for rule in added
    )
