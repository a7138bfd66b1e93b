"""Where Kuma's schemas are, which this project does not ship."""

import os
from pathlib import Path

_CHECKOUT = Path(__file__).parents[3]


def kuma_schemas() -> Path | None:
    """A folder with a subfolder for each version (CRDs and openapi.yaml), None where there is none.

    KUMA_SCHEMAS names it; without that it is looked for beside the checkout.
    """
    if named := os.environ.get("KUMA_SCHEMAS"):
        return Path(named)
    beside = [folder / "shared" / "kuma-schemas" for folder in _CHECKOUT.parents]
    return next((each for each in beside if each.is_dir()), None)
