"""Runs inside of a container: sends TCP, UDP and ICMP to every address of its arguments, without end."""

import os
import socket
import sys

ADDRESSES = sys.argv[1:]


def udp(address, family):
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    for port in (53, 443, 7777):
        yield lambda: sock.sendto(b"flood", (address, port))


def tcp(address, family):
    def connect():
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            sock.connect_ex((address, 7777))

    yield connect


def ping(address, family):
    kind, protocol = (128, socket.IPPROTO_ICMPV6) if family == socket.AF_INET6 else (8, socket.IPPROTO_ICMP)
    sock = socket.socket(family, socket.SOCK_DGRAM, protocol)
    sock.setblocking(False)
    yield lambda: sock.sendto(bytes([kind, 0, 0, 0, 0, 0, 0, 1]), (address, 0))


senders = []
for address in ADDRESSES:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for make in (udp, tcp, ping):
        senders.extend(make(address, family))
for _ in range(2):
    os.fork()
print("flooding", flush=True)
while True:
    for send in senders:
        try:
            send()
        except OSError:
            pass
