"""Feed mangled files to every reader for as long as one likes: `make fuzz`.

    python fuzz/fuzz.py --seconds 60                  # each reader, half of it guided by coverage
    python fuzz/fuzz.py --seconds 600 --only picture  # those whose names hold a word

Half of a reader's time goes to mutations that know its format, half to atheris (coverage-guided),
where that is installed (`pip install 'cpsd[fuzz]'`). A reader that raises anything but a user's
error, opens another file, takes a gigabyte or a minute is a finding: its file is kept in --out and
the exit code is 1. Files to begin from are made by the code, none are kept between calls.
"""

import argparse
import contextlib
import importlib.util
import io
import logging
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

from hostile_guard import BrokenFenceError, fenced  # noqa: E402
from hostile_mutations import mangled  # noqa: E402
from hostile_readers import Target, targets  # noqa: E402

MOST_MB = 2000
"""Of a whole process, where the libraries alone take half of it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz one reader after the other, each in processes of its own; 1 where there are findings."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="for each reader")
    parser.add_argument("--only", default="", help="readers whose names hold this")
    parser.add_argument("--seed", type=int, default=0, help="of what does not follow coverage")
    parser.add_argument("--out", type=Path, default=ROOT / "fuzz/findings", help="for findings")
    asked = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    ways: dict[str, Callable[..., None]] = {"by format": _by_format}
    if importlib.util.find_spec("atheris") is not None:
        ways["by coverage"] = _by_coverage
    else:
        _say("atheris is not installed, so that nothing is guided by coverage: cpsd[fuzz] has it.")
    total = failed = 0
    for target in targets():
        for way, fuzz in ways.items() if asked.only in target.name else ():
            code, said = _in_a_fork(
                lambda fuzz=fuzz, target=target: fuzz(
                    target, _Reader(target, asked.out), asked.seconds / len(ways), asked.seed
                )
            )
            counts = re.findall(r"(?:^files |number_of_executed_units: )(\d+)", said, re.MULTILINE)
            found = re.findall(r"^FINDING .*", said, re.MULTILINE)
            if code != 0 and not found:
                found = [f"ended with {code}", *said.splitlines()[-15:]]
            total, failed = total + int(counts[-1] if counts else 0), failed + bool(found)
            _say(f"{target.name}, {way}: {int(counts[-1]) if counts else 0:,} files")
            for line in found:
                _say(f"  {line}")
    _say(f"{total:,} files; findings: {failed}")
    return 1 if failed else 0


class _Reader:
    """Reads contents with a target and notes the first finding."""

    def __init__(self, target: Target, out: Path) -> None:
        self._target, self._out = target, out
        self._folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        target.prepare(self._folder)
        self.count = 0

    def __call__(self, content: bytes) -> None:
        file = self._folder / self._target.file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        self.count += 1
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                fenced(self._folder, lambda: self._target.read(self._folder))
        except BrokenFenceError as error:
            self._out.mkdir(parents=True, exist_ok=True)
            kept = self._out / f"{sha256(content).hexdigest()[:16]}-{file.name}"
            kept.write_bytes(content)
            line = " ".join(str(error).split())[:400]
            _say(f"FINDING {self._target.name}: {kept}: {line}\nfiles {self.count}")
            os._exit(1)


def _by_format(target: Target, read: _Reader, seconds: float, seed: int) -> None:
    """Mangle files by what their format is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        read(mangled(Random(f"{seed} {read.count}"), list(target.seeds), target.file))
    _say(f"files {read.count}")


def _by_coverage(target: Target, read: _Reader, seconds: float, seed: int) -> None:
    """Let atheris mangle files and follow what makes the package take another way."""
    import atheris

    begin = Path(tempfile.mkdtemp(prefix="fuzz-begin-"))
    for index, content in enumerate(target.seeds):
        (begin / str(index)).write_bytes(content)
    for name, module in list(sys.modules.items()):
        if name.startswith("cpsd."):  # libraries would take minutes
            for key, value in list(vars(module).items()):
                if getattr(value, "__module__", None) == name and hasattr(value, "__code__"):
                    with contextlib.suppress(Exception):
                        setattr(module, key, atheris.instrument_func(value))
    limits = [f"-max_total_time={max(1, int(seconds))}", f"-rss_limit_mb={MOST_MB}", "-timeout=60"]
    options = [*limits, f"-seed={seed + 1}", "-print_final_stats=1", "-verbosity=0", str(begin)]
    atheris.Setup([target.name, *options], read)
    atheris.Fuzz()


def _in_a_fork(work: Callable[[], Any]) -> tuple[int, str]:
    """Return how a child ends that does ``work``, and what it says: imports are made once."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            code = 1
            try:
                work()
                code = 0
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        return code, said.read().decode(errors="replace")


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
