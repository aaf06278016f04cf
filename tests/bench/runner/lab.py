"""The laboratory: three network namespaces joined by veth pairs.

    client ── relay0 ─── client0 ── relay host ── target0 ─── relay0 ── target
    10.89.1.2            10.89.1.1                10.89.2.1             10.89.2.2
    fd89:1::2            fd89:1::1                fd89:2::1             fd89:2::2
    client ── direct0 ──────────────────────────────────── direct0 ── target
    10.89.9.2                                                      10.89.9.3

Behind the client are 10.96.0.0/12 and fd89:a::/32, behind the target 10.112.0.0/12 and
fd89:b::/32: addresses of many clients and targets, which exist as routes alone.
"""
import contextlib
import os
import re
import subprocess

PLACES = ("client", "relay", "target")
PREFIX = "sockst-bench"
RELAY_MAC = "02:89:01:00:00:01"  # of the device towards the client
FORWARDING = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")


class LabError(Exception):
    """Something that the laboratory needs could not be had."""


def run(*command, **options):
    """Runs a command that must succeed; returns what it wrote."""
    done = subprocess.run(command, stdin=options.pop("stdin", subprocess.DEVNULL),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                          **options)
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


class Addresses:
    """Of one family: what the contenders need to know."""

    def __init__(self, family):
        self.family = family
        v4 = family == 4
        self.client = "10.89.1.2" if v4 else "fd89:1::2"
        self.relay = "10.89.1.1" if v4 else "fd89:1::1"
        self.egress = "10.89.2.1" if v4 else "fd89:2::1"
        self.target = "10.89.2.2" if v4 else "fd89:2::2"
        self.direct_client = "10.89.9.2" if v4 else "fd89:9::2"
        self.direct_target = "10.89.9.3" if v4 else "fd89:9::3"
        self.clients = "10.96.0.0/12" if v4 else "fd89:a::/32"
        self.targets = "10.112.0.0/12" if v4 else "fd89:b::/32"

    @staticmethod
    def endpoint(address, port):
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


ADDRESSES = {family: Addresses(family) for family in (4, 6)}


class Lab:
    """Exists while the with statement lasts; what a killed run has left is removed first."""

    def __init__(self):
        self.names = {place: f"{PREFIX}-{os.getpid()}-{place}" for place in PLACES}
        self._undo = contextlib.ExitStack()

    def __enter__(self):
        remove_left_behind()
        try:
            self._build()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *exception):
        self._undo.close()

    def on_exit(self, function, *arguments):
        """Called when the laboratory goes, last one first."""
        self._undo.callback(function, *arguments)

    def command(self, place, *command):
        return ("ip", "netns", "exec", self.names[place], *command)

    def run(self, place, *command, **options):
        return run(*self.command(place, *command), **options)

    def ip(self, place, *command):
        return run("ip", "-n", self.names[place], *command)

    def _build(self):
        for place in PLACES:
            run("ip", "netns", "add", self.names[place])
            self.on_exit(remove_namespace, self.names[place])
            self.run(place, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0",
                     "net.ipv6.conf.all.accept_dad=0")
            self.ip(place, "link", "set", "lo", "up")
        self._join("client", "relay0", "02:89:01:00:00:02", "relay", "client0", RELAY_MAC)
        self._join("relay", "target0", "02:89:02:00:00:01", "target", "relay0", "02:89:02:00:00:02")
        self._join("client", "direct0", "02:89:09:00:00:02", "target", "direct0",
                   "02:89:09:00:00:03")
        for a in ADDRESSES.values():
            length = 24 if a.family == 4 else 64
            for place, device, address in (
                    ("client", "relay0", a.client), ("relay", "client0", a.relay),
                    ("relay", "target0", a.egress), ("target", "relay0", a.target),
                    ("client", "direct0", a.direct_client), ("target", "direct0", a.direct_target)):
                self.ip(place, "address", "add", f"{address}/{length}", "dev", device)
        for a in ADDRESSES.values():
            self.ip("client", f"-{a.family}", "route", "add", "default", "via", a.relay)
            self.ip("target", f"-{a.family}", "route", "add", "default", "via", a.egress)
            self.ip("relay", f"-{a.family}", "route", "add", a.clients, "via", a.client)
            self.ip("relay", f"-{a.family}", "route", "add", a.targets, "via", a.target)

    def _join(self, place, device, mac, other, other_device, other_mac):
        run("ip", "link", "add", device, "netns", self.names[place], "address", mac, "type", "veth",
            "peer", "name", other_device, "netns", self.names[other], "address", other_mac)
        self.ip(place, "link", "set", device, "up")
        self.ip(other, "link", "set", other_device, "up")

    def forward(self, on):
        """Whether the relay host's kernel forwards."""
        self.run("relay", "sysctl", "-qw", *(f"{name}={int(on)}" for name in FORWARDING))

    @contextlib.contextmanager
    def one_core(self):
        """Packets of the client are taken up by processor 1; each is one that the client made, not
        a part of a super-packet. The kernel's thread for what is left over goes before everything
        else on that processor."""
        threads = ksoftirqd(1)
        steering = "/sys/class/net/client0/queues/rx-0/rps_cpus"
        self.run("relay", "sh", "-c", f"echo 2 >{steering}")
        self.run("client", "ethtool", "-K", "relay0", "tx-udp-segmentation", "off")
        for thread in threads:
            os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(10))
        try:
            yield
        finally:
            for thread in threads:
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
            self.run("client", "ethtool", "-K", "relay0", "tx-udp-segmentation", "on")
            self.run("relay", "sh", "-c", f"echo 0 >{steering}")


def ksoftirqd(processor):
    """Process ids of the kernel's thread; empty in a container that does not show it."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/comm", encoding="ascii", errors="replace") as file:
                if file.read().strip() == f"ksoftirqd/{processor}":
                    found.append(int(name))
        except OSError:
            pass  # it has ended
    return found


def remove_namespace(name):
    subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def remove_left_behind():
    """Namespaces of runs that are no more."""
    for line in run("ip", "netns", "list").splitlines():
        name = line.split()[0]
        match = re.fullmatch(rf"{PREFIX}-(\d+)-\w+", name)
        if match and not os.path.exists(f"/proc/{match[1]}"):
            remove_namespace(name)
