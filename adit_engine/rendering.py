"""Render frames for display to people who review images.

The rendered pixels are never transferred; transferred images keep their own pixels.
"""

from adit_engine.errors import InstanceWithheld, InvalidInput
from adit_engine.pseudonymize.frame_rendering import (
    WINDOW_FUNCTIONS,
    RenderableImage,
    RenderedFrame,
    Window,
    cannot_render,
)
from adit_engine.values.instance import Instance

__all__ = ["WINDOW_FUNCTIONS", "RenderedFrame", "Window", "count_frames", "render_frame"]


def count_frames(instance: Instance) -> int:
    """Return the number of frames; 0 if nothing can be rendered."""
    try:
        return RenderableImage(instance).form.frames
    except InvalidInput:
        return 0


def render_frame(
    instance: Instance, frame: int = 0, *, whole_range: bool = False, window: Window | None = None
) -> RenderedFrame:
    """Render one frame with the image's window, from its minimum to its maximum, or with `window`.

    Colors have no window. Raises InvalidInput for what cannot be rendered.
    """
    image = RenderableImage(instance)
    if not 0 <= frame < image.form.frames:
        raise InvalidInput("rendering.frame", frames=image.form.frames)
    try:
        return image.render(frame, whole_range, window)
    except (InstanceWithheld, ValueError, IndexError):
        raise cannot_render() from None
