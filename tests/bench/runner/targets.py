"""The ratios that matter, and what they have to be."""
from runner import stats


class Target:
    """A ratio of two figures that were measured side by side, or, without `lower`, one figure.
    Figures are "contender figure" ("bpf delivered")."""

    def __init__(self, case, upper, lower=None, least=None, most=None, aim=None, bound=None,
                 unit=""):
        self.case, self.upper, self.lower = case, upper, lower
        self.least, self.most, self.aim, self.unit = least, most, aim, unit
        self.bound = bound  # what the lower 95 % bound of the median has to be

    def judge(self, results):
        """`results`: {contender: {figure: [a number for each round]}}. None: not measured."""
        upper = self._values(results, self.upper)
        lower = self._values(results, self.lower) if self.lower else [1] * len(upper)
        pairs = stats.ratios(upper, lower)
        if not pairs:
            return None
        value = stats.median(pairs)
        low, high = stats.bounds(pairs)
        holds = ((self.least is None or value >= self.least) and
                 (self.most is None or value <= self.most) and
                 (self.bound is None or low >= self.bound))
        judged = any(limit is not None for limit in (self.least, self.most, self.bound))
        return {"case": self.case, "upper": self.upper, "lower": self.lower,
                "unit": self.unit, "value": value, "low": low, "high": high, "pairs": len(pairs),
                "least": self.least, "most": self.most, "aim": self.aim, "bound": self.bound,
                "holds": holds if judged else None}

    @staticmethod
    def _values(results, name):
        contender, figure = name.split()
        return results.get(contender, {}).get(figure, [])


def all_targets():
    found = []
    for family in (4, 6):
        case = f"one-core-v{family}"
        found += [
            Target(case, "bpf delivered", "forward delivered", least=1.2, aim=1.4),
            Target(case, "bpf delivered", "nft delivered", least=3.0),
            Target(case, "nft delivered", "forward delivered"),
            Target(case, "bpf carried", "forward carried"),
            Target(case, "bpf carried", "nft carried")]
        case = f"udp-v{family}"
        found += [
            Target(case, "bpf delivered", "forward delivered", least=1.03, bound=0.97),
            Target(case, "socket delivered", "forward delivered")]
        for case in (f"tcp-1-v{family}", f"tcp-1-down-v{family}"):
            found.append(Target(case, "bpf bits", "forward bits", least=0.98))
        found.append(Target(f"round-trip-v{family}", "bpf p50", "forward p50", most=1.02))
        found.append(Target(f"closing-v{family}", "bpf p99", most=5000, unit="µs"))
        case = f"million-v{family}"
        found += [
            Target(case, "bpf among", "bpf alone", least=0.95),
            Target(case, "bpf uniform", "bpf frames"),
            Target(case, "bpf opened", least=100000, unit="/s"),
            Target(case, "bpf memory", most=1024, unit="octets"),
            Target(case, "bpf loss", most=5, unit="ms")]
    return found
