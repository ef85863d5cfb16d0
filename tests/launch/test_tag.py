"""Lines of output with a tag."""

import io

import pytest

from distgrad.launch._tag import TaggedStream


@pytest.mark.parametrize(
    ("writes", "shown"),
    [
        (["one\n"], "[2] one\n"),
        (["one", " two", "\n"], "[2] one two\n"),
        (["one\ntwo\nthr"], "[2] one\n[2] two\n"),
        (["\n", "\n"], "[2] \n[2] \n"),
        ([""], ""),
    ],
)
def test_whole_lines_are_tagged(writes: list[str], shown: str) -> None:
    screen = io.StringIO()
    stream = TaggedStream(screen, "[2] ")
    for text in writes:
        assert stream.write(text) == len(text)
    assert screen.getvalue() == shown


def test_flush_shows_the_beginning_of_a_line_and_tags_it_once() -> None:
    screen = io.StringIO()
    stream = TaggedStream(screen, "[2] ")
    for text in ("\r10%", "\r20%"):
        stream.write(text)
        stream.flush()
    stream.write(" done\nnext\n")
    assert screen.getvalue() == "[2] \r10%\r20% done\n[2] next\n"
