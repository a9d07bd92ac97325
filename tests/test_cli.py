"""How the command starts: as a module, without torch; how it ends: interrupted, on a full disk."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpsd.cli import EXIT_INTERRUPTED, INTERRUPTED, PREEMPTED, main
from cpsd.parsers import VERBS

# The verb is given, so that torch need not be imported.
COMMAND = """
import os, sys, time
from cpsd import cli

class Slow:
    def __del__(self):
        print("working", flush=True)
        time.sleep(600)

{work}

cli.VERBS["run"] = work
sys.exit(cli.main(["run"]))
"""
HEAVY = {"torch", "torchvision", "timm", "lightning", "sklearn", "scipy", "pyarrow", "matplotlib"}
"""Packages that take longer to import than a command's help should."""
WORKS = {
    "in the midst of work": """
def work(arguments):
    print("working", flush=True)
    time.sleep(600)
""",
    "while it tidies up": """
def work(arguments):
    try:
        print("working", flush=True)
        time.sleep(600)
    finally:
        time.sleep(600)
""",
    # As Ray's compiled code does it, whose interrupt says not by which signal.
    "in code that raises an interrupt of its own": """
def work(arguments):
    try:
        print("working", flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None
""",
    # Where Python drops an exception and goes on.
    "in a destructor": """
def work(arguments):
    slow = Slow()
    del slow
    time.sleep(600)
""",
    "beside a process that loads pictures": """
def work(arguments):
    if os.fork() == 0:
        time.sleep(1)
        os._exit(0)
    print("working", flush=True)
    time.sleep(600)
""",
}


@contextlib.contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Start a command as the leader of a group of processes, as a terminal does."""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # What runs the tests may itself be a job in the background, which hears no Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def interrupt_twice(process: subprocess.Popen[str], after: str, pause: float) -> str:
    """Press Ctrl-C twice once a line begins with ``after``; return what standard error says.

    And again until the process has ended: it hears two that come while it waits for a core as one.
    """
    assert process.stdout is not None
    assert any(line.startswith(after) for line in process.stdout)
    for _ in range(100):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=pause)
            break
    _, errors = process.communicate(timeout=60)
    return errors


@pytest.mark.parametrize("pause", [0.01, 0.3])
@pytest.mark.parametrize("moment", WORKS)
def test_two_interrupts_end_with_one_sentence(moment: str, pause: float) -> None:
    with started([sys.executable, "-c", COMMAND.format(work=WORKS[moment])]) as process:
        assert interrupt_twice(process, "working", pause) == INTERRUPTED
    assert process.returncode == EXIT_INTERRUPTED


@pytest.mark.parametrize("moment", sorted({*WORKS} - {"while it tidies up", "in a destructor"}))
def test_a_process_that_is_asked_to_end_ends_well(moment: str) -> None:
    with started([sys.executable, "-c", COMMAND.format(work=WORKS[moment])]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        os.killpg(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert (errors, process.returncode) == (PREEMPTED, 0)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_training_that_is_asked_to_end_goes_on(
    workers: str, finished: Path, quick: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "student")
    (run / ".stages" / "student.json").unlink()
    code = "import sys; from cpsd.cli import main; sys.exit(main())"
    arguments = ["distill", *quick, str(run), "--machine.workers", workers]
    with started([sys.executable, "-c", code, *arguments]) as process:
        assert process.stdout is not None
        assert any(line.startswith("  student: epoch 1/2") for line in process.stdout)
        os.killpg(process.pid, signal.SIGTERM)  # to the processes that load pictures as well
        _, errors = process.communicate(timeout=60)
    assert (errors, process.returncode) == (PREEMPTED, 0)
    assert not (run / "student").exists()
    assert main(arguments) == 0
    weights = "student/model.safetensors"
    assert (run / weights).read_bytes() == (finished / weights).read_bytes()


def test_a_run_that_was_interrupted_twice_goes_on(
    finished: Path, quick: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    for name in ("student", "evaluation"):
        shutil.rmtree(run / name)
        (run / ".stages" / f"{name}.json").unlink()
    code = "import sys; from cpsd.cli import main; sys.exit(main())"
    with started([sys.executable, "-c", code, "run", *quick, str(run)]) as process:
        assert interrupt_twice(process, "student", 0.05) == INTERRUPTED
    assert process.returncode == EXIT_INTERRUPTED
    assert not (run / "student").exists()
    assert main(["run", *quick, str(run)]) == 0
    for name in ("student/model.safetensors", "evaluation/test.json"):
        assert (run / name).read_bytes() == (finished / name).read_bytes(), name


def test_the_callers_handler_of_interrupts_is_left_alone(tmp_path: Path) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before, hook = [signal.getsignal(number) for number in numbers], sys.unraisablehook
    assert main(["run", str(tmp_path / "no.csv")]) == 2
    assert [signal.getsignal(number) for number in numbers] == before
    assert sys.unraisablehook is hook


def test_the_package_is_the_command_too(tmp_path: Path) -> None:
    for arguments, code in ((["--help"], 0), (["run", str(tmp_path / "no.csv")], 2)):
        command = [sys.executable, "-m", "cpsd", *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == code
        assert (result.stdout + result.stderr).startswith("cpsd: " if code else "usage: cpsd")


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("buffered", ["", "1"])
def test_output_that_cannot_be_written_is_a_sentence(buffered: str) -> None:
    work = "def work(arguments):\n    print('scores')\n    return 0\n"
    with FULL.open("w") as full:
        result = subprocess.run(
            [sys.executable, "-c", COMMAND.format(work=work)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": buffered},
        )
    assert result.returncode == 2
    assert result.stderr.startswith("cpsd: Cannot write ")
    assert "output: the disk is full. " in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_reader_that_has_enough_is_no_error() -> None:
    work = "def work(arguments):\n    print('scores\\n' * 100_000)\n    return 0\n"
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(work=work)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "scores\n"
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 1


def packages_after(code: str) -> set[str]:
    """Return the packages that a new Python has imported once it has run ``code``."""
    told = "import sys; print(file=sys.stderr, *{name.partition('.')[0] for name in sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\n{told}"], capture_output=True, text=True, check=True
    )
    return set(result.stderr.split())


HELP = """
from cpsd.cli import main
try:
    main({argv})
except SystemExit:
    pass
"""


def test_the_package_is_imported_without_what_takes_seconds() -> None:
    found = packages_after("import cpsd")
    assert "cpsd" in found
    assert not found & {*HEAVY, "numpy", "jsonargparse", "rich"}


@pytest.mark.parametrize("verb", [[], *([*name.split()] for name in VERBS)], ids=" ".join)
def test_help_needs_nothing_that_takes_seconds(verb: list[str]) -> None:
    found = packages_after(HELP.format(argv=[*verb, "--help"]))
    assert {"cpsd", "jsonargparse"} <= found
    assert not found & HEAVY


def test_data_are_checked_without_torch(digits: Path) -> None:
    found = packages_after(HELP.format(argv=["data", "check", str(digits)]))
    assert "PIL" in found
    assert not found & {"torch", "torchvision", "timm", "lightning"}


def test_the_installed_command_answers() -> None:
    command = shutil.which("cpsd", path=str(Path(sys.executable).parent))
    assert command is not None
    result = subprocess.run([command, "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "evaluate" in result.stdout
