"""Message buffers are reused, but never while an image still refers to them."""

from adit_engine.dicom_ul.message_buffer import BufferPool, MessageBuffer


def came(stock: BufferPool, data: bytes) -> memoryview:
    body = MessageBuffer(None, stock)
    for start in range(0, len(data), 100):
        body.add(memoryview(data[start : start + 100]))
    whole = body.get_content()
    assert isinstance(whole, memoryview)
    return whole


def test_an_image_stays_unchanged_while_others_are_received() -> None:
    stock = BufferPool()

    images = [came(stock, bytes([number]) * 1000) for number in range(20)]

    assert [bytes(image) for image in images] == [bytes([number]) * 1000 for number in range(20)]


def test_a_slice_of_an_image_keeps_its_buffer_in_use() -> None:
    stock = BufferPool()
    piece = came(stock, b"a" * 1000)[900:]

    came(stock, b"b" * 1000)

    assert bytes(piece) == b"a" * 100


def test_the_buffer_of_a_released_image_is_reused() -> None:
    stock = BufferPool()
    first = came(stock, b"a" * 1000)
    memory = first.obj
    del first

    second = came(stock, b"b" * 1000)

    assert second.obj is memory


def test_a_retained_image_does_not_prevent_reuse_of_other_buffers() -> None:
    stock = BufferPool()
    kept = came(stock, b"a" * 1000)
    blocks = {id(came(stock, bytes([number]) * 1000).obj) for number in range(100)}

    assert len(blocks) <= 2
    assert bytes(kept) == b"a" * 1000


def test_a_reused_buffer_contains_no_bytes_of_an_earlier_image() -> None:
    stock = BufferPool()

    sizes = [1000, 10, 3000, 999, 0, 1001]

    for size in sizes:
        data = bytes(range(256)) * 12
        assert bytes(came(stock, data[:size])) == data[:size]
