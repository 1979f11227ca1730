"""Tables in the documents that tests write: what stands between two marks has to be what the code says now."""

import os


def written_table(document, begin, end, matrix):
    """The table as it stands in the document, held to be `matrix`; MXCENSUS_WRITE=1 writes it there first."""
    before, found, rest = document.read_text(encoding="utf-8").partition(begin)
    written, ended, after = rest.partition(end)
    assert found, "no place for the table"
    assert ended, "no end of the table"
    if os.environ.get("MXCENSUS_WRITE"):
        written = matrix
        document.write_text(before + begin + written + end + after, encoding="utf-8")
    assert written == matrix
    return written
