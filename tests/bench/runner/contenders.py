"""Who is measured. A contender is set up, asked for paths from the client to the target, and taken
down again; while it is up, nothing of another one is."""
import contextlib
import subprocess

from runner.daemons import Daemons
from runner.lab import ADDRESSES, Addresses, LabError, run

PORT = 5000  # of the target


class Contender:
    """One of those below; `up` is a context in which path() may be called."""

    name = ""
    title = ""

    def __init__(self, lab, build):
        self.lab, self.build = lab, build

    def problem(self):
        """Why it cannot be measured here, or None."""
        return None

    @contextlib.contextmanager
    def up(self, **needs):
        """`needs`: what a case wants of the daemons, if there are any."""
        yield

    def path(self, family, port):
        """Where streams come from, are sent to, and arrive, for bench_load; `port`: the first of
        the client's, one for each stream."""
        raise NotImplementedError


def words(source, port, to, target):
    endpoint = Addresses.endpoint
    return ["--from", endpoint(source, port), "--to", endpoint(to, PORT),
            "--at", endpoint(target, PORT)]


class Direct(Contender):
    """No relay host at all."""

    name = "direct"
    title = "a direct link"

    def path(self, family, port):
        a = ADDRESSES[family]
        return words(a.direct_client, port, a.direct_target, a.direct_target)


class Forward(Contender):
    """The relay host is a router."""

    name = "forward"
    title = "plain kernel forwarding, no rules"

    @contextlib.contextmanager
    def up(self, **needs):
        self.lab.forward(True)
        try:
            yield
        finally:
            self.lab.forward(False)

    def path(self, family, port):
        a = ADDRESSES[family]
        return words(a.client, port, a.target, a.target)


RULES = """\
table inet bench {
  chain prerouting {
    type nat hook prerouting priority dstnat
    iifname "client0" meta l4proto { tcp, udp } th dport %(port)d dnat ip to %(target4)s
    iifname "client0" meta l4proto { tcp, udp } th dport %(port)d dnat ip6 to %(target6)s
  }
  chain postrouting {
    type nat hook postrouting priority srcnat
    oifname "target0" masquerade
  }
}
"""


class Nft(Forward):
    """The relay host translates both addresses, with connection tracking."""

    name = "nft"
    title = "nftables DNAT and masquerade, with conntrack"

    def problem(self):
        try:
            run("nft", "--version")
        except (LabError, OSError):
            return "nft is not installed"
        return None

    @contextlib.contextmanager
    def up(self, **needs):
        rules = RULES % {"port": PORT, "target4": ADDRESSES[4].target,
                         "target6": ADDRESSES[6].target}
        with super().up():
            subprocess.run(self.lab.command("relay", "nft", "-f", "-"), input=rules, text=True,
                           check=True)
            try:
                yield
            finally:
                self.lab.run("relay", "nft", "flush", "ruleset")

    def path(self, family, port):
        a = ADDRESSES[family]
        return words(a.client, port, a.relay, a.target)


class Plane(Contender):
    """Sockst itself, from the control connection on."""

    plane = ""

    def __init__(self, lab, build):
        super().__init__(lab, build)
        self.daemons = None

    def problem(self):
        done = subprocess.run([f"{self.build}/relayd/relayd", "--ptcl", "udp", "--plane",
                               self.plane, "--check"], check=False, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        return None if done.returncode == 0 else done.stderr.strip()

    @contextlib.contextmanager
    def up(self, **needs):
        with Daemons(self.lab, self.build, self.plane, **needs) as self.daemons:
            yield
        self.daemons = None

    def path(self, family, port):
        a = ADDRESSES[family]
        return ["--from", a.endpoint(a.client, port), "--at", a.endpoint(a.target, PORT),
                "--server", a.endpoint(a.relay, 1080)]


class SocketPlane(Plane):
    """User space moves the data."""

    name = plane = "socket"
    title = "Sockst, socket plane"


class BpfPlane(Plane):
    """The kernel moves the data."""

    name = plane = "bpf"
    title = "Sockst, BPF plane"


ALL = (Direct, Forward, Nft, SocketPlane, BpfPlane)
