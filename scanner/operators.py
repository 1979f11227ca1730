"""Who operates an MX host: the registrable domain of its name by the public suffix list.

An approximation, and said so wherever it is shown: one company may use several domains, several may share one. The
list is the one that comes with `tldextract`, read from the package, never from the network, and nothing is written.
Private suffixes (`azurewebsites.net`, `dyndns.org`) count as suffixes: what stands below them belongs to different
customers, who should share neither a limit nor a "blocked" nor a row. Where no rule matches, the last label is the
suffix, as the list's algorithm says.
"""

from functools import lru_cache

from tldextract import TLDExtract


@lru_cache(maxsize=100_000)
def operator(mx_host: str) -> str:
    """The registrable domain of a host (lower-case A-labels); the name itself where it has none.

    A bare suffix, a single label and an address literal have none.
    """
    found = _extract()(mx_host)
    if found.top_domain_under_public_suffix:
        return found.top_domain_under_public_suffix
    if found.suffix or found.ipv4 or found.ipv6:
        return mx_host
    return ".".join(mx_host.split(".")[-2:])


@lru_cache(maxsize=1)
def _extract() -> TLDExtract:
    """The list, read when it is first needed."""
    return TLDExtract(cache_dir=None, suffix_list_urls=(), include_psl_private_domains=True)
