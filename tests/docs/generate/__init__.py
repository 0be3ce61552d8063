"""Pages of docs/ that are made from the code: ``make docs`` writes them, ``test_generated`` compares them."""

from __future__ import annotations

from collections.abc import Callable

from harness.metrics.reference import reference_text
from tests.docs.generate.cli import cli_page
from tests.docs.generate.reasons import reasons_page
from tests.docs.generate.schema import schema_page

PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "metrics.md": reference_text,
    "reasons.md": reasons_page,
    "schema.md": schema_page,
}
