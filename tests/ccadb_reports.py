"""CCADB's reports and Chromium's root store, made of certificates of the tests' own, and a server for them."""

import base64
import csv
import io
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

INCLUDED = (
    "CA Owner",
    "Certificate Name",
    "Apple Status",
    "Apple Trust Bits",
    "Google Chrome Status",
    "Microsoft Status",
    "Microsoft EKUs For DTBs",
    "Mozilla Status",
    "Mozilla Trust Bits",
    "SHA-256 Fingerprint",
)
RECORDS = (
    "CA Owner",
    "Certificate Name",
    "Certificate Record Type",
    "SHA-256 Fingerprint",
    "Parent SHA-256 Fingerprint",
    "Revocation Status",
    "Derived Trust Bits",
    "TLS Capable",
)


def table(header, rows):
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def included(*rows):
    """Each row: a certificate, its owner, and columns by name; a status that is not named is `Not Included`."""
    lines = []
    for certificate, owner, columns in rows:
        values = {name: "Not Included" if name.endswith("Status") else "" for name in INCLUDED}
        values |= {"CA Owner": owner, "Certificate Name": owner, **columns}
        values["SHA-256 Fingerprint"] = certificate.sha256.upper()
        lines.append([values[name] for name in INCLUDED])
    return table(INCLUDED, lines)


def records(*rows):
    """Each row: a certificate, `Root` or `Intermediate`, whether it can issue for TLS."""
    return table(
        RECORDS,
        [
            ["Owner", "Name", f"{kind} Certificate", item.sha256.upper(), "", "Not Revoked", "", str(tls)]
            for item, kind, tls in rows
        ],
    )


def pems(*certificates, under=None):
    """`under` maps a certificate's sha256 to the fingerprint that is said instead."""
    lines = []
    for item in certificates:
        body = base64.encodebytes(item.der).decode()
        said = (under or {}).get(item.sha256, item.sha256)
        lines.append([said.upper(), f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----"])
    return table(("SHA-256 Fingerprint", "X.509 Certificate (PEM)"), lines)


def root_store(*anchors, additional=(), version=33):
    """Each anchor: a certificate and the text of its further fields."""

    def block(kind, item, more):
        return f'# {item.subject}\n{kind} {{\n  sha256_hex: "{item.sha256}"\n  {more}\n}}\n'

    text = "".join(block("trust_anchors", *anchor) for anchor in anchors)
    text += "".join(block("additional_certs", *anchor) for anchor in additional)
    return f"# Chrome Root Store.\nversion_major: {version}\n\n{text}"


@contextmanager
def serving(pages):
    """A web server for `pages`: path with query -> text, status, or (text, claimed length). Gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            page = pages.get(self.path, 404)
            if isinstance(page, int):
                self.send_error(page)
                return
            text, length = page if isinstance(page, tuple) else (page, None)
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
