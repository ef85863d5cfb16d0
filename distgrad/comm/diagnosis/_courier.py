"""Rows of the board on their way between nodes: a thread in the leader of each node carries them while somebody waits.

A rank that has waited a while writes a wish into its row. The courier of its node sees it, asks those of the other
nodes, and for as long as the wish is renewed every node sends the rows of its ranks that have changed. Nothing travels
while nobody waits. All goes through the hub, the first node's leader, which passes it on.
"""

import os
import select
import struct
import threading
import time
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from .._process import DEAD
from ._links import Link
from ._rows import (
    BELL,
    CONDITION,
    ENTERED,
    GAVE_UP,
    MIRRORED,
    REPORTED,
    ROW,
    SINCE,
    STACKS_WISH,
    STEP,
    WISH,
    Rows,
    State,
)
from ._stacks import ring

IDLE = 0.1  # seconds between two looks for a wish
QUICK, SLOW = 0.05, 0.5  # seconds between two deliveries: a tenth of the wait so far, within these
EACH = 0.5e-3  # seconds more for every rank of the group, so that large groups do not fill the network
FRESH = 1.0  # seconds for which a wish holds
SIGN_OF_LIFE = 0.5  # seconds after which rows that have not changed are sent again
FAREWELL = 0.3  # seconds for the last rows to leave

_ROWS, _WANT, _BYE = 1, 2, 3
_HEAD = struct.Struct("<qI")
_ENTRY = struct.Struct("<Ii")
_NS = 1_000_000_000


class Courier:
    """The thread, and what it knows about the other nodes.

    Args:
        rows: the board of this node.
        links: connections to the other leaders; on the hub one to each, elsewhere one to the hub.
    """

    def __init__(self, rows: Rows, links: Sequence[Link]) -> None:
        self._rows = rows
        self._links = links
        self._sent: dict[int, bytes] = {}
        self._active_until = self._quick_until = self._active_since = 0
        self._wanted = self._delivered = self._sent_all = 0
        self._be_active(time.monotonic_ns(), quick=False)  # the others shall know the processes of this node
        self._wake_end, self._wake = os.pipe()
        self._closing = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="distgrad-courier", daemon=True)
        self._thread.start()

    def push(self) -> None:
        """Send this node's rows now, whether or not anybody waits; called by a rank that ends."""
        with self._lock:
            if not self._closing:
                self._deliver()

    def close(self) -> None:
        """Send the rows once more, say goodbye to the other nodes and end the thread."""
        if self._closing:
            return
        self.push()
        self._closing = True
        with suppress(OSError):
            os.write(self._wake, b"!")
        self._thread.join(2 * FAREWELL)

    # ---- the thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing and not self._is_over():
            with self._lock:
                self._attend(time.monotonic_ns())
                links = [link for link in self._links if link.is_open]
                busy = [link.channel for link in links if link.is_busy]
            sources: list[Any] = [self._wake_end, *(link.channel for link in links)]
            ready, free, _ = select.select(sources, busy, [], self._pause())
            with self._lock:
                for link in links:
                    if link.is_open and link.channel in free:
                        link.flush()
                    if link.is_open and link.channel in ready:
                        self._hear(link)
        with self._lock:
            self._closing = True
            self._say_goodbye()

    def _is_over(self) -> bool:
        """Whether this rank gave up, and nobody wants to hear of it any more."""
        gave_up = self._rows.state(self._rows.rank) in GAVE_UP
        return gave_up and time.monotonic_ns() > self._active_until + 2 * FRESH * _NS

    def _pause(self) -> float:
        now = time.monotonic_ns()
        if now >= self._active_until:
            return IDLE
        if now < self._quick_until:
            return QUICK
        waited = (now - self._active_since) / _NS
        return max(QUICK, min(waited / 10, SLOW)) + EACH * self._rows.size

    def _attend(self, now: int) -> None:
        """Pass on the wishes of this node's ranks, and the rows that somebody waits for."""
        rows = self._rows
        wished = max(rows.get(rank, WISH) for rank in rows.here)
        stacks = max(rows.get(rank, STACKS_WISH) for rank in rows.here)
        if now - wished < FRESH * _NS and (stacks > self._wanted or now - self._wanted > QUICK * _NS):
            ask_stacks = stacks > self._wanted
            self._wanted = now
            self._be_active(now, ask_stacks)
            self._send(_WANT, bytes([ask_stacks]))
        if now < self._active_until and now - self._delivered > 0.9 * QUICK * _NS:
            self._delivered = now
            self._deliver()

    def _be_active(self, now: int, quick: bool) -> None:
        if now >= self._active_until:
            self._active_since = now
        self._active_until = now + round(2 * FRESH * _NS)
        if quick:
            self._quick_until = now + _NS

    def _send(self, kind: int, payload: bytes, but: Link | None = None) -> bool:
        sent = True
        for link in self._links:
            if link is not but and link.is_open:
                sent = link.send(kind, payload) and sent
        return sent

    def _deliver(self) -> None:
        """Send the rows of this node that have changed, and all of them now and then, as a sign of life."""
        now = time.monotonic_ns()
        changed, everything = {}, now - self._sent_all > SIGN_OF_LIFE * _NS
        if everything:
            self._sent_all = now
        for rank in self._rows.here:
            entry = self._pack(rank)
            if everything or entry != self._sent.get(rank):
                changed[rank] = entry
        if changed and self._send(_ROWS, _bundle(changed.values())):
            self._sent.update(changed)

    def _pack(self, rank: int) -> bytes:
        rows = self._rows
        letter = rows.condition(rank)
        shown = letter if letter in (DEAD, "T", "t", "") else "S"  # running and sleeping change all the time
        data = bytes(memoryview(rows.words)[rank * ROW : (rank + 1) * ROW].cast("B"))
        return _ENTRY.pack(rank, ord(shown) if shown else 0) + data

    # ---- what comes from other nodes ---------------------------------------------------------------------------

    def _hear(self, link: Link) -> None:
        for kind, payload in link.receive():
            if kind == _BYE:
                link.close()
                return
            if kind == _WANT:
                self._be_active(time.monotonic_ns(), bool(payload[0]))
                self._send(_WANT, payload, but=link)
                if payload[0]:
                    self._ring()
            elif kind == _ROWS:
                self._take(payload)
                if len(self._links) > 1:
                    self._pass_on(payload, link)
        if not link.is_open:
            self._lose(link)

    def _ring(self) -> None:
        rows = self._rows
        for rank in rows.here:
            if rows.state(rank) == State.RUNNING and rows.get(rank, BELL):
                ring(rows.process(rank), rows.get(rank, BELL) - 1)

    def _take(self, payload: bytes) -> None:
        """Write the rows of other nodes on this one's board."""
        sent, entries = _unbundle(payload)
        now = time.monotonic_ns()
        for rank, letter, data in entries:
            if rank in self._rows.here or rank >= self._rows.size:
                continue
            row = memoryview(bytearray(data)).cast("q")
            for place in (ENTERED, SINCE):
                row[place] += now - sent if row[place] else 0
            start = rank * ROW
            words = self._rows.words
            row[CONDITION], row[MIRRORED] = letter, now
            row[WISH] = row[STACKS_WISH] = 0
            row[REPORTED] = max(row[REPORTED], words[start + REPORTED])
            words[start + 1 : start + ROW] = row[1:]
            words[start + STEP] = row[STEP]  # last: it says that the rest is there

    def _pass_on(self, payload: bytes, source: Link) -> None:
        """Let the other nodes have what one of them sent, in this node's time."""
        _, entries = _unbundle(payload)
        packed = []
        for rank, letter, _ in entries:
            data = bytes(memoryview(self._rows.words)[rank * ROW : (rank + 1) * ROW].cast("B"))
            packed.append(_ENTRY.pack(rank, letter) + data)
        self._send(_ROWS, _bundle(packed), but=source)

    def _lose(self, link: Link) -> None:
        """The other end is gone without a goodbye: its ranks count as dead."""
        rows = self._rows
        for rank in link.ranks:
            if rows.state(rank) != State.FINISHED:
                rows.words[rank * ROW + CONDITION] = ord(DEAD)
                rows.words[rank * ROW + MIRRORED] = time.monotonic_ns()
        packed = []
        for rank in link.ranks:
            data = bytes(memoryview(rows.words)[rank * ROW : (rank + 1) * ROW].cast("B"))
            packed.append(_ENTRY.pack(rank, rows.get(rank, CONDITION)) + data)
        self._send(_ROWS, _bundle(packed), but=link)

    def _say_goodbye(self) -> None:
        self._send(_BYE, b"")
        deadline = time.monotonic() + FAREWELL
        while any(link.is_busy for link in self._links) and time.monotonic() < deadline:
            for link in self._links:
                link.flush()
            time.sleep(1e-3)
        for link in self._links:
            link.close()
        os.close(self._wake)
        os.close(self._wake_end)


def _bundle(entries: Iterable[bytes]) -> bytes:
    listed = list(entries)
    return zlib.compress(_HEAD.pack(time.monotonic_ns(), len(listed)) + b"".join(listed), 1)


def _unbundle(payload: bytes) -> tuple[int, list[tuple[int, int, bytes]]]:
    data = zlib.decompress(payload)
    sent, count = _HEAD.unpack_from(data)
    size = _ENTRY.size + ROW * 8
    found = []
    for index in range(count):
        start = _HEAD.size + index * size
        rank, letter = _ENTRY.unpack_from(data, start)
        found.append((rank, letter, data[start + _ENTRY.size : start + size]))
    return sent, found
