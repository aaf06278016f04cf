"""A run: the plan, round by round, and where it stands."""
import sys
import time

from runner.lab import LabError


class Progress:
    """One line on stderr that is written over; lines of a log where stderr is no terminal."""

    def __init__(self, total, stream=sys.stderr):
        self.total, self.done, self.stream = total, 0, stream
        self.start = time.monotonic()

    def left(self):
        """Seconds, by what the steps so far have taken; None before the first."""
        if self.done == 0:
            return None
        return (time.monotonic() - self.start) / self.done * (self.total - self.done)

    def step(self, text):
        left = self.left()
        line = f"[{self.done + 1}/{self.total}] {text}"
        if left is not None:
            line += f", {int(left // 60)}:{int(left % 60):02d} left"
        terminal = self.stream.isatty()
        self.stream.write(f"\r\033[K{line}" if terminal else f"{line}\n")
        self.stream.flush()

    def finish_step(self):
        self.done += 1

    def end(self):
        if self.stream.isatty():
            self.stream.write("\r\033[K")


def order(names, number):
    """The contenders of round `number`: forth and back, so that what changes with time falls on
    all of them alike."""
    return list(names) if number % 2 == 0 else list(reversed(names))


class Session:
    """Runs cases; results are {case: {contender: {figure: [values]}}}."""

    def __init__(self, cases, contenders, load, ports, progress_stream=sys.stderr):
        self.cases, self.contenders, self.load, self.ports = cases, contenders, load, ports
        self.results, self.notes = {}, []
        self.failed = set()  # (case, contender)
        self.stream = progress_stream
        self.progress = None

    def names(self, case):
        return [name for name in case.contenders if name in self.contenders]

    def run(self):
        total = sum(case.rounds(self.load.settings) * len(self.names(case)) for case in self.cases)
        self.progress = Progress(total, self.stream)
        for case in self.cases:
            self.results[case.name] = {}
            for number in range(case.rounds(self.load.settings)):
                for name in order(self.names(case), number):
                    self._measure(case, number, name)
        self.progress.end()

    def _measure(self, case, number, name):
        if (case.name, name) in self.failed:
            return
        self.progress.step(f"{case.name}, round {number + 1}, {name}")
        try:
            with self.contenders[name].up(**case.needs(self.load.settings)):
                result = case.measure(self.contenders[name], self.load, self.ports)
        except LabError as error:
            # It is left out of the whole case: rounds are compared side by side.
            self.notes.append(f"{case.name}, {name}: {error}")
            self.failed.add((case.name, name))
            self.results[case.name].pop(name, None)
            self.progress.total -= case.rounds(self.load.settings) - number - 1
            self.progress.finish_step()
            return
        figures = self.results[case.name].setdefault(name, {f.key: [] for f in case.figures})
        for figure in case.figures:
            figures[figure.key].append(result[figure.key])
        self.progress.finish_step()
