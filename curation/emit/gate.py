"""The stage "emit", the last of every recipe: what is left must be writable by the contract."""

import pyarrow as pa
import pyarrow.compute as pc

from curation.settings import EmitSettings
from curation.stage import Verdicts
from curation.table import arrow
from pipeline.contract.pairs import EXTS


def gate(pairs: pa.Table, probed: Verdicts | None, settings: EmitSettings) -> Verdicts:
    """The verdicts of the stage; `probed`: what Probe says, where no stage before has decoded the images.

    no_caption  every caption was dropped
    format      an image format that the contract does not hold, with emit.other_formats = drop
    and the decoder's reasons, where no stage before has decoded the image
    """
    web = pc.is_in(pairs.column("image_ext"), pa.array(EXTS))
    reason = pc.if_else(pc.or_(web, settings.other_formats == "png"), pa.scalar(None, pa.string()), "format")
    silent = pc.equal(pc.list_value_length(pairs.column("captions")), 0)
    reason = pc.if_else(silent, "no_caption", reason)
    if probed is None:
        return Verdicts(reason=reason)
    return Verdicts(reason=pc.coalesce(arrow.whole(reason), probed.reason), columns=probed.columns)
