"""How long the figures of a census take: `python benchmarks/report.py URL [DOMAINS [ENDPOINTS]]`.

The database has to be empty. Prints one JSON object: the seconds and CPU seconds from the open database to the
Report, and the bytes of its page.
"""

import json
import sys
import time

from benchmarks import census_rows
from mxcensus import reporting
from reports import as_html
from storage.database import open_database


def main() -> None:
    url = sys.argv[1]
    domains = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    endpoints = int(sys.argv[3]) if len(sys.argv) > 3 else domains // 5
    database = open_database(url)
    with database.engine.begin() as connection:
        scan_id = census_rows.write_census(connection, domains, endpoints, seed=1)
    database.close()
    database = open_database(url)
    began, cpu = time.monotonic(), time.process_time()
    report = reporting.build(database, scan_id)
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    page = as_html.render(report)
    database.close()
    print(json.dumps({"seconds": seconds, "cpu": cpu, "page_bytes": len(page)}))


if __name__ == "__main__":
    main()
