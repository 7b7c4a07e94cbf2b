"""Log lines: those of one round of the loop come out in one piece, and none is lost or late for it."""

import asyncio
import io

import pytest

from hub.logs import Lines


class Pieces(io.StringIO):
    """Remembers each writing."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return len(text)


@pytest.fixture
def file() -> Pieces:
    return Pieces()


def test_without_a_loop_each_line_is_written_at_once(file: Pieces) -> None:
    lines = Lines(file)()
    lines.info("one")
    lines.debug("two")
    assert file.pieces == ["one\n", "two\n"]


def test_a_round_of_the_loop_is_written_in_one_piece(file: Pieces) -> None:
    lines = Lines(file)

    async def say() -> list[str]:
        lines.info("one")
        lines.info("two")
        before = list(file.pieces)
        await asyncio.sleep(0)
        return before

    for number in (1, 2):
        # In a second loop too, though the first had lines that it was not there any more to write.
        assert asyncio.run(say()) == ["one\ntwo\n"] * (number - 1)
        assert file.pieces == ["one\ntwo\n"] * number


def test_a_warning_is_written_at_once_after_what_was_said_before(file: Pieces) -> None:
    lines = Lines(file)

    async def say() -> list[str]:
        lines.info("before")
        lines.warning("trouble")
        lines.info("after")
        return list(file.pieces)

    assert asyncio.run(say()) == ["before\ntrouble\n"]


def test_what_a_loop_left_behind_comes_with_the_next_line(file: Pieces) -> None:
    lines = Lines(file)
    loop = asyncio.new_event_loop()

    async def say() -> None:
        lines.info("the last")

    loop.run_until_complete(say())
    loop.close()

    async def say_more() -> None:
        lines.info("more")
        await asyncio.sleep(0)

    asyncio.run(say_more())
    assert "".join(file.pieces) == "the last\nmore\n"
