"""Adds up what the suites of scripts/test.sh counted: tally.py RESULTS_FOLDER SUITE...

Prints a line for each suite, the name of each test that failed with why, and,
last, 'mlxr: N passed, N failed, N skipped'. A suite that did not run, ended with an error or
counted nothing has failed, whatever it printed.
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


def gtest_programs(suite):
    """The reports that a suite of GoogleTest writes: their names' prefix and programs, each."""
    if suite in ("core", "daemon"):
        return [("release", f"mlxr-{suite}-tests")]
    if suite in ("avx2", "generic"):
        return [(suite, "mlxr-core-tests")]
    if suite == "neon":
        return [(level, "mlxr-neon-tests") for level in ("neon", "neon-dotprod", "neon-i8mm")]
    if suite in ("asan", "tsan"):
        return [(suite, "mlxr-core-tests"), (suite, "mlxr-daemon-tests")]
    return []


def count_gtest(results, programs):
    total = Count()
    for prefix, program in programs:
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
    if programs := gtest_programs(suite):
        return count_gtest(results, programs)
    if suite in ("pytest", "clients", "scores"):
        return count_pytest(results / f"{suite}.xml")
    return count_lines(results, suite)


def on_one_line(text):
    return " ".join((text or "").split())[:300]


def failures(results, suite):
    """'test: why' of each failed test, and each sanitizer's summary in the log."""
    for prefix, program in gtest_programs(suite):
        file = results / f"{prefix}-{program}.json"
        if not file.exists():
            yield f"{program}: it ended before its report was written"
            continue
        for tests in json.loads(file.read_text())["testsuites"]:
            for case in tests["testsuite"]:
                if case.get("failures"):
                    why = on_one_line(case["failures"][0]["failure"])
                    yield f"{tests['name']}.{case['name']}: {why}"
    file = results / f"{suite}.xml"
    if file.exists():
        for case in xml.etree.ElementTree.parse(file).iter("testcase"):
            for bad in [*case.iter("failure"), *case.iter("error")]:
                why = on_one_line(bad.get("message"))
                yield f"{case.get('classname')}.{case.get('name')}: {why}"
    log = results / f"{suite}.log"
    if log.exists():
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith("SUMMARY: "):
                yield line


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
        if made.failed:
            for line in failures(results, suite):
                print(f"  {line}")
    print(f"mlxr: {total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
