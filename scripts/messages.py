"""Check that each message has a template with its values, and write docs/messages.md (--write).

The codes are read from the source: the first argument of `Message(...)`, and of every class that
is derived from `AditError` (the second one for a `NodeError`).
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Formatter
from typing import Any

from adit import message_templates as project
from adit_engine import message_templates as engine
from adit_engine.message_templates import Plural, Template

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "messages.md"
PACKAGES = ("adit_engine", "adit")
TEMPLATES: Mapping[str, Template] = {**engine.TEMPLATES, **project.TEMPLATES}
IMPLICIT_VALUES = {"node", "status"}
"""Given by the class of the error, not at the place where it is raised."""


def main() -> int:
    trees = {
        path: ast.parse(path.read_text(), str(path))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }
    problems = [*_check_templates(), *_check_uses(trees), *_check_unused(trees)]
    page = "\n".join(_write_page())
    if "--write" in sys.argv:
        PAGE.write_text(page)
    elif not PAGE.exists() or PAGE.read_text() != page:
        problems.append("docs/messages.md is not up to date: make messages")
    print("\n".join(problems) or f"{len(TEMPLATES)} messages")
    return 1 if problems else 0


def _check_templates() -> Iterator[str]:
    for code, template in TEMPLATES.items():
        if code != code.lower() or " " in code:
            yield f"{code}: codes are lower-case words with hyphens and dots"
        for text in _forms(template):
            if not code.startswith("clause.") and not text.endswith((".", "?", "}")):
                yield f"{code}: a sentence ends with a full stop"


def _check_uses(trees: Mapping[Path, ast.Module]) -> Iterator[str]:
    classes = _error_classes(trees)
    for path, tree in trees.items():
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call):
                continue
            place = classes.get(_name(call.func))
            if place is None or len(call.args) <= place:
                continue
            where = f"{path.relative_to(ROOT)}:{call.lineno}"
            argument = call.args[place]
            if isinstance(argument, ast.JoinedStr):
                yield f"{where}: a code is a constant"
            for code in _constants(argument):
                if code not in TEMPLATES:
                    yield f"{where}: {code!r} has no template"
                    continue
                given = {keyword.arg for keyword in call.keywords}
                if None in given:
                    continue
                wanted = _values(TEMPLATES[code])
                implicit = IMPLICIT_VALUES if _name(call.func) != "Message" else set()
                if missing := wanted - given - implicit:
                    yield f"{where}: {code} lacks {', '.join(sorted(missing))}"


def _check_unused(trees: Mapping[Path, ast.Module]) -> Iterator[str]:
    used = {
        node.value
        for path, tree in trees.items()
        if path.name != "message_templates.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    events = {f"event.{action}" for action in project.EVENT_ACTIONS}
    reasons = TEMPLATES.keys() - {f"plain.{key}" for key in project._PLAIN_REASONS} - events
    for code in TEMPLATES:
        if code in reasons and code not in used:
            yield f"{code}: the template is not used"
    for key in project._PLAIN_REASONS:
        if not any(code == key or code.partition(".")[0] == key for code in reasons):
            yield f"{key}: no message has this code or category"


def _error_classes(trees: Mapping[Path, ast.Module]) -> dict[str, int]:
    """Return the position of the code among the arguments, by class name."""
    bases = {
        node.name: [_name(base) for base in node.bases]
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    own_init = {
        node.name: names.index("code") - 1 if "code" in names else None
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for one in node.body
        if isinstance(one, ast.FunctionDef) and one.name == "__init__"
        for names in [[each.arg for each in (*one.args.posonlyargs, *one.args.args)]]
    }
    known = {"Message": 0, "AditError": 0}
    found = True
    while found:
        new = {
            name: place
            for name, parents in bases.items()
            for base in parents
            if base in known and name not in known and base != "Message"
            if (place := own_init.get(name, known[base])) is not None
        }
        known |= new
        found = bool(new)
    return known


def _constants(argument: ast.expr) -> Iterator[str]:
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        yield argument.value
    elif isinstance(argument, ast.IfExp):
        yield from _constants(argument.body)
        yield from _constants(argument.orelse)


def _name(expression: ast.expr) -> str:
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""


def _forms(template: Template) -> tuple[str, ...]:
    if isinstance(template, Plural):
        return template.singular, template.plural
    return (template,)


def _values(template: Template) -> set[str]:
    names = {name for text in _forms(template) for _, name, _, _ in Formatter().parse(text) if name}
    return names | {template.count} if isinstance(template, Plural) else names


def _write_page() -> Iterator[str]:
    yield "# Messages"
    yield ""
    yield "All codes with their sentences, written by `scripts/messages.py`. Errors, results and"
    yield "waits are stored and returned by the API as a code and values; words in braces are values."
    for module in (engine, project):
        for section, templates in _sections(module):
            yield ""
            yield f"## {section}"
            yield ""
            yield "| code | sentence |"
            yield "|---|---|"
            for code, template in templates.items():
                text = " / ".join(_forms(template)).replace("|", "\\|").replace("\n", " ")
                yield f"| `{code}` | {text} |"
    yield ""


def _sections(module: Any) -> Iterator[tuple[str, Mapping[str, Template]]]:
    package = module.__name__.partition(".")[0]
    for name, value in vars(module).items():
        if name.startswith("_") and name[1:].isupper() and isinstance(value, dict) and value:
            yield f"{package}: {name[1:].lower().replace('_', ' ')}", value


if __name__ == "__main__":
    sys.exit(main())
