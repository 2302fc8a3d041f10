"""`outrider doctor`: is everything there and whole, and does speculation pay on this machine?"""

from cli.doctor.run import run_doctor

__all__ = ["run_doctor"]
