"""Check names: no retired name is used again, and every class name occurs once."""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("adit", "adit_engine")

RETIRED_MODULES = frozenset(
    """
    trip passage traveller incoming handoff sighting question inquiry spelling filing naming
    readback contents catalog large pace pacing doorway reception local_reception expectation
    treatment interruption start rejection pseudonymizing line secure_line tls_fault tls_errors
    watch conversation body command acceptance lookup web_line web_client web_address web_status
    retrieval fetching moving proving committing reporting pledge shared guesses repeats manners
    offers web_offers example letters ground detour attempt dummy admit parts tally icc
    continuation stamp blank verify_needles verify_words verify_evidence footing statement
    statements light many signs connect rows places papers post parcel dispatch strays watched
    waits shelf room common special window hours picture openings uses meter lookout profiles
    pairs joining plain tryout ordering starting over held permits lists mail sealed guess ahead
    roads bell stuck streak contact ends onward appraisal found given lines answers hits holdings
    looks bench desk door about words judging crosswise child refusal trial trials
    """.split()  # noqa: SIM905 - a list would take a line for each
)
"""Names that modules had before 0.1.0, of which none tells a stranger what is inside."""

ALLOWED_MODULES = frozenset({"adit_engine/pseudonymize/profiles", "adit/projects/views/profiles"})
"""De-identification profiles are called so in the standard's own words (PS3.15 Annex E)."""

RETIRED_CLASSES = frozenset(
    """
    Trip Passage Traveller Incoming Handoff Sighting Inquiry Filing Catalog Pacing Doorway
    Treatment Conversation Manners Offers Ground Detour Heedful Ordered Trial TrialKey TrialStamp
    Streak Bench Desk Box Papers Parcel Opening
    """.split()  # noqa: SIM905
)
RETIRED_FUNCTIONS = frozenset(
    "give_back say lay_tasks made carry_out heed person told heard opened".split()  # noqa: SIM905
)
RETIRED_NAMES = frozenset(
    """
    beats bench blanked break_off broke_rule came_empty came_in decide_first desk doorway fate
    fetch_early fits_series give_secrets handoff has_room header_word_of heed held_back
    holds_until house is_loose letter letters listing_of look_at_nodes lots may_be_opened
    may_nothing names_its_device names_originator overlay_of papers patience rests_until road
    seal_of secrets_for showings sighting state_shown state_words stop_asked storey stray strays
    talks tally task_words tasks_over traveller tried_until twins_of untaken whole_of
    why_no_list wish wishes wrong_hours
    """.split()  # noqa: SIM905
)
"""Fields, properties, methods, functions and parameters. A private name is checked without its `_`."""

FRAMEWORK_CLASSES = frozenset({"Meta", "Command", "Migration", "Media"})


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path.relative_to(ROOT)


def names_of(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Names that a definition gives to others: its own, its parameters, its fields."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name, node.lineno
        arguments = node.args
        for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            yield one.arg, one.lineno
    elif isinstance(node, ast.ClassDef):
        for statement in node.body:
            targets = statement.targets if isinstance(statement, ast.Assign) else []
            if isinstance(statement, ast.AnnAssign):
                targets = [statement.target]
            yield from ((one.id, one.lineno) for one in targets if isinstance(one, ast.Name))
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.attr, node.lineno


def problems() -> Iterator[str]:
    """One sentence for each name that breaks a rule, in the order of the modules."""
    classes: dict[str, list[str]] = defaultdict(list)
    for path in modules():
        for part in (path.with_suffix(""), path.parent):
            if part.name in RETIRED_MODULES and str(part) not in ALLOWED_MODULES:
                yield f"{path}: the module or package name '{part.name}' is retired"
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            for name, line in names_of(node):
                if name.strip("_") in RETIRED_NAMES:
                    yield f"{path}:{line}: the name '{name}' is retired"
            if isinstance(node, ast.ClassDef):
                classes[node.name].append(f"{path}:{node.lineno}")
                if node.name in RETIRED_CLASSES:
                    yield f"{path}:{node.lineno}: the class name '{node.name}' is retired"
            elif isinstance(node, ast.FunctionDef) and node.name in RETIRED_FUNCTIONS:
                yield f"{path}:{node.lineno}: the function name '{node.name}' is retired"
    for name, places in classes.items():
        if len(places) > 1 and name not in FRAMEWORK_CLASSES:
            yield f"the class name '{name}' occurs {len(places)} times: {', '.join(places)}"


def main() -> int:
    found = list(problems())
    print("\n".join(found) or "all names are in order")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
