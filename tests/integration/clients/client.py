"""PySocks: client.py tcp|udp PROXY PORT ADDRESS NAME ECHO-PORT"""

import sys

import socks

MODE, PROXY, PROXY_PORT, ADDRESS, NAME, PORT = sys.argv[1:]
TIMEOUT = 20


def new_socket(kind, remote_names):
    new = socks.socksocket(type=kind)
    new.set_proxy(socks.SOCKS5, PROXY, int(PROXY_PORT), rdns=remote_names)
    new.settimeout(TIMEOUT)
    return new


def check(got, expected):
    if got != expected:
        sys.exit(f"expected {len(expected)} octets {expected[:40]}, got {len(got)} {got[:40]}")


def read_to_end(stream):
    parts = []
    while part := stream.recv(65536):
        parts.append(part)
    return b"".join(parts)


def tcp():
    for host in (ADDRESS, NAME):
        stream = new_socket(socks.socket.SOCK_STREAM, host == NAME)
        stream.connect((host, int(PORT)))
        stream.sendall(b"hello" * 10000)
        stream.shutdown(socks.socket.SHUT_WR)
        check(read_to_end(stream), b"hello" * 10000)
        stream.close()


def udp():
    exchange = new_socket(socks.socket.SOCK_DGRAM, True)
    for size in (0, 1, 1400, 9000, 65000):
        for host in (ADDRESS, NAME):
            exchange.sendto(b"u" * size, (host, int(PORT)))
            data, sender = exchange.recvfrom(65535)
            check(data, b"u" * size)
            check(f"{sender[0]}:{sender[1]}".encode(), f"{ADDRESS}:{PORT}".encode())
    exchange.close()


tcp() if MODE == "tcp" else udp()
print("done")
