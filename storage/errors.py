"""What can go wrong with a database, each as one line that a person can act on."""


class BadDatabase(ValueError):  # says what is bad, like the house's other Bad*
    """The database that was asked for cannot be used: a bad URL, a missing file, somebody else's tables."""


class StorageFailed(RuntimeError):  # says what happened
    """A write was given up. Everything committed before is safe; the scan can be resumed."""


class DatabaseGone(StorageFailed):
    """The database did not come back in time."""


class DiskFull(StorageFailed):
    """There is no room left where the database lies."""
