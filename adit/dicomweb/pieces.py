"""Cut what is larger than memory should hold at once into pieces."""

from collections.abc import Iterable, Iterator

from adit_engine.elements import Buffer

PIECE_BYTES = 1024 * 1024


def cut(buffers: Iterable[Buffer], size: int = PIECE_BYTES) -> Iterator[bytes]:
    """Yield the buffers in pieces of `size` bytes, and the rest; each byte is copied once."""
    held: list[memoryview] = []
    room = size
    for buffer in buffers:
        view = memoryview(buffer)
        while len(view) >= room:
            held.append(view[:room])
            view = view[room:]
            yield b"".join(held)
            held.clear()
            room = size
        if view:
            held.append(view)
            room -= len(view)
    if held:
        yield b"".join(held)
