# Sluice's image: Python, its libraries and Sluice with its hot modules compiled. No shell, no pip, no package manager in it.
# BASE has Python 3.11 or newer with its headers and CA certificates; where it has no C compiler, Debian's is installed for the build.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS base

# Two environments: one builds, the other is what the image gets.
FROM base AS libraries
RUN command -v cc >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev; }
WORKDIR /src
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN python="$(readlink -f "$(command -v python3)")" && "$python" -m venv /build && "$python" -m venv --without-pip /opt/sluice \
    && /build/bin/python -m pip install --quiet --require-hashes -r requirements/runtime.txt -r requirements/build.txt \
    && /build/bin/python -m pip --python /opt/sluice/bin/python install --quiet --no-compile --require-hashes -r requirements/runtime.txt
COPY tools/image_root.py tools/
RUN /build/bin/python tools/image_root.py /layers/libraries /opt/sluice

FROM libraries AS builder
COPY setup.py pyproject.toml README.md LICENSE ./
COPY proxy proxy
COPY sluice sluice
# The C compiler's part alone, so that a change of the controller does not repeat it.
RUN SLUICE_NATIVE=1 /build/bin/python setup.py --quiet build_ext
COPY controller controller
RUN SLUICE_NATIVE=1 /build/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . \
    && /build/bin/python -m pip --python /opt/sluice/bin/python install --quiet --no-compile --no-index --no-deps \
       --prefix /layers/sluice/opt/sluice dist/*.whl \
    && /build/bin/python tools/image_root.py /layers/sluice

FROM scratch
COPY --from=libraries /layers/libraries /
# From the base itself: the build may have been shown the certificates of the machine that it ran on.
COPY --from=base /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=builder /layers/sluice /
ENV PATH=/opt/sluice/bin LANG=C.UTF-8 SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
LABEL org.opencontainers.image.title="Sluice" \
      org.opencontainers.image.description="An ingress controller for Kubernetes that treats WebSockets as first-class" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
CMD ["sluice", "--help"]
