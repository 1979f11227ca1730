"""Who operates an MX host: the registrable domain of its name by the public suffix list.

An approximation, and said so wherever it is shown: one company may use several domains, several may share one. The
list is the one that comes with `tldextract`, read from the package and never from the network. Private suffixes
(`*.azurewebsites.net`) count as suffixes, since what stands below them belongs to different customers. Where no
rule matches, the last label is the suffix, as the list's algorithm says.
"""

from functools import lru_cache

from tldextract import TLDExtract

_extract = TLDExtract(cache_dir=None, suffix_list_urls=(), include_psl_private_domains=True)


@lru_cache(maxsize=100_000)
def operator(mx_host: str) -> str:
    """The registrable domain of a host; the name itself where it has none (a bare suffix, a single label)."""
    found = _extract(mx_host)
    if not found.suffix and not found.ipv4:
        return ".".join(mx_host.split(".")[-2:])
    return found.top_domain_under_public_suffix or mx_host
