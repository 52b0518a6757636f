"""Runs inside of a container: asks each destination of its arguments once, and prints what came of it.

An argument is KIND/ADDRESS/PORT. For `http` the page (which says the address that was asked) is printed, for `tcp` and
`udp` the echo of a word, for `ping` the word "pong"; or the name of the error.
"""

import errno
import socket
import sys
import time

WORD = b"word"


def http(sock):
    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    data = b""
    while piece := sock.recv(4096):
        data += piece
    return data.decode().split("\r\n\r\n")[-1].strip()


def echo(sock):
    sock.sendall(WORD)
    return sock.recv(4096).decode()


def ping(sock, v6):
    kind, answer = (128, 129) if v6 else (8, 0)
    sock.sendall(bytes([kind, 0, 0, 0, 0, 0, 0, 1]) + WORD)
    reply = sock.recv(4096)
    return "pong" if reply[0] == answer and reply.endswith(WORD) else repr(reply)


def ask(kind, address, port):
    v6 = ":" in address
    family = socket.AF_INET6 if v6 else socket.AF_INET
    if kind in ("http", "tcp"):
        sock = socket.socket(family, socket.SOCK_STREAM)
    elif kind == "ping":
        sock = socket.socket(family, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP)
    else:
        sock = socket.socket(family, socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(20)
        sock.connect((address, port))
        if kind == "http":
            return http(sock)
        return ping(sock, v6) if kind == "ping" else echo(sock)


def usable(line):
    _, _, _, scope, flags, _ = line.split()
    return scope == "00" and not int(flags, 16) & 0x40


def main():
    # slirp4netns announces its IPv6 prefix after the start; an address is usable once it is global and not tentative.
    # (In a network namespace of its own there is nothing but loopback, under two lines of heading.)
    if any(":" in argument for argument in sys.argv[1:]) and len(open("/proc/net/dev").readlines()) > 3:
        end = time.monotonic() + 20
        while time.monotonic() < end and not any(usable(line) for line in open("/proc/net/if_inet6")):
            time.sleep(0.01)
    for argument in sys.argv[1:]:
        kind, address, port = argument.split("/")
        try:
            result = ask(kind, address, int(port))
        except TimeoutError:
            result = "timeout"
        except OSError as error:
            result = errno.errorcode.get(error.errno, str(error))
        print(f"{argument} {result}", flush=True)


main()
