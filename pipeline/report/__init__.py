"""report.html: one self-contained file that shows what a run did, with pictures. It reads files, and imports neither half.

    data.py (load) -> funnel.py, gallery.py, training.py (prepare) -> charts.py, figures.py (draw) -> render.py (one page)
"""

from pipeline.report.render import write_report

__all__ = ["write_report"]
