"""Runs as root in a container's network namespace: prints a line for every packet that carries data to or from one of the
addresses given, as the interface has it: what was sent after the rules, what arrives before them.
"""

import ipaddress
import socket
import struct
import sys

wanted = {ipaddress.ip_address(word).packed for word in sys.argv[1:]}
sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
print("ready", flush=True)


def body(packet):
    if packet[0] >> 4 == 4:
        header = (packet[0] & 15) * 4
        total = struct.unpack("!H", packet[2:4])[0]
        return packet[12:16], packet[16:20], packet[9], packet[header:total]
    length = struct.unpack("!H", packet[4:6])[0]
    return packet[8:24], packet[24:40], packet[6], packet[40 : 40 + length]


while True:
    packet, (interface, _, kind, _, _) = sock.recvfrom(65536)
    if interface == "lo" or len(packet) < 20 or packet[0] >> 4 not in (4, 6):
        continue
    source, destination, protocol, rest = body(packet)
    if not wanted & {source, destination}:
        continue
    if protocol == 6:
        rest = rest[(rest[12] >> 4) * 4 :]
    elif protocol == 17:
        rest = rest[8:]
    else:
        continue
    if rest:
        way = "out" if kind == 4 else "in"
        ends = [str(ipaddress.ip_address(end)) for end in (source, destination)]
        print(way, *ends, protocol, len(rest), flush=True)
