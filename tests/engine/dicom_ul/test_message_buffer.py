"""The memory in which images come serves again, and never while anybody still looks at it."""

from adit_engine.dicom_ul.message_buffer import BufferPool, MessageBuffer


def came(stock: BufferPool, data: bytes) -> memoryview:
    body = MessageBuffer(None, stock)
    for start in range(0, len(data), 100):
        body.add(memoryview(data[start : start + 100]))
    whole = body.get_content()
    assert isinstance(whole, memoryview)
    return whole


def test_an_image_stays_as_it_came_while_others_come() -> None:
    stock = BufferPool()

    images = [came(stock, bytes([number]) * 1000) for number in range(20)]

    assert [bytes(image) for image in images] == [bytes([number]) * 1000 for number in range(20)]


def test_a_piece_of_an_image_holds_the_whole_of_its_memory() -> None:
    stock = BufferPool()
    piece = came(stock, b"a" * 1000)[900:]

    came(stock, b"b" * 1000)

    assert bytes(piece) == b"a" * 100


def test_the_memory_of_an_image_that_went_serves_the_next() -> None:
    stock = BufferPool()
    first = came(stock, b"a" * 1000)
    memory = first.obj
    del first

    second = came(stock, b"b" * 1000)

    assert second.obj is memory


def test_one_image_that_is_kept_does_not_keep_the_memory_of_the_others() -> None:
    stock = BufferPool()
    kept = came(stock, b"a" * 1000)
    blocks = {id(came(stock, bytes([number]) * 1000).obj) for number in range(100)}

    assert len(blocks) <= 2
    assert bytes(kept) == b"a" * 1000


def test_an_image_of_another_size_leaves_nothing_of_the_one_before() -> None:
    stock = BufferPool()

    sizes = [1000, 10, 3000, 999, 0, 1001]

    for size in sizes:
        data = bytes(range(256)) * 12
        assert bytes(came(stock, data[:size])) == data[:size]
