"""The table of stages: a new one is a file here, a line here, and its test."""

from curation.stages.balance import Balance
from curation.stages.block_list import BlockList
from curation.stages.caption_clean import CaptionClean
from curation.stages.caption_frequency import CaptionFrequency
from curation.stages.caption_minhash import CaptionMinhash
from curation.stages.caption_rules import CaptionRules
from curation.stages.clip_image_vector import ClipImageVector
from curation.stages.clip_score import ClipScore
from curation.stages.clip_text_vector import ClipTextVector
from curation.stages.cluster_quota import ClusterQuota
from curation.stages.concept_match import ConceptMatch
from curation.stages.decontaminate import Decontaminate
from curation.stages.exact_duplicates import ExactDuplicates
from curation.stages.function import CallFunction
from curation.stages.generate import GenerateText
from curation.stages.head import HeadScore
from curation.stages.image_decode import ImageDecode
from curation.stages.image_size import ImageSize
from curation.stages.kmeans import Kmeans
from curation.stages.language import Language
from curation.stages.one_of import OneOf
from curation.stages.opt_out import OptOut
from curation.stages.perceptual_duplicates import PerceptualDuplicates
from curation.stages.quota import Quota
from curation.stages.reference_clusters import ReferenceClusters
from curation.stages.sample import Sample
from curation.stages.semantic_duplicates import SemanticDuplicates
from curation.stages.site_boilerplate import SiteBoilerplate
from curation.stages.text_statistics import TextStatistics
from curation.stages.threshold import Threshold
from curation.stages.top_fraction import TopFraction
from curation.stages.word_list import WordList

STAGES = {
    "opt_out": OptOut,
    "block_list": BlockList,
    "image_decode": ImageDecode,
    "decontaminate": Decontaminate,
    "image_size": ImageSize,
    "caption_clean": CaptionClean,
    "site_boilerplate": SiteBoilerplate,
    "caption_rules": CaptionRules,
    "caption_frequency": CaptionFrequency,
    "caption_minhash": CaptionMinhash,
    "exact_duplicates": ExactDuplicates,
    "perceptual_duplicates": PerceptualDuplicates,
    "concept_match": ConceptMatch,
    "balance": Balance,
    "clip_image_vector": ClipImageVector,
    "clip_text_vector": ClipTextVector,
    "clip_score": ClipScore,
    "head": HeadScore,
    "threshold": Threshold,
    "one_of": OneOf,
    "word_list": WordList,
    "top_fraction": TopFraction,
    "kmeans": Kmeans,
    "reference_clusters": ReferenceClusters,
    "semantic_duplicates": SemanticDuplicates,
    "cluster_quota": ClusterQuota,
    "quota": Quota,
    "sample": Sample,
    "language": Language,
    "text_statistics": TextStatistics,
    "function": CallFunction,
    "generate": GenerateText,
}
