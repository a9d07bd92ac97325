"""The files of a run or a comparison as the page reads them: with their places, and gaps borne."""

import csv
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cpsd.errors import RunError
from cpsd.evaluation.prediction_files import PredictionFile, open_predictions
from cpsd.files import read_json
from cpsd.report.page.traced import Traced
from cpsd.report.tables import in_order
from cpsd.yaml_files import read_yaml

FINDINGS_FOLDER = "findings"
"""Where a run keeps its findings: ``<kind>-<split>.json``."""
EXPLANATIONS_FOLDER = "explanations"
"""Where a run keeps its gallery, and ``pointing-<split>.json``."""
PREDICTORS = ("baseline", "student", "teachers")
"""The order in which predictors are shown; the ensembles of single strategies follow."""


def is_there(path: Path) -> bool:
    """Return whether there is a file; a name from a damaged file may be one that none can have."""
    try:
        return path.is_file()
    except OSError:
        return False


@dataclass(frozen=True)
class RunFiles:
    """Reads the files of a folder.

    Args:
        folder: the run or the comparison whose page is written.
        within: the run of the comparison that is read, as a path from ``folder``; empty where the
            folder is read itself.
    """

    folder: Path
    within: str = ""

    def path(self, file: str) -> Path:
        """Return where a file lies."""
        return self.folder / self.within / file

    def place(self, file: str) -> str:
        """Return a file as a source: set apart from others by spaces, and with its own '#'."""
        return place(f"{self.within}/{file}" if self.within else file)

    def json(self, file: str) -> Traced:
        """Return a JSON file; without a value where it is not there.

        Raises:
            RunError: the file is damaged.
        """
        path = self.path(file)
        return Traced(read_json(path) if is_there(path) else None, self.place(file))

    def json_object(self, file: str) -> Traced:
        """Return a JSON file that the page cannot do without.

        Raises:
            RunError: the file is missing, damaged, or no JSON object.
        """
        content = read_json(self.path(file))
        if not isinstance(content, dict):
            raise RunError(
                f"{self.path(file)} is damaged: it is no JSON object. Start the command that "
                "made it again."
            )
        return Traced(content, self.place(file))

    def yaml(self, file: str) -> Traced:
        """Return a YAML file; without a value where it is not there.

        Raises:
            RunError: the file is damaged.
        """
        path = self.path(file)
        if not is_there(path):
            return Traced(None, self.place(file))
        try:
            return Traced(read_yaml(path), self.place(file))
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read as YAML ({error}).") from error

    def csv(self, file: str) -> list[list[str]]:
        """Return the rows of a CSV file, the header first; none where it is not there."""
        path = self.path(file)
        if not is_there(path):
            return []
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
            return [row for row in csv.reader(lines) if row]

    def names(self, pattern: str) -> list[str]:
        """Return the files that fit ``pattern``, relative to the folder, in order."""
        return sorted(path.relative_to(self.path("")).as_posix() for path in self._glob(pattern))

    def boards(self) -> dict[str, Traced]:
        """Return by test split what its evaluation says; ``test`` first.

        Raises:
            RunError: a file is damaged.
        """
        stems = in_order(path.stem for path in self._glob("evaluation/*.json"))
        return {stem: self.json_object(f"evaluation/{stem}.json") for stem in stems}

    def predictions_file(self, predictor: str, split: str) -> str:
        """Return where the predictions of ``predictor`` on ``split`` lie."""
        return f"predictions/{predictor.replace('/', '.')}/{split}.parquet"

    def predictions(self, predictor: str, split: str) -> PredictionFile | None:
        """Return predictions, to be read label by label; None where there are none.

        Raises:
            RunError: the file is damaged.
        """
        path = self.path(self.predictions_file(predictor, split))
        return open_predictions(path) if is_there(path) else None

    def _glob(self, pattern: str) -> list[Path]:
        return [path for path in self.path("").glob(pattern) if path.is_file()]


def place(file: str) -> str:
    """Return a file name as a source: sources are set apart by spaces and have their own '#'."""
    return quote(file, safe="/", errors="surrogateescape")


def in_predictor_order(names: list[str]) -> list[str]:
    """Return predictors as they are shown: baseline, student, teachers, then single ensembles.

    Example:
        >>> in_predictor_order(["teachers/b", "teachers", "teachers/a", "student", "baseline"])
        ['baseline', 'student', 'teachers', 'teachers/a', 'teachers/b']
    """
    rank = {name: index for index, name in enumerate(PREDICTORS)}
    return sorted(names, key=lambda name: (rank.get(name, len(rank)), name))
