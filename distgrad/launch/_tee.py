"""Copies what a rank prints to the screen and to a file: a process of its own, so that a crash loses nothing.

Run as `python -I -S _tee.py FILE D`: the rank's output comes as descriptor 0, its errors as D; 1 and 2 are the screen.
It ends when nobody can write to it any more.
"""

import os
import selectors
import sys


def main(path: str, errors: int) -> None:
    """Copy until both inputs have ended."""
    screens = {0: 1, errors: 2}
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    with selectors.DefaultSelector() as inputs:
        for descriptor in screens:
            inputs.register(descriptor, selectors.EVENT_READ)
        while inputs.get_map():
            for key, _ in inputs.select():
                data = os.read(key.fd, 1 << 16)
                if not data:
                    inputs.unregister(key.fd)
                write(screens[key.fd], data)  # first: a rank that ends waits until its words are on the screen
                write(log, data)


def write(descriptor: int, data: bytes) -> None:
    """Write all of it; a screen that is gone does not stop the log."""
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        pass


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
