"""Sample sheets for first steps, if the installation has any, as the demo does.

Used by the home page.
"""

from pathlib import Path

from django.conf import settings
from django.http import FileResponse, Http404, HttpRequest
from django.views.decorators.http import require_safe


def list_names() -> list[str]:
    return sorted(path.name for path in _list_files())


@require_safe
def download_sample(request: HttpRequest, name: str) -> FileResponse:
    for path in _list_files():
        if path.name == name:
            return FileResponse(path.open("rb"), as_attachment=True, filename=name)
    raise Http404


def _list_files() -> list[Path]:
    folder: Path = settings.SAMPLES_DIR
    return [path for path in folder.glob("*.xlsx") if path.is_file()] if folder.is_dir() else []
