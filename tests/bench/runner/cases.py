"""What is measured: each case is one method in one family, over several contenders."""
from runner.case import Case, Figure
from runner.many import Closing, Million


class OneCore(Case):
    """The relay's own cost for a packet."""

    def __init__(self, family):
        super().__init__(f"one-core-v{family}", f"UDP, 64 octets, one core, IPv{family}", family, [
            Figure("delivered", "kpps", 1e-3), Figure("carried", "kpps", 1e-3),
            Figure("sent", "kpps", 1e-3)])

    def measure(self, contender, load, ports):
        return load.one_core(contender.path(self.family, ports.take(1)))


class TwoCoreUdp(Case):
    """What of a sender's datagrams arrives at a socket."""

    contenders = ("direct", "forward", "nft", "socket", "bpf")
    rounds_least = 11

    def __init__(self, family):
        super().__init__(f"udp-v{family}", f"UDP, 64 octets, two cores, IPv{family}", family, [
            Figure("delivered", "kpps", 1e-3), Figure("sent", "kpps", 1e-3)])

    def measure(self, contender, load, ports):
        return load.two_core("udp", contender.path(self.family, ports.take(1)))


class Tcp(Case):
    """Bulk data in streams."""

    contenders = ("direct", "forward", "nft", "socket", "bpf")

    def __init__(self, family, streams, reverse=False):
        direction = "down" if reverse else "up"
        super().__init__(
            f"tcp-{streams}{'-down' if reverse else ''}-v{family}",
            f"TCP, {streams} {'stream' if streams == 1 else 'streams'}, {direction}, IPv{family}",
            family, [Figure("bits", "Gbit/s", 1e-9, 2)])
        self.streams, self.reverse = streams, reverse

    def measure(self, contender, load, ports):
        path = contender.path(self.family, ports.take(self.streams))
        return load.two_core("tcp", path, "--ptcl", "tcp", "--streams", self.streams,
                             *(["--reverse"] if self.reverse else []))


class RoundTrip(Case):
    """There and back, one datagram in flight."""

    contenders = ("direct", "forward", "nft", "socket", "bpf")

    def __init__(self, family):
        super().__init__(f"round-trip-v{family}", f"UDP round trip, 64 octets, IPv{family}", family,
                         [Figure("p50", "µs", 1, 2), Figure("p90", "µs", 1, 2),
                          Figure("p99", "µs", 1, 2)])

    def measure(self, contender, load, ports):
        count = max(500, int(20000 * load.settings.seconds))
        return load.two_core("round-trip", contender.path(self.family, ports.take(1)), "--count",
                             count, "--spin")


def all_cases():
    found = []
    for family in (4, 6):
        found += [OneCore(family), TwoCoreUdp(family), Tcp(family, 1), Tcp(family, 1, True),
                  RoundTrip(family), Closing(family), Million(family)]
    return found
