"""A recipe: one YAML file, dotted overrides, environment variables; knows no setting by name.

    recipe = load("demo", ["train.batch.global=512", "curate.sources.0.paths=['a.warc.gz']"])
    settings = recipe.section("curate", CurateSettings)

Sections are validated by the settings model of their owner; every fault is one RecipeError with its dotted path.
"""

from pipeline.recipe.recipe import Recipe, built_in, digest, find, load

__all__ = ["Recipe", "built_in", "digest", "find", "load"]
