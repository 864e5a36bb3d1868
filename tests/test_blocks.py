"""Blocks are used again only when nobody looks into them; joined bytes are the bytes, wherever they lie."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataflow.blocks import Blocks, joined

NOTHING = np.empty(0, np.uint8)


def test_a_block_is_used_again_when_its_last_view_is_gone() -> None:
    blocks = Blocks(100, 10)
    first = blocks.take()
    view = first[20:30]
    number = id(first)
    del first
    other = blocks.take()
    assert id(other) != number
    del view, other
    assert id(blocks.take()) == number


def test_a_rest_goes_before_a_blocks_first_bytes() -> None:
    blocks = Blocks(100, 10)
    block = blocks.take()
    block[10:20] = 7
    rest = np.full(4, 3, np.uint8)
    whole = joined(rest, [block[10:15], block[15:20]], 10)
    assert whole.base is block
    assert whole.tolist() == [3] * 4 + [7] * 10
    # Not in the middle of a block, where something else lies before it, and not if it is too long.
    assert joined(rest, [block[12:20]], 10).base is not block
    assert joined(np.full(11, 3, np.uint8), [block[10:20]], 10).tolist() == [3] * 11 + [7] * 10


@given(st.binary(min_size=1, max_size=300), st.lists(st.integers(1, 40), min_size=1, max_size=30), st.randoms())
def test_bytes_through_blocks_are_the_same_bytes(data: bytes, sizes: list[int], random: object) -> None:
    """As the reader fills blocks and the framer keeps rests, with blocks so small that every case comes up."""
    blocks = Blocks(64, 16)
    block, at, done, rest, seen = blocks.take(), 16, 0, NOTHING, b""
    held = []
    while done < len(data):
        chunks = []
        for size in sizes:
            part = np.frombuffer(data[done : done + size], np.uint8)
            if len(block) - at < len(part):
                if chunks:
                    break
                del block
                block, at = blocks.take(), 16
            block[at : at + len(part)] = part
            chunks.append(block[at : at + len(part)])
            at, done = at + len(part), done + len(part)
        buffer = joined(rest, chunks, 16)
        keep = random.randrange(len(buffer) + 1)  # type: ignore[attr-defined]
        seen += buffer[: len(buffer) - keep].tobytes()
        held.append((buffer[: len(buffer) - keep], buffer[: len(buffer) - keep].tobytes()))
        rest = buffer[len(buffer) - keep :]
        assert all(view.tobytes() == then for view, then in held), "what is looked at doesn't change"
    assert seen + rest.tobytes() == data
