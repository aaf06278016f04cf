"""Calls of bench_load."""
import json
import subprocess

from runner.lab import RELAY_MAC, LabError

PLACES = {"client": ("--client", "--client-device", "relay0"),
          "relay": ("--relay", "--relay-device", "target0"),
          "target": ("--target", "--target-device", "relay0")}


class Load:
    """bench_load in a laboratory, with the settings of a run."""

    def __init__(self, lab, build, settings):
        self.lab, self.program = lab, f"{build}/tests/bench/load/bench_load"
        self.settings = settings

    def places(self, *places):
        words = []
        for place in places:
            name, device, value = PLACES[place]
            words += [name, self.lab.names[place], device, value]
        return words

    def call(self, method, *words, patience=60):
        command = [self.program, method, *map(str, words)]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, timeout=patience, check=False)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{method}: not finished after {patience} s") from error
        if done.returncode != 0:
            raise LabError(f"{method}: {done.stderr.strip() or done.returncode}")
        return json.loads(done.stdout)

    def times(self):
        return ["--seconds", self.settings.seconds, "--warm", self.settings.warm]

    def one_core(self, path, *words):
        with self.lab.one_core():
            return self.call("one-core", *self.places("client", "relay", "target"), "--hop",
                             RELAY_MAC, *path, *self.times(), "--realtime", *words)

    def two_core(self, method, path, *words):
        return self.call(method, *self.places("client", "target"), *path, *self.times(),
                         *words)
