"""The verb that packs a data set: data pack."""

import dataclasses

from jsonargparse import Namespace

from cpsd import arguments as command_line
from cpsd.addresses import folder_here
from cpsd.data.bad_pictures import PictureCheck
from cpsd.data.pack_writing import bytes_needed, packed_rows, write_pack
from cpsd.data.picture_dataset import keeping_decoder
from cpsd.data.sources import load_records
from cpsd.report.progress import counting
from cpsd.verbs.terminal import say, stderr


def pack(arguments: Namespace) -> int:
    """Store the pictures of a data set once, at the size that networks are given."""
    config, folder = command_line.run_config(arguments), folder_here(arguments.out, "--out")
    data, size = dataclasses.replace(config.data, pack=None), config.image.size
    with counting(stderr, "checking") as progress:
        decoder = keeping_decoder(size, memory_share=config.machine.picture_memory)
        check = PictureCheck(decoder, pack=folder, progress=progress)
        records, notices = load_records(data, seed=config.seed, check=check)
    say(notices)
    total = len(packed_rows(records))
    needed = bytes_needed(total, size) / 1e9
    say([f"{total:,} pictures at {size} x {size} pixels take {needed:,.2f} GB in {folder}"])
    with counting(stderr, "packing") as progress:
        done = write_pack(folder, records, size, progress=progress)
    say(
        [
            f"{done:,} pictures were packed, {total - done:,} were there.",
            f"Use them with --data.pack {folder} --image.size {size}",
        ]
    )
    return 0
