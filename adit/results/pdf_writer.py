"""Headings and tables in a PDF file. Used by the files for data protection and by job reports."""

from collections.abc import Iterable, Sequence
from importlib.resources import as_file, files

from django.utils.translation import gettext as _
from fpdf import FPDF, FontFace
from fpdf.fonts import TTFFont

from adit.table_files import Cell

MAX_PDF_ROWS = 500
"""Rows of one table."""
_FONT = "Noto Sans"
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"


class PdfWriter:
    """Lays out a file. Characters that the font lacks are marked, and a note says so."""

    def __init__(self) -> None:
        self.pdf = FPDF(orientation="landscape")
        font = files("fontpkg_noto_sans").joinpath("files/NotoSans[wdth,wght].ttf")
        with as_file(font) as path:
            self.pdf.add_font(_FONT, "", path)
        self.pdf.set_font(_FONT, size=8)
        self.has_unknown = False
        self.cut_note = _("Only the first %d rows are shown. The Excel file lists all of them.")
        self.unknown_note = _(
            "%s stands for a character that this file cannot show. See the Excel file."
        )

    def finish(self) -> bytes:
        """Return the file, with the note if a character could not be shown."""
        if self.has_unknown:
            self.pdf.multi_cell(0, text=self.unknown_note % _UNKNOWN)
        return bytes(self.pdf.output())

    def add_heading(self, text: str, size: int) -> None:
        self.pdf.ln(3)
        self.pdf.set_font(_FONT, size=size)
        self.pdf.multi_cell(0, text=self.clean(text), new_x="LMARGIN", new_y="NEXT")
        self.pdf.ln(1)
        self.pdf.set_font(_FONT, size=8)

    def add_table(
        self, columns: Sequence[str], rows: Iterable[Sequence[Cell]], widths: tuple[int, ...]
    ) -> None:
        shown: list[list[str]] = []
        is_cut = False
        for row in rows:
            if len(shown) == MAX_PDF_ROWS:
                is_cut = True
                break
            shown.append([self.clean(str(value)) for value in row])
        if not shown:
            self.pdf.multi_cell(0, text=_("none"), new_x="LMARGIN", new_y="NEXT")
            return
        with self.pdf.table(
            col_widths=widths,
            text_align="LEFT",
            first_row_as_headings=bool(columns),
            headings_style=FontFace(fill_color=230),
            num_heading_rows=1 if columns else 0,
        ) as table:
            for values in ([list(columns)] if columns else []) + shown:
                table.row(values)
        if is_cut:
            note = self.cut_note % MAX_PDF_ROWS
            self.pdf.multi_cell(0, text=note, new_x="LMARGIN", new_y="NEXT")

    def clean(self, text: str) -> str:
        font = self.pdf.current_font
        assert isinstance(font, TTFFont)
        shown = "".join(char if ord(char) in font.cmap else _UNKNOWN for char in text)
        self.has_unknown |= shown != text
        return shown
