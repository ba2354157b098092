"""Where images and captions come from. A new source is one file, one line here, and its test."""

from curation.sources.files import FilesSource
from curation.sources.shards.shards import ShardsSource
from curation.sources.table.table import TableSource
from curation.sources.warc.warc import WarcSource
from curation.sources.wat import WatSource

SOURCES = {"warc": WarcSource, "wat": WatSource, "shards": ShardsSource, "files": FilesSource, "table": TableSource}
