"""`outrider doctor`: is everything there and whole, and does speculation pay on this machine?"""

from services.doctor.run import run_doctor

__all__ = ["run_doctor"]
