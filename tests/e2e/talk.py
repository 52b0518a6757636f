"""Runs inside of a container: holds one connection, and says what becomes of it.

Arguments: KIND ADDRESS PORT. `tcp` and `udp` send numbers to an echo server, a byte every 10 ms, and check each that
comes back; `read` reads a stream that has no end; `idle` connects and waits. Printed is "open" after the first answer,
"at N" at every 20th, and "ended ERRNO" when the socket says that it is over.
"""

import errno
import socket
import sys
import time

kind, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
v6 = ":" in address


def say(*words):
    print(*words, flush=True)


def lines(sock):
    data = b""
    while True:
        piece = sock.recv(4096)
        if not piece:
            raise OSError(errno.ENODATA, "closed by the other side")
        data += piece
        *whole, data = data.split(b"\n")
        yield from whole


def talk(sock, stream):
    answers = lines(sock) if stream else None
    number = 0
    while True:
        number += 1
        word = b"%d\n" % number
        sock.sendall(word)
        answer = next(answers) if stream else sock.recv(4096).rstrip(b"\n")
        if answer != word.rstrip(b"\n"):
            say("lost", number, answer)
            return
        if number == 1:
            say("open")
        if number % 20 == 0:
            say("at", number)
        time.sleep(0.01)


sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
try:
    sock.connect((address, port))
    if kind == "read":
        sock.recv(1)
        say("open")
        while sock.recv(65536):
            time.sleep(0.001)
    elif kind == "idle":
        say("open")
        sock.recv(1)
    else:
        talk(sock, kind == "tcp")
except OSError as error:
    say("ended", errno.errorcode.get(error.errno, error))
