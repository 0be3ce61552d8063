"""Where tests find the source tree, and reference data that may lie beside a checkout."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
S1_TABLE = ROOT / "estimator" / "data" / "tps_s1.csv"
SHARED = ROOT.parent / "shared"
