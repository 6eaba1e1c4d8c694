"""Download the style sheet, script and icons of the pages, and keep only what is needed.

Run it with `make vendor`; it downloads three packages from npm. Nothing else needs npm or the
network: the files written below adit/static/vendor are part of the repository.
"""

import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

VENDOR = Path(__file__).resolve().parent.parent / "adit" / "static" / "vendor"

TABLER = "@tabler/core@1.6.1"
HTMX = "htmx.org@4.0.1"
ICONS = "@tabler/icons@3.51.0"

ICONS_USED = """
    adjustments alert-circle alert-triangle archive arrow-left arrow-right arrow-up-right ban
    book bulb calendar check chevron-down chevron-left chevron-right chevron-up circle-check
    circle-dashed circle-x clock database device-desktop door-exit download edit external-link
    eye eye-off file-text filter flag folder help-circle history home hourglass info-circle
    key link list-check lock login logout mail moon player-pause player-play player-stop plug
    plug-connected plus printer refresh report-medical search send server settings shield-check
    shield-lock stack-2 sun table tags trash upload user user-circle users x
"""

MIT = """\
Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def fetch(package: str, into: Path) -> Mapping[str, bytes]:
    """Return the files of one npm package by their path inside it."""
    said = subprocess.run(
        ["npm", "pack", package, "--json", "--silent"],
        cwd=into,
        check=True,
        capture_output=True,
        timeout=300,
    )
    archive = into / json.loads(said.stdout)[0]["filename"]
    files = {}
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as tar:
        for member in tar.getmembers():
            opened = tar.extractfile(member)
            if opened is not None:
                files[member.name.removeprefix("package/")] = opened.read()
    return files


def without_map(css: str) -> str:
    """Remove the source map comment: ManifestStaticFilesStorage refuses missing maps."""
    return re.sub(r"\s*/\*# sourceMappingURL=.*?\*/\s*$", "\n", css)


def blocks(css: str) -> Iterator[tuple[str, str]]:
    """Yield (prelude, body) of each top-level block, in order."""
    start = depth = 0
    opened_at = 0
    for at, char in enumerate(css):
        if char == "{":
            depth += 1
            if depth == 1:
                opened_at = at
        elif char == "}":
            depth -= 1
            if depth == 0:
                yield css[start:opened_at].split(";")[-1].strip(), css[opened_at + 1 : at]
                start = at + 1


def follow_system(css: str) -> str:
    """Return the dark rules for pages that leave the choice to the system.

    Tabler knows data-bs-theme light and dark. ADIT's third value, auto, must work without any
    script, so each dark rule is repeated for it in a media query.
    """
    rules = []
    for prelude, body in blocks(css):
        if prelude.startswith("@media"):
            inner = follow_system(body)
            if inner:
                rules.append(f"{prelude}{{{inner}}}")
        elif not prelude.startswith("@"):
            dark = [
                selector.strip().replace("[data-bs-theme=dark]", "[data-bs-theme=auto]")
                for selector in re.split(r",(?![^(]*\))", prelude)
                if re.match(r"(:root)?\[data-bs-theme=dark\]", selector.strip())
            ]
            if dark:
                rules.append(f"{','.join(dark)}{{{body}}}")
    return "\n".join(rules)


def sprite(files: Mapping[str, bytes]) -> str:
    """Return one SVG file that contains each icon as a symbol with its name."""
    symbols = []
    for name in sorted(ICONS_USED.split()):
        svg = files[f"icons/outline/{name}.svg"].decode()
        inner = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
        inner = re.sub(r"\s+", " ", inner).strip()
        symbols.append(f'<symbol id="{name}" viewBox="0 0 24 24">{inner}</symbol>')
    return '<svg xmlns="http://www.w3.org/2000/svg">\n' + "\n".join(symbols) + "\n</svg>\n"


def write(folder: str, files: Mapping[str, str]) -> None:
    target = VENDOR / folder
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name, text in files.items():
        (target / name).write_text(text, encoding="utf-8")


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        tabler = fetch(TABLER, Path(temporary))
        htmx = fetch(HTMX, Path(temporary))
        icons = fetch(ICONS, Path(temporary))
    css = without_map(tabler["dist/css/tabler.min.css"].decode())
    auto = follow_system(re.sub(r"/\*.*?\*/", "", css, flags=re.S))
    head = f"/* Made by scripts/vendor_assets.py from {TABLER}: its dark rules, MIT licence. */\n"
    notice = "MIT License\n\nCopyright (c) 2018-2026 The Tabler Authors\n\n" + MIT
    write(
        "tabler",
        {
            "tabler.min.css": css,
            "tabler.auto.css": f"{head}@media (prefers-color-scheme: dark){{\n{auto}\n}}\n",
            "LICENSE": notice,
        },
    )
    script = re.sub(r"\s*//# sourceMappingURL=.*$", "\n", htmx["dist/htmx.min.js"].decode())
    write("htmx", {"htmx.min.js": script, "LICENSE": htmx["LICENSE"].decode()})
    write("icons", {"icons.svg": sprite(icons), "LICENSE": icons["LICENSE"].decode()})
    versions = f"{TABLER}  MIT\n{HTMX}  0BSD\n{ICONS}  MIT\n"
    (VENDOR / "VERSIONS").write_text(versions, encoding="utf-8")


if __name__ == "__main__":
    main()
