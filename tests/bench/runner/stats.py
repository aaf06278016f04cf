"""Medians, spread, and how sure a ratio is."""
import random
import statistics


def median(values):
    return statistics.median(values)


def spread(values):
    """Half the distance between the quartiles, as a share of the median: how far a round is from
    the median, typically. None for less than four values."""
    if len(values) < 4 or median(values) == 0:
        return None
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / 2 / abs(median(values))


def ratios(upper, lower):
    """Round by round: what was measured side by side."""
    return [a / b for a, b in zip(upper, lower) if b]


def bounds(values, level=0.95, samples=5000):
    """One-sided bounds of the median at that level, by bootstrap: (lowest, highest). The same
    for the same values."""
    if not values:
        raise ValueError("no values")
    chance = random.Random(1)
    medians = sorted(median(chance.choices(values, k=len(values))) for _ in range(samples))
    at = int((1 - level) * samples)
    return medians[at], medians[-1 - at]
