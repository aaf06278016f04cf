"""socksd and the relay daemons on the relay host."""
import json
import os
import select
import signal
import subprocess
import tempfile
import time

from runner.lab import ADDRESSES, LabError

PATIENCE = 30

SOCKSD = """\
listen: [{{address: "::", port: 1080}}]
relays:
{daemons}
rules: [{{action: allow, foreign-source: true}}]
limits: {{sessions: 100000, sessions-per-address: 100000}}
admin: {{socket: {directory}/admin/socksd.sock}}
log: {{level: warning}}
"""

RELAYD = """\
n2: {{directory: {directory}/n2, allow-users: ["0"]}}
admin: {{directory: {directory}/admin}}
plane: {plane}
bind: {{addresses: ["{relay4}", "{relay6}"], ports: 10000-60999}}
egress: {{addresses: ["{egress4}", "{egress6}"], ports: 10000-60999}}
limits: {{relays: {relays}}}
log: {{level: warning}}
"""


class Daemon:
    """One process, from READY to SIGTERM."""

    def __init__(self, lab, log, program, *arguments):
        self.name = os.path.basename(program)
        self.log = log
        ready, told = os.pipe()
        command = lab.command("relay", program, *arguments, "--ready-fd", str(told))
        with open(log, "ab") as output:
            # pylint: disable=consider-using-with
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output,
                                            stderr=output, pass_fds=[told])
        os.close(told)
        try:
            if not select.select([ready], [], [], PATIENCE)[0] or os.read(ready, 1) == b"":
                self.process.kill()
                raise LabError(f"{self.name} has not started: {self.last_words()}")
        finally:
            os.close(ready)

    def last_words(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()[-2000:].strip()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        if status != 0:
            raise LabError(f"{self.name} ended with {status}: {self.last_words()}")


class Daemons:
    """What a plane needs: started when entered, stopped when left."""

    def __init__(self, lab, build, plane, relays=20000, ptcls=("tcp", "udp")):
        self.lab, self.build, self.ptcls = lab, build, ptcls
        self._directory = tempfile.TemporaryDirectory(prefix="sockst-bench-")
        self.directory = self._directory.name
        self.running = {}
        for name in ("n2", "admin"):
            os.mkdir(f"{self.directory}/{name}", 0o755)
        os.chmod(self.directory, 0o755)
        text = RELAYD.format(directory=self.directory, plane=plane, relays=relays,
                             relay4=ADDRESSES[4].relay, relay6=ADDRESSES[6].relay,
                             egress4=ADDRESSES[4].egress, egress6=ADDRESSES[6].egress)
        if plane == "bpf":
            text += "interfaces: [client0, target0]\n"
        self._write("relayd.yaml", text)
        daemons = "\n".join(f"  - {{ptcl: {ptcl}, socket: {self.n2(ptcl)}}}" for ptcl in ptcls)
        self._write("socksd.yaml", SOCKSD.format(directory=self.directory, daemons=daemons))

    def n2(self, ptcl):
        """The N2 socket of that relay daemon."""
        return f"{self.directory}/n2/{ptcl}.sock"

    def admin(self, ptcl):
        return f"{self.directory}/admin/{ptcl}.sock"

    def _write(self, name, text):
        with open(f"{self.directory}/{name}", "w", encoding="utf-8") as file:
            file.write(text)

    def _start(self, name, program, *arguments):
        self.running[name] = Daemon(self.lab, f"{self.directory}/{name}.log",
                                    f"{self.build}/{program}", *arguments)

    def __enter__(self):
        try:
            for ptcl in self.ptcls:
                self._start(ptcl, "relayd/relayd", "-c", f"{self.directory}/relayd.yaml", "--ptcl",
                            ptcl)
            self._start("socksd", "socksd/socksd", "-c", f"{self.directory}/socksd.yaml")
            self._wait_connected()
        except BaseException:
            self.kill()
            raise
        return self

    def kill(self):
        for daemon in self.running.values():
            daemon.process.kill()
            daemon.process.wait()
        self._directory.cleanup()

    def __exit__(self, kind, *exception):
        if kind is not None:
            self.kill()
            return
        try:
            for name in reversed(list(self.running)):
                self.running.pop(name).stop()
        finally:
            self.kill()

    def relayctl(self, *arguments):
        return json.loads(self.lab.run("relay", f"{self.build}/relayd/ctl/relayctl", "--json",
                                       "--dir", f"{self.directory}/admin", *arguments))

    def _wait_connected(self):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for daemon in self.relayctl("status"):
                if daemon.get("daemon") == "socksd":
                    if daemon["counters"]["n2_connected"] >= len(self.ptcls):
                        return
            time.sleep(0.02)
        raise LabError("socksd has not reached the relay daemons")
