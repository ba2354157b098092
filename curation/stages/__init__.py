"""The table of stages: a new one is a file here, a line here, and its test."""

from curation.stages.balance import Balance
from curation.stages.caption_clean import CaptionClean
from curation.stages.caption_frequency import CaptionFrequency
from curation.stages.caption_rules import CaptionRules
from curation.stages.concept_match import ConceptMatch
from curation.stages.exact_duplicates import ExactDuplicates
from curation.stages.image_decode import ImageDecode
from curation.stages.image_size import ImageSize
from curation.stages.opt_out import OptOut
from curation.stages.perceptual_duplicates import PerceptualDuplicates
from curation.stages.site_boilerplate import SiteBoilerplate

STAGES = {
    "opt_out": OptOut,
    "image_decode": ImageDecode,
    "image_size": ImageSize,
    "caption_clean": CaptionClean,
    "site_boilerplate": SiteBoilerplate,
    "caption_rules": CaptionRules,
    "caption_frequency": CaptionFrequency,
    "exact_duplicates": ExactDuplicates,
    "perceptual_duplicates": PerceptualDuplicates,
    "concept_match": ConceptMatch,
    "balance": Balance,
}
