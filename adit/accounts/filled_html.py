"""Fill in the values of a form in a rendered page. Used by the middleware."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

Attributes = dict[str, str | None]

_NOT_FILLED = frozenset({"hidden", "password", "file", "submit", "button", "image", "reset"})
_TICKED = frozenset({"checkbox", "radio"})


@dataclass(slots=True)
class _Part:
    """A piece of the page: a start tag, or anything else. `form` is the number of its form."""

    text: str
    tag: str = ""
    attributes: Attributes | None = None
    form: int = 0


def fill_form(
    html: str, path: str, action: str, values: Mapping[str, list[str]]
) -> tuple[str, bool]:
    """Return the page with the values in the form that is sent to `action`.

    Also return whether all values that a user can have entered were filled in. `path` is the
    address of the page.
    """
    splitter = _Splitter(path, action)
    splitter.feed(html)
    splitter.close()
    number = splitter.best_form(values)
    if not number:
        return html, False
    filler = _Filler(values)
    text = "".join(
        filler.fill(part) if part.form == number else part.text for part in splitter.parts
    )
    return text, not filler.left


class _Splitter(HTMLParser):
    """Split a page into its start tags and the text between them, without changing any of it."""

    def __init__(self, path: str, action: str) -> None:
        super().__init__(convert_charrefs=False)
        self.parts: list[_Part] = []
        self._path, self._action = path, action
        self._form = self._forms = 0
        self._names: dict[int, set[str]] = {}

    def best_form(self, values: Mapping[str, list[str]]) -> int:
        """Return the number of the form with most of the values; 0 if there is none."""
        shared = {number: len(names & set(values)) for number, names in self._names.items()}
        return max(shared, key=lambda number: shared[number], default=0)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "form":
            self._forms += 1
            self._form = self._forms if self._is_wanted(attributes) else 0
            if self._form:
                self._names[self._form] = set()
        elif self._form and (name := attributes.get("name")):
            self._names[self._form].add(name)
        text = self.get_starttag_text() or ""
        self.parts.append(_Part(text, tag, attributes, self._form))

    def _is_wanted(self, attributes: Attributes) -> bool:
        address = urljoin(self._path, attributes.get("action") or self._path)
        is_post = (attributes.get("method") or "").lower() == "post"
        return is_post and urlsplit(address).path == self._action

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        self._add(f"</{tag}>", tag=f"/{tag}")
        if tag == "form":
            self._form = 0

    def handle_data(self, data: str) -> None:
        self._add(data)

    def handle_entityref(self, name: str) -> None:
        self._add(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self._add(f"&#{name};")

    def handle_comment(self, data: str) -> None:
        self._add(f"<!--{data}-->")

    def handle_decl(self, decl: str) -> None:
        self._add(f"<!{decl}>")

    def _add(self, text: str, tag: str = "") -> None:
        self.parts.append(_Part(text, tag, None, self._form))


class _Filler:
    """Put values into the fields of one form. `left` are the values that had no field."""

    def __init__(self, values: Mapping[str, list[str]]) -> None:
        self.left = {name: list(texts) for name, texts in values.items() if any(texts)}
        self._values = {name: list(texts) for name, texts in values.items()}
        self._select: str | None = None
        self._is_in_textarea = False

    def fill(self, part: _Part) -> str:
        if part.tag in ("/select", "/textarea"):
            self._select, self._is_in_textarea = None, False
        if part.attributes is None:
            return "" if self._is_in_textarea else part.text
        name = part.attributes.get("name") or ""
        if part.tag == "input":
            return self._fill_input(part, name)
        if part.tag == "button":
            self.left.pop(name, None)
        elif part.tag == "textarea" and name in self._values:
            self._is_in_textarea = True
            return f"{part.text}\n{escape(self._take(name), quote=False)}"
        elif part.tag == "select" and name in self._values:
            self._select = name
        elif part.tag == "option" and self._select is not None:
            return self._fill_option(part, self._select)
        return part.text

    def _fill_input(self, part: _Part, name: str) -> str:
        attributes = dict(part.attributes or {})
        kind = (attributes.get("type") or "text").lower()
        if kind in _TICKED and name:
            chosen = (attributes.get("value") or "on") in self._values.get(name, ())
            attributes.pop("checked", None)
            if chosen:
                attributes["checked"] = None
                self._note(name, attributes.get("value") or "on")
        elif name in self._values and kind not in _NOT_FILLED:
            attributes["value"] = self._take(name)
        else:
            if kind in _NOT_FILLED:
                self.left.pop(name, None)
            return part.text
        return _format_tag(part.tag, attributes)

    def _fill_option(self, part: _Part, name: str) -> str:
        attributes = dict(part.attributes or {})
        attributes.pop("selected", None)
        value = attributes.get("value") or ""
        if value in self._values[name]:
            attributes["selected"] = None
            self._note(name, value)
        return _format_tag(part.tag, attributes)

    def _take(self, name: str) -> str:
        """Return the next value of this name: several fields may share it."""
        values = self._values[name]
        text = values.pop(0) if values else ""
        self._note(name, text)
        return text

    def _note(self, name: str, text: str) -> None:
        left = self.left.get(name, [])
        if text in left:
            left.remove(text)
        if not any(left):
            self.left.pop(name, None)


def _format_tag(tag: str, attributes: Attributes) -> str:
    words = [
        name if value is None else f'{name}="{escape(value)}"' for name, value in attributes.items()
    ]
    return f"<{' '.join([tag, *words])}>"
