"""The TABLE_MAP bodies that a stream has shown so far, numbered, in the form in which the kernels look them up.

A definition is a TABLE_MAP's body behind the table id: the id changes whenever the server opens the table again, the rest
only with the table. Equal bytes have the same number for as long as this object lives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from dataflow.kernels.transactions import hash_bytes

TABLE_ID_BYTES = 6


class TableMaps:
    """slots, arena and spans are what `dataflow.kernels.transactions.find_definition` takes; `add` may replace them."""

    def __init__(self) -> None:
        self.slots = np.zeros(1024, np.int64)
        self.arena = np.zeros(1 << 16, np.uint8)
        self.spans = np.zeros((256, 2), np.int64)
        self._count = self._used = 0

    def add(self, definition: np.ndarray) -> int:
        """Take in a definition that isn't there yet; gives its number."""
        length = len(definition)
        while self._used + length > len(self.arena):
            self.arena = np.concatenate((self.arena, np.zeros_like(self.arena)))
        if self._count == len(self.spans):
            self.spans = np.concatenate((self.spans, np.zeros_like(self.spans)))
        number, start = self._count, self._used
        self.arena[start : start + length] = definition
        self.spans[number] = start, start + length
        self._count, self._used = number + 1, start + length
        if 2 * self._count > len(self.slots):
            self.slots = np.zeros(2 * len(self.slots), np.int64)
            for each in range(self._count):
                self._enter(each)
        else:
            self._enter(number)
        return number

    def bodies(self, numbers: Iterable[int]) -> Mapping[int, bytes]:
        """TABLE_MAP bodies by number, with a table id of 0."""
        return {n: bytes(TABLE_ID_BYTES) + self.arena[slice(*self.spans[n])].tobytes() for n in numbers}

    def _enter(self, number: int) -> None:
        start, end = self.spans[number]
        slot = hash_bytes(self.arena, start, end) & (len(self.slots) - 1)
        while self.slots[slot]:
            slot = (slot + 1) & (len(self.slots) - 1)
        self.slots[slot] = number + 1
