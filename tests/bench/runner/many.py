"""Cases with many relays: they are those of the BPF plane alone."""
import contextlib
import os
import subprocess

from runner.case import Case, Figure
from runner.contenders import PORT
from runner.lab import ADDRESSES, RELAY_MAC, LabError

PRESENT_FIRST_PORT = 2000  # S of the associations that are just there
SOURCES = {4: "10.96.0.2", 6: "fd89:a::2"}
# An egress port is held by a descriptor, and serves one relay to each destination.
DESTINATIONS = 200
OTHERS = 8  # relays of million-* that are not ordered by n2_load: the one flow
TARGETS = {4: "10.112.0.2", 6: "fd89:b::2"}


class Holder:
    """A program that does something, says so line by line, and holds it until its standard input
    is closed."""

    def __init__(self, command):
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.name = os.path.basename(command[0])

    def wait_for(self, beginning):
        """The lines up to the one that begins so."""
        lines = []
        for line in self.process.stdout:
            lines.append(line.strip())
            if line.startswith(beginning):
                return lines
        raise LabError(f"{self.name}: {self.process.stderr.read().strip() or 'ended early'}")

    def let_go(self):
        self.process.stdin.close()

    def end(self):
        """Lets go and returns the rest of what it said."""
        if not self.process.stdin.closed:
            self.let_go()
        rest = self.process.stdout.read().splitlines()
        if self.process.wait() != 0:
            raise LabError(f"{self.name}: {self.process.stderr.read().strip()}")
        return rest

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                pipe.close()


class Closing(Case):
    """From the end of a control connection to the last packet of its relay, while others are
    there."""

    contenders = ("socket", "bpf")

    def __init__(self, family):
        super().__init__(f"closing-v{family}",
                         f"end of a control connection to its relay's last packet, IPv{family}",
                         family, [Figure("p50", "ms", 1e-3, 3), Figure("p99", "ms", 1e-3, 3),
                                  Figure("max", "ms", 1e-3, 3)])

    def measure(self, contender, load, ports):
        a = ADDRESSES[self.family]
        present, samples = load.settings.present, load.settings.samples
        common = ["--client", load.lab.names["client"], "--server", a.endpoint(a.relay, 1080),
                  "--at", a.endpoint(a.target, PORT), "--ptcl", "udp"]
        if contender.name != "bpf":
            present = min(present, 4000)  # the socket plane has descriptors for that many
        source = a.endpoint(a.client, PRESENT_FIRST_PORT)
        with Holder([load.program, "associations", *common, "--from", source, "--count",
                     present]) as holder:
            holder.wait_for("{")
            source = a.endpoint(a.client, ports.take(samples))
            result = load.call("closing", *common, *load.places("target"), "--from", source,
                               "--count", samples, patience=60 + samples)
            holder.end()
        return result


class Million(Case):
    """One flow alone and among a million relays, traffic of all of them, what they cost, and the
    loss of the N2 connection that ordered them."""

    contenders = ("bpf",)

    def __init__(self, family):
        super().__init__(f"million-v{family}", f"a million relays, IPv{family}", family, [
            Figure("alone", "kpps", 1e-3, title="one flow alone"),
            Figure("among", "kpps", 1e-3, title="one flow among all"),
            Figure("frames", "kpps", 1e-3, title="frames of one flow, carried"),
            Figure("uniform", "kpps", 1e-3, title="frames of all flows, carried"),
            Figure("opened", "thousand/s", 1e-3, title="opened"),
            Figure("memory", "octets", title="memory of each"),
            Figure("loss", "ms", 1, 2, title="loss of N2 to the last packet")])

    def needs(self, settings):
        return {"relays": settings.relays, "ptcls": ("udp",)}

    def measure(self, contender, load, ports):
        path = contender.path(self.family, ports.take(1))
        daemons = contender.daemons
        flows = f"{daemons.directory}/flows"
        result = {"alone": load.one_core(path)["delivered"]}
        with self._relays(daemons, load, flows) as holder:
            said = dict(line.split(" ", 1) for line in holder.wait_for("held") if " " in line)
            if said["failed"] != "0":
                raise LabError(f"n2_load: {said['failed']} relays: {said['first_failure']}")
            result["opened"] = float(said["answers_per_second"])
            result["memory"] = float(said["total_per_relay"])
            path = contender.path(self.family, ports.take(1))
            result["among"] = load.one_core(path)["delivered"]
            result["frames"] = load.one_core(path, "--plan", "frames")["carried"]
            result["uniform"] = load.one_core(path, "--plan", "frames", "--flows",
                                              flows)["carried"]
            result["loss"] = self._loss(load, holder, flows)
        return result

    def _relays(self, daemons, load, flows):
        return Holder([f"{daemons.build}/tests/bench/n2_load", "--socket", daemons.n2("udp"),
                       "--admin", daemons.admin("udp"), "--relays", load.settings.relays - OTHERS,
                       "--sources", SOURCES[self.family], "--targets", TARGETS[self.family],
                       "--destinations", DESTINATIONS, "--target-port", PORT, "--list", flows, "--hold", "--end", "drop"])

    def _loss(self, load, holder, flows):
        """Milliseconds from the end of the N2 connection to the last packet. Everything but the
        sender has processor 1."""
        a = ADDRESSES[self.family]
        with Holder([load.program, "loss", *load.places("client", "target"), "--hop", RELAY_MAC,
                     "--flows", flows, "--at", a.endpoint(a.target, PORT),
                     "--realtime"]) as sender:
            sender.wait_for("{\"flowing")
            holder.let_go()
            last = sender.wait_for("{\"last_ns")[-1]
            sender.end()
        said = dict(line.split(" ", 1) for line in holder.end() if " " in line)
        last_ns = int(last.split(":")[1].rstrip("}"))
        return max(0, last_ns - int(said["dropped_at_ns"])) / 1e6
