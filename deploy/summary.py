#!/usr/bin/env python3
"""Counts the results in the logs of `meson test`, one JSON object a line.

usage: summary.py testlog.json…
Names what failed or was skipped; the last line is "N passed, N failed[, N skipped]".
"""
import json
import os
import sys


def reason(test):
    """The last line that a skipped test wrote: by custom it says why."""
    lines = (test.get("stdout", "") + "\n" + test.get("stderr", "")).strip().splitlines()
    return lines[-1].strip() if lines else "no reason given"


def main(paths):
    passed, failed, skipped = 0, [], []
    for path in paths:
        build = os.path.basename(os.path.dirname(os.path.dirname(path)))
        with open(path, encoding="utf-8", errors="replace") as log:
            for line in log:
                test = json.loads(line)
                name = f"{build}: {test['name']}"
                if test["result"] in ("OK", "EXPECTEDFAIL"):
                    passed += 1
                elif test["result"] == "SKIP":
                    skipped.append(f"skipped {name}: {reason(test)}")
                else:
                    failed.append(f"{test['result'].lower()} {name}")
    for line in skipped + failed:
        print(line)
    print(f"{passed} passed, {len(failed)} failed" + (f", {len(skipped)} skipped" if skipped else ""))
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
