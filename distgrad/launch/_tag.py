"""Output of several ranks on one screen, told apart."""

import io
from typing import TextIO


class TaggedStream(io.TextIOBase):
    """A text stream that begins each line with a tag, and hands on whole lines so that ranks do not cut each other's.

    Args:
        stream: where the text goes.
        tag: what each line begins with.
    """

    def __init__(self, stream: TextIO, tag: str) -> None:
        self._stream = stream
        self._tag = tag
        self._pending = ""  # the beginning of a line that has no end yet
        self._at_start = True  # whether the stream underneath is at the start of a line

    def write(self, text: str) -> int:
        """Write the lines that are complete; the rest waits for its end or for `flush`."""
        lines, end, self._pending = (self._pending + text).rpartition("\n")
        if end:
            self._emit(lines + end)
        return len(text)

    def flush(self) -> None:
        """Write what is there, complete or not (a progress bar never ends its line)."""
        if self._pending:
            self._emit(self._pending)
            self._pending = ""
        self._stream.flush()

    def _emit(self, text: str) -> None:
        tagged = text.replace("\n", f"\n{self._tag}").removesuffix(self._tag) if text.endswith("\n") else text
        self._stream.write((self._tag if self._at_start else "") + tagged)
        self._stream.flush()
        self._at_start = text.endswith("\n")

    def isatty(self) -> bool:
        """Whether the stream underneath is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The file descriptor underneath."""
        return self._stream.fileno()
