"""Write the pages that are made from the code."""

from tests.docs.generate import PAGES
from tests.paths import ROOT

for name, page in PAGES.items():
    (ROOT / "docs" / name).write_text(page())
