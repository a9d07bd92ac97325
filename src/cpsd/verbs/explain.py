"""The verb explain: where the predictors of a run look in one picture."""

from jsonargparse import Namespace

from cpsd.addresses import folder_here
from cpsd.data.fetching import fetched_places
from cpsd.explain.picture import explain_picture
from cpsd.run_home import brought
from cpsd.verbs.models import label_names, own_factory
from cpsd.verbs.terminal import console


def explain(arguments: Namespace) -> int:
    """Write a picture of the maps of all predictors side by side."""
    panel = explain_picture(
        brought(arguments.run),
        fetched_places([arguments.picture])[0],
        labels=label_names(arguments.labels),
        out=None if arguments.out is None else folder_here(arguments.out, "--out"),
        machine=arguments.machine,
        make_model=own_factory(arguments.factory),
    )
    console.print(f"The explanation lies in {panel}", markup=False)
    return 0
