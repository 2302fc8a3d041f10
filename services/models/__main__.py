"""`python -m services.models fetch smollm2`: the same commands as `outrider models`."""

from functools import partial

from services.local.telling import run_app
from services.models.commands import app

if __name__ == "__main__":
    run_app("outrider models", partial(app, prog_name="outrider models"))
