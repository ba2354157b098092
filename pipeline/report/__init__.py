"""report.html: one self-contained file that shows what a run did, with pictures. It only reads files.

card.py writes DATA_CARD.md from the same files.

data.py loads; funnel.py, gallery.py, curation.py, training.py prepare; charts.py, figures.py draw; render.py writes
"""

from pipeline.report.card import write_data_card
from pipeline.report.render import write_report

__all__ = ["write_data_card", "write_report"]
