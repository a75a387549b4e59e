"""Adds up what the suites of scripts/test.sh counted: tally.py RESULTS_FOLDER SUITE...

Prints a line for each suite and, last, 'mlxr: N passed, N failed, N skipped'. A suite that did not
run, ended with an error or counted nothing has failed, whatever it printed.
"""

import json
import re
import sys
import xml.etree.ElementTree
from pathlib import Path
from typing import NamedTuple


class Count(NamedTuple):
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other):
        return Count(*(a + b for a, b in zip(self, other, strict=True)))


def count_gtest(results, prefix, programs):
    total = Count()
    for program in programs:
        file = results / f"{prefix}-{program}.json"
        if not file.exists():  # it crashed before it could write its results
            total += Count(failed=1)
            continue
        report = json.loads(file.read_text())
        for suite in report["testsuites"]:
            for case in suite["testsuite"]:
                if case.get("failures"):
                    total += Count(failed=1)
                elif case.get("result") == "COMPLETED":
                    total += Count(passed=1)
                else:
                    total += Count(skipped=1)
    return total


def count_pytest(file):
    if not file.exists():
        return Count(failed=1)
    total = Count()
    for suite in xml.etree.ElementTree.parse(file).iter("testsuite"):
        tests, failures, errors, skipped = (
            int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")
        )
        bad = failures + errors
        total += Count(tests - bad - skipped, bad, skipped)
    return total


def count_lines(results, suite):
    """Sums every 'N passed[,;] N failed[,;] N skipped|ignored' in a suite's log."""
    log = (results / f"{suite}.log").read_text(errors="replace")
    pattern = r"(\d+) passed[,;] (\d+) failed(?:[,;] (\d+) (?:skipped|ignored))?"
    total = Count()
    for passed, failed, skipped in re.findall(pattern, log):
        total += Count(int(passed), int(failed), int(skipped or 0))
    return total


def count(results, suite):
    if suite in ("core", "daemon"):
        return count_gtest(results, "release", [f"mlxr-{suite}-tests"])
    if suite in ("avx2", "generic"):
        return count_gtest(results, suite, ["mlxr-core-tests"])
    if suite == "neon":
        levels = ("neon", "neon-dotprod", "neon-i8mm")
        counts = (count_gtest(results, level, ["mlxr-neon-tests"]) for level in levels)
        return sum(counts, Count())
    if suite in ("asan", "tsan"):
        return count_gtest(results, suite, ["mlxr-core-tests", "mlxr-daemon-tests"])
    if suite in ("pytest", "scores"):
        return count_pytest(results / f"{suite}.xml")
    return count_lines(results, suite)


def main():
    results, suites = Path(sys.argv[1]), sys.argv[2:]
    total = Count()
    for suite in ["setup", "build", *suites]:
        status_file = results / f"{suite}.status"
        if not status_file.exists():
            print(f"{suite:10} did not run")
            total += Count(failed=1)
            continue
        status, seconds = map(int, status_file.read_text().split())
        made = Count() if suite in ("setup", "build") else count(results, suite)
        silent = made == Count() and suite not in ("setup", "build")
        if made.failed == 0 and (status != 0 or silent):
            made += Count(failed=1)
        note = f" (exit status {status})" if status else ""
        note += " (counted no test)" if silent else ""
        print(
            f"{suite:10} {made.passed:5} passed {made.failed:3} failed {made.skipped:3} skipped"
            f"  {seconds:5} s{note}"
        )
        total += made
    print(f"mlxr: {total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
