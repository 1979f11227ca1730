"""The pass after a scan: every distinct certificate and every distinct certificate_list gets its meaning.

Issuers come from everything that the scan saw, so nothing can be classified before the scan ends; and since only
stored facts and a snapshot are needed, the same pass reclassifies an old scan under new rules.
"""

from scanner.classify import Classifier
from scanner.trust import TrustSnapshot
from storage import reader
from storage.classifications import write_classifications, write_list_classifications
from storage.database import Database


def classify_scan(database: Database, scan: int, snapshot: TrustSnapshot) -> None:
    """Compute and store the classifications of a scan, replacing what was there."""
    classifier = Classifier(snapshot, reader.ca_certificates(database, scan))
    write_classifications(
        database,
        scan,
        (classifier.classify(certificate) for certificate in reader.presented_certificates(database, scan)),
    )
    write_list_classifications(
        database,
        scan,
        ((digest, classifier.chain_complete(listed)) for digest, listed in reader.lists(database, scan)),
    )
