"""Literal tables: key, kind, file and test have one name, and the documents list what the code has."""

import re

import pytest

from curation.sources import SOURCES
from curation.stage_order import added
from curation.stages import STAGES
from tests.helpers.places import ROOT
from training.engine.optimizers import OPTIMIZERS
from training.evals import EVALS
from training.plan.presets import PRESETS
from training.reader.captions import CAPTION_POLICIES
from training.step.schedules import SCHEDULES
from training.terms import TERMS
from training.terms.targets import TARGETS

TABLES = {
    "curation/stages": STAGES,
    "curation/sources": SOURCES,
    "training/terms": TERMS,
    "training/terms/targets": TARGETS,
    "training/engine/optimizers": OPTIMIZERS,
    "training/step/schedules": SCHEDULES,
    "training/plan/presets": PRESETS,
    "training/evals": EVALS,
    "training/reader/captions": CAPTION_POLICIES,
}
KINDS = [(folder, kind) for folder, table in TABLES.items() for kind in table]


@pytest.mark.parametrize(("folder", "kind"), KINDS)
def test_key_kind_and_file_have_one_name(folder, kind):
    owner = TABLES[folder][kind]
    assert owner.model_fields["kind"].default == kind
    words = owner.__module__.split(".")
    assert "/".join(words[: len(folder.split("/"))]) == folder and words[-1] == kind
    assert words[len(folder.split("/")) :] in ([kind], [kind, kind])  # a file, or a file in a folder of its name


@pytest.mark.parametrize(("folder", "kind"), KINDS)
def test_every_kind_has_a_test_in_the_mirrored_place(folder, kind):
    assert list((ROOT / "tests" / folder).rglob(f"test_{kind}*.py"))


@pytest.mark.parametrize("folder", TABLES)
def test_every_file_that_could_be_a_kind_is_in_the_table(folder):
    for path in (ROOT / folder).glob("*.py"):
        text = path.read_text(encoding="utf-8")
        for kind in re.findall(r'^    kind: Literal\["(\w+)"\]', text, re.M):
            assert kind in TABLES[folder], path


def test_the_table_of_stages_in_the_readme_is_that_of_the_code():
    text = (ROOT / "curation/README.md").read_text(encoding="utf-8")
    section = text.split("## The stages")[1].split("\n##")[0]
    rows = {
        row[1].strip("` "): row for row in (line.split("|") for line in section.splitlines() if line.startswith("| `"))
    }
    assert set(rows) == set(STAGES)
    for kind, row in rows.items():
        said = re.search(r"Reasons?(?: \([^)]*\))?: ([a-z_, ]+)", STAGES[kind].__doc__ or "")
        for reason in re.findall(r"[a-z_]+", said[1] if said else ""):
            if reason not in ("and", "the", "kinds", "of", "boilerplate", "detail"):
                assert reason in row[3], f"curation/README.md: {kind} can give the reason {reason}"


@pytest.mark.parametrize("kind", STAGES)
def test_a_stage_exports_only_what_it_adds(kind):
    if isinstance(STAGES[kind].exports, property):  # by its settings: in the stage's own test
        return
    assert set(STAGES[kind].exports) <= {name.removeprefix("captions.") for name in added(STAGES[kind])}


def test_duplicates_and_opt_outs_say_so_themselves():
    assert {kind for kind, stage in STAGES.items() if stage.detail_is_survivor} == {
        "exact_duplicates", "perceptual_duplicates", "semantic_duplicates",
    }  # fmt: skip
    assert {kind for kind, stage in STAGES.items() if stage.hides_images} == {"opt_out", "block_list"}


def test_a_section_of_the_documents_says_how_to_add_each_sort_of_thing():
    curation, training = ((ROOT / half / "README.md").read_text(encoding="utf-8") for half in ("curation", "training"))
    for heading, text in (("a stage", curation), ("a source", curation), ("a term", training), ("an eval", training),
                          ("a caption policy", training)):  # fmt: skip
        assert f"\n## Adding {heading}\n" in text


def test_the_table_of_terms_in_the_readme_is_that_of_the_code():
    text = (ROOT / "training/README.md").read_text(encoding="utf-8")
    section = text.split("## The terms")[1].split("\n##")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| `")]
    assert [row[0].strip("`") for row in rows] == list(TERMS)
    for kind, (_, _, needs, wants) in zip(TERMS, rows, strict=True):
        settings = TERMS[kind]()
        assert needs == ", ".join(sorted(settings.build().needs)), kind
        asked = {name for name, value in vars(settings.wanted()).items() if value}
        assert set(filter(None, wants.split(", "))) == asked, kind


def test_paths_named_in_the_documents_are_there():
    for path in [ROOT / "README.md", *ROOT.glob("*/README.md"), ROOT / "pipeline/contract/README.md"]:
        for name in re.findall(
            r"`((?:pipeline|curation|training|tests|slurm|k8s|benchmarks|examples)/[\w/.-]*)`", path.read_text()
        ):
            assert (ROOT / name).exists(), f"{path}: {name}"
