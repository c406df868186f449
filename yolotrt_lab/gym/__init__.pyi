from .exercise import Exercise, exercises
from .grade import Check, check
from .rig import Names
from .trial import Trial, mystery, try_live, try_loop

__all__ = ["Check", "Exercise", "Names", "Trial", "check", "exercises", "mystery", "try_live", "try_loop"]
