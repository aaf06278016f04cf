"""An FTP server that knows active mode alone: ftp_server.py ADDRESS PORT DIRECTORY"""

import os
import socket
import sys

ADDRESS, PORT, DIRECTORY = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def say(stream, line):
    stream.write(line.encode() + b"\r\n")
    stream.flush()


def endpoint(argument):
    """The six numbers of PORT (RFC 959), or EPRT's |1|address|port| (RFC 2428)."""
    if argument.startswith("|"):
        _, _, address, port, _ = argument.split("|")
        return address, int(port)
    numbers = argument.split(",")
    return ".".join(numbers[:4]), int(numbers[4]) * 256 + int(numbers[5])


def retrieve(stream, to, name):
    with open(os.path.join(DIRECTORY, os.path.basename(name)), "rb") as file:
        data = file.read()
    say(stream, "150 I connect to you")
    with socket.socket() as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sender.bind((ADDRESS, 20))
        sender.settimeout(10)
        sender.connect(to)
        sender.sendall(data)
    say(stream, "226 sent")


def serve(stream):
    to = None
    say(stream, "220 ready")
    for line in stream:
        verb, _, argument = line.decode().strip().partition(" ")
        verb = verb.upper()
        if verb == "USER":
            say(stream, "331 password?")
        elif verb == "PASS":
            say(stream, "230 welcome")
        elif verb in ("PORT", "EPRT"):
            to = endpoint(argument)
            say(stream, "200 noted")
        elif verb == "RETR" and to is not None:
            retrieve(stream, to, argument)
        elif verb in ("TYPE", "MODE", "STRU", "NOOP"):
            say(stream, "200 as you like")
        elif verb == "QUIT":
            say(stream, "221 bye")
            return
        else:
            say(stream, "502 not here")


listener = socket.create_server((ADDRESS, PORT))
print("ready", file=sys.stderr, flush=True)
while True:
    control, peer = listener.accept()
    with control, control.makefile("rwb") as control_stream:
        try:
            serve(control_stream)
        except OSError as error:
            print(f"{peer}: {error}", file=sys.stderr, flush=True)
