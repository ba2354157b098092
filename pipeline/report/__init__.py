"""report.html: one self-contained file that shows what a run did, with pictures. It only reads files.

card.py writes DATA_CARD.md from the same files, comparison.py the page of two runs; found.py finds what a folder holds.

data.py loads what schemas.py describes; curated/, trained/ and compared/ prepare; drawing/ and figures.py draw;
limits.py says how much is shown; render.py writes.
"""

from pipeline.report.card import write_data_card
from pipeline.report.comparison import write_comparison
from pipeline.report.found import Outputs, outputs_in
from pipeline.report.render import write_report

__all__ = ["Outputs", "outputs_in", "write_comparison", "write_data_card", "write_report"]
