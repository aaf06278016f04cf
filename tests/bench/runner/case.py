"""What every case is."""

PORTS = 30000  # S of the first stream; every measurement takes new ones
PORTS_END = 60000


class Ports:
    """Ports of the client that were not used a short while ago: a TCP connection is remembered."""

    def __init__(self):
        self.next = PORTS

    def take(self, count):
        if self.next + count > PORTS_END:
            self.next = PORTS
        first, self.next = self.next, self.next + count
        return first


class Figure:
    """One number of a case: its key in the results, its unit and what it is multiplied with."""

    def __init__(self, key, unit, scale=1.0, digits=0, title=None):
        self.key, self.unit, self.scale, self.digits = key, unit, scale, digits
        self.title = title or key


class Case:
    """A row of rounds; in each, every contender once, in an order that alternates."""

    contenders = ("forward", "nft", "bpf")
    rounds_least = 5

    def __init__(self, name, title, family, figures):
        self.name, self.title, self.family, self.figures = name, title, family, figures

    def needs(self, settings):  # pylint: disable=unused-argument
        """What the daemons have to be like: arguments of Daemons."""
        return {}

    def rounds(self, settings):
        return settings.rounds or self.rounds_least

    def measure(self, contender, load, ports):
        """One round of one contender: a value for each figure."""
        raise NotImplementedError
