"""TCP connections between the leaders of nodes: a star around that of the first node, the hub.

The hub listens while the connections are made, on a port that it tells the others over MPI together with a secret; each
side shows that it knows the secret, so a stranger who connects, or whom we reach by mistake, is left alone.
"""

import fcntl
import hashlib
import hmac
import secrets
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

CONNECT_TIME = 2.0  # seconds for each address that is tried
ACCEPT_TIME = 5.0  # seconds for the last of the others to come

Exchange: TypeAlias = Callable[[Any], list[Any]]

_SIOCGIFADDR = 0x8915  # from <linux/sockios.h>
_MAX_QUEUED = 1 << 20  # bytes; a peer that reads nothing, because it is stopped perhaps, gets no more than that
_HEADER = struct.Struct("<IB")


class Invitation(NamedTuple):
    """How to reach the hub."""

    addresses: list[str]
    port: int
    secret: bytes
    machine: str


class Link:
    """A connection to another leader, on which frames travel: a kind and some bytes.

    Args:
        channel: the connected socket.
        ranks: the ranks that are lost with it.
    """

    def __init__(self, channel: socket.socket, ranks: Sequence[int]) -> None:
        channel.setblocking(False)
        with suppress(OSError):  # find out within half a minute that the other machine is gone
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if sys.platform == "linux":
                channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
                channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
                channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
            channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.channel = channel
        self.ranks = ranks
        self.is_open = True
        self._in = bytearray()
        self._out = bytearray()

    @property
    def is_busy(self) -> bool:
        """Whether something has still to be sent."""
        return bool(self._out)

    def send(self, kind: int, payload: bytes = b"") -> bool:
        """Send a frame, now or as soon as the peer reads; False where it has not read for long."""
        if len(self._out) > _MAX_QUEUED or not self.is_open:
            return False
        self._out += _HEADER.pack(len(payload), kind) + payload
        self.flush()
        return True

    def flush(self) -> None:
        """Send what the peer will take."""
        try:
            while self._out:
                del self._out[: self.channel.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def receive(self) -> list[tuple[int, bytes]]:
        """The frames that have come; the link is closed afterwards if the other end is."""
        try:
            while data := self.channel.recv(1 << 16):
                self._in += data
            self.close()
        except BlockingIOError:
            pass
        except OSError:
            self.close()
        return list(self._frames())

    def _frames(self) -> Sequence[tuple[int, bytes]]:
        found = []
        while len(self._in) >= _HEADER.size:
            length, kind = _HEADER.unpack_from(self._in)
            end = _HEADER.size + length
            if len(self._in) < end:
                break
            found.append((kind, bytes(self._in[_HEADER.size : end])))
            del self._in[:end]
        return found

    def close(self) -> None:
        """End the connection."""
        self.is_open = False
        self._out.clear()
        self.channel.close()


def connect(exchange: Exchange, nodes: Sequence[Sequence[int]], node: int, machine: str) -> list[Link]:
    """Connect the leaders of all nodes. A collective call of them.

    Args:
        exchange: tells every leader what each passes, in the order of the nodes.
        nodes: the ranks of each node.
        node: this leader's.
        machine: equal where loopback may work.

    Returns:
        On the hub a link to every other node, on the others one to the hub.

    Raises:
        OSError: on all leaders, with the reasons, where some cannot connect.
    """
    if node == 0:
        return _gather_links(exchange, nodes, machine)
    invitation: Invitation = exchange(None)[0]
    link, problem = None, ""
    try:
        link = Link(_reach(invitation, node, machine), nodes[0])
    except OSError as error:
        problem = f"node {node}: {error}"
    problems = [entry for entry in exchange(problem) if entry]
    if problems:
        if link is not None:
            link.close()
        raise OSError("; ".join(problems))
    assert link is not None
    return [link]


def _gather_links(exchange: Exchange, nodes: Sequence[Sequence[int]], machine: str) -> list[Link]:
    secret = secrets.token_bytes(16)
    found: dict[int, Link] = {}
    with socket.create_server(("", 0), backlog=len(nodes)) as server:
        server.settimeout(0.1)
        exchange(Invitation(_addresses(), server.getsockname()[1], secret, machine))
        done = threading.Event()
        usher = threading.Thread(target=_welcome, args=(server, secret, nodes, found, done), daemon=True)
        usher.start()
        problems = [entry for entry in exchange("") if entry]
        deadline = time.monotonic() + ACCEPT_TIME
        while not problems and len(found) < len(nodes) - 1 and time.monotonic() < deadline:
            time.sleep(1e-3)
        done.set()
        usher.join()
    if problems or len(found) < len(nodes) - 1:
        for link in found.values():
            link.close()
        raise OSError("; ".join(problems) or "not all nodes came")
    return [found[node] for node in sorted(found)]


def _welcome(
    server: socket.socket,
    secret: bytes,
    nodes: Sequence[Sequence[int]],
    found: dict[int, Link],
    done: threading.Event,
) -> None:
    """Accept the leaders of the other nodes, until all are there or nobody waits for them any more."""
    while len(found) < len(nodes) - 1 and not done.is_set():
        with suppress(OSError):
            channel, _ = server.accept()
            channel.settimeout(CONNECT_TIME)
            try:
                node = struct.unpack("<I", _read(channel, 4))[0]
                if not hmac.compare_digest(_read(channel, 32), _proof(secret, f"node {node}")) or node >= len(nodes):
                    raise OSError("a stranger")
                channel.sendall(_proof(secret, "hub"))
            except OSError:
                channel.close()
            else:
                found[node] = Link(channel, nodes[node])


def _reach(invitation: Invitation, node: int, machine: str) -> socket.socket:
    """A socket that is connected to the hub."""
    local = ["127.0.0.1"] if machine == invitation.machine else []
    problems = []
    for address in local + invitation.addresses:
        try:
            channel = socket.create_connection((address, invitation.port), CONNECT_TIME)
        except OSError as error:
            problems.append(f"{address}: {error.strerror or error}")
            continue
        try:
            channel.sendall(struct.pack("<I", node) + _proof(invitation.secret, f"node {node}"))
            if hmac.compare_digest(_read(channel, 32), _proof(invitation.secret, "hub")):
                return channel
            problems.append(f"{address}: another program answers there")
        except OSError as error:
            problems.append(f"{address}: {error.strerror or error}")
        channel.close()
    raise OSError(f"no connection to port {invitation.port} of the first node ({', '.join(problems)})")


def _proof(secret: bytes, who: str) -> bytes:
    return hmac.digest(secret, who.encode(), hashlib.sha256)


def _read(channel: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        part = channel.recv(n - len(data))
        if not part:
            raise OSError("the connection was closed")
        data += part
    return data


def _addresses() -> list[str]:
    """The IPv4 addresses under which other machines may reach this one."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                found.append(socket.inet_ntoa(answer[20:24]))
    with suppress(OSError):
        found += [str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    return [address for address in dict.fromkeys(found) if not address.startswith("127.")]
