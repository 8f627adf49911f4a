"""What can keep a run from starting or from going on."""


class UsageError(ValueError):
    """The inputs cannot be used as they were given."""


class NothingToDoError(ValueError):
    """The inputs hold no video."""


class RunStoppedError(Exception):
    """The run cannot go on: a full disk, a folder that went away. What is done is kept."""
