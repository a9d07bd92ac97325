"""The suite: draws faults, has them strike job after job, and judges what is left."""

import json
import os
import shutil
import time
from pathlib import Path
from random import Random

from attempts_at_job import HangingError, Job, import_everything, make_data
from damages import DAMAGES
from disturbed_job import DisturbedJob, Pace, Struck, UnexpectedEndError
from fault_table import markdown
from faults import STRIKES, Fault
from verdict import contents, differences, left_behind

ALL = (*STRIKES, *DAMAGES)


class Suite:
    """Faults, and what came of them.

    Args:
        runs: folder for runs, whose file system may become full.
        beside: folder for everything else.
        seed: of everything that is drawn.
        may_mount: whether file systems can be mounted.
    """

    def __init__(self, runs: Path, beside: Path, seed: int, *, may_mount: bool) -> None:
        self.runs, self.beside = runs, beside
        self.random = Random(seed)
        self.kinds = [kind for kind in ALL if may_mount or not kind.needs_mounts]
        self.struck: list[Struck] = []
        self.failures: list[str] = []
        self.num_jobs = self.num_equal = 0
        for kind in ALL:
            if kind not in self.kinds:
                say(f"Left out, for file systems cannot be mounted here: {kind.kind}")
        import_everything()
        self.table = make_data(runs / "data")
        self._deck: list[type[Fault]] = []
        self.pace, self.peaceful_seconds, self.expected = self._undisturbed()
        say(
            f"Undisturbed: {self.peaceful_seconds:.1f} s; {self.pace.start:.1f} s of processor "
            f"time until work begins, {self.pace.work:.1f} s of work; {len(self.expected)} files"
        )

    def strike(self, num_faults: int) -> None:
        """Have so many faults befall runs on this machine."""
        end = len(self.struck) + num_faults
        while len(self.struck) < end:
            job = self.new_job()
            disturbed = DisturbedJob(
                job, self._draw, end - len(self.struck), self.pace, self.random
            )
            began = time.monotonic()
            try:
                disturbed.run()
                ended = ""
            except (HangingError, UnexpectedEndError) as error:
                ended = str(error)
            except BaseException:
                job.kill_all()
                raise
            self.note(job, disturbed.struck, disturbed.failures, ended)
            say(
                f"{job.folder.name}: {len(disturbed.struck)} faults in "
                f"{time.monotonic() - began:.0f} s, {len(self.struck)} in all"
            )

    def new_job(self, *options: str) -> Job:
        """Return a job with folders of its own."""
        name = f"job-{self.num_jobs:03d}"
        data: str = json.loads(self.expected[".stages/label-graph.json"])["fingerprint"]
        return Job(self.runs / name, self.beside / name, self.table, options, data)

    def note(
        self,
        job: Job,
        struck: list[Struck],
        failures: list[str],
        ended: str,
        apart: tuple[str, ...] = (),
    ) -> None:
        """Note what came of a job, and hold it to the undisturbed run.

        Args:
            job: the job.
            struck: the faults.
            failures: on the way.
            ended: why it did not come to its end; "" if it did.
            apart: files that are expected to differ.
        """
        self.struck += struck
        self.num_jobs += 1
        wrong = [ended] if ended else differences(contents(job.run), self.expected, apart=apart)
        self.num_equal += not wrong
        found = [*failures, *wrong, *left_behind(job)]
        self.failures += [f"{job.folder.name}: {failure}" for failure in found]
        for failure in found:
            say(f"FAILURE {job.folder.name}: {failure}")
        job.kill_all()
        if found:
            say(f"  faults: {', '.join(f'{one.kind} ({one.outcome})' for one in struck)}")
        shutil.rmtree(job.folder)

    def summary(self, seconds: float) -> str:
        """Return the table and what is to be said of it."""
        lost = sum(one.lost for one in self.struck)
        failures = [f"* FAILURE {failure.splitlines()[0]}" for failure in self.failures]
        return "\n".join([
            markdown(self.struck),
            "",
            f"{len(self.struck)} faults in {self.num_jobs} runs; {self.num_equal} runs ended with "
            f"the bytes of the undisturbed one ({len(self.expected)} files), "
            f"{len(self.failures)} failures. {seconds / 60:.0f} minutes in all, of which faults "
            f"cost {lost / 60:.0f}; an undisturbed run takes {self.peaceful_seconds:.0f} s.",
            *failures,
        ])  # fmt: skip

    def _undisturbed(self) -> tuple[Pace, float, dict[str, str]]:
        """Run once in peace: how long it takes, and what is expected."""
        job = Job(self.runs / "undisturbed", self.beside / "undisturbed", self.table)
        began, start, now = time.monotonic(), 0.0, 0.0
        attempt = job.start()
        while not attempt.is_over():
            now = max(now, attempt.processor_time())
            start = start or (now if attempt.is_at_work() else 0.0)
            time.sleep(0.01)
        seconds, left = time.monotonic() - began, left_behind(job)
        if attempt.code != 0 or left:
            raise SystemExit(f"The undisturbed run fails: {left}\n{attempt.said}")
        return Pace(start, now - start), seconds, contents(job.run)

    def _draw(self) -> Fault:
        """Return the next fault: all kinds in turn, shuffled."""
        if not self._deck:
            self._deck = self.random.sample(self.kinds, len(self.kinds))
        return self._deck.pop()(self.random)


def say(line: str) -> None:
    """Print a line at once."""
    os.write(1, f"{line}\n".encode())
