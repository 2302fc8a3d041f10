"""`python -m services.models fetch smollm2`: the same commands as `outrider models`."""

from services.models.commands import app

if __name__ == "__main__":
    app(prog_name="outrider models")
