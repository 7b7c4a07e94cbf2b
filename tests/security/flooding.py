"""A destination that answers with the same over and over: `python flooding.py NAME` prints its port.

In a process of its own, as fast as its bytes are taken, it takes no turn and no time of those who are to be measured.
"""

import socket
import sys
from contextlib import suppress

# It ends, so that who is held up by it is held up for some seconds, and not for ever.
SIZE = 16 * 1024 * 1024
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FLOODS = {
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 4_000),
    "interim answers with headers": (b"", (b"HTTP/1.1 103 Early Hints\r\n" + b"A: b\r\n" * 99 + b"\r\n") * 150),
    "answers": (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * 2_000),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 10_000),
    "chunks of one byte": (CHUNKED, b"1\r\nx\r\n" * 20_000),
}


def serve(head: bytes, piece: bytes) -> None:
    """Answer one request."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        client, _ = server.accept()
        with client, suppress(ConnectionError):
            client.recv(65_536)
            client.sendall(head)
            for _ in range(SIZE // len(piece)):
                client.sendall(piece)


if __name__ == "__main__":
    serve(*FLOODS[sys.argv[1]])
