"""mxcensus: the program that joins the rooms."""

__version__ = "0.1.0"
