"""``harness reproduce``: every published figure beside ours."""

from __future__ import annotations

from harness.commands.options import JsonFlag, SamplesOption, SeedOption, WorkersOption, print_json


def reproduce(
    samples: SamplesOption = 1e6,
    seed: SeedOption = 0,
    workers: WorkersOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Set every numeric claim of the paper beside our value, and say why they differ."""
    from harness.console.reproduce import print_reproduction
    from harness.studies.reproduce import ReproduceOptions, reproduce_document

    document = reproduce_document(ReproduceOptions(samples=samples, seed=seed, workers=workers))
    if as_json:
        print_json(document)
    else:
        print_reproduction(document)
