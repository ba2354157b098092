"""What commands take: said once, so that all of them ask for it in the same words."""

from typing import Annotated

import typer

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="a YAML file, or the name of a built-in recipe")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[dotted.key=value ...]", help="for example train.batch.global=512")
]
