# Two images from one file: the program (target `census`) and a validating resolver (target `resolver`).
FROM debian:trixie-slim AS resolver
RUN apt-get update \
    && apt-get install -y --no-install-recommends unbound dns-root-data bind9-host \
    && rm -rf /var/lib/apt/lists/*
COPY deploy/unbound.conf /etc/unbound/unbound.conf
USER unbound
EXPOSE 5353/udp 5353/tcp
ENTRYPOINT ["/usr/sbin/unbound", "-d", "-c", "/etc/unbound/unbound.conf"]

FROM python:3.13-slim AS census
RUN useradd --system --uid 10001 --create-home census
WORKDIR /opt/mxcensus
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN python -m venv .venv && .venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY mxcensus mxcensus
COPY scanner scanner
COPY storage storage
COPY reports reports
COPY lab lab
COPY deploy/entrypoint.sh deploy/entrypoint.sh
RUN .venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation .
ENV PATH=/opt/mxcensus/.venv/bin:$PATH
USER 10001
WORKDIR /data
ENTRYPOINT ["/opt/mxcensus/deploy/entrypoint.sh"]
CMD ["mxcensus", "--help"]
