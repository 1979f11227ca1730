"""mxcensus: the program. It joins the rooms and nobody imports it.

One domain, from the command to the figure:

1. `commands.scan` reads options and settings;          `inputs` turns files into `scanner.targets`
2. `scanning` is the composition root: it opens the database, injects `storage.ledger.SqlLedger` into
   `scanner.scan.scan`, and hands every record that comes out to `storage.writer.Writer`
3. `classification` runs when the scan ends: distinct certificates -> `scanner.classify` -> stored classifications
4. `commands.report` counts (`storage.counts`), builds one Report (`reports.figures`) and renders it
"""

__version__ = "0.1.0"
