# syntax=docker/dockerfile:1
# Kaelum's server. `docker build -t kaelum-graph .`; docs/deploy.md says how to run it.
# The weights are not in the image: they are fetched into /cache at the first start.

ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
# The index that has the build of torch wanted: PyTorch's install page names those of CPU builds and of each CUDA version.
# Without one the package index's own build is taken, which brings several gigabytes of CUDA packages.
ARG TORCH_INDEX=
ARG EXTRAS=otel
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CACHE_DIR=/var/cache/pip
RUN python -m venv /opt/kaelum
WORKDIR /source
COPY constraints.txt ./
# On its own, so that a change of the code leaves this layer, the largest, alone.
RUN --mount=type=cache,target=/var/cache/pip \
    /opt/kaelum/bin/pip install --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} torch
COPY pyproject.toml README.md ./
COPY kaelum_graph kaelum_graph
COPY graphs graphs
COPY adapters adapters
RUN --mount=type=cache,target=/var/cache/pip \
    /opt/kaelum/bin/pip install --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} ".[${EXTRAS}]"

FROM python:${PYTHON}-slim-bookworm
# tini passes signals on and buries the children that the sandbox leaves behind.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/*
# A number, so that Kubernetes can see that it isn't root.
RUN useradd --uid 10001 --user-group --home-dir /data --no-create-home --shell /usr/sbin/nologin kaelum \
    && install --directory --owner=kaelum --group=kaelum --mode=0700 /data /cache
COPY --from=build /opt/kaelum /opt/kaelum
COPY --chmod=0755 deploy/entrypoint.sh /usr/local/bin/kaelum-entrypoint
ENV PATH=/opt/kaelum/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    KAELUM_DATA_DIR=/data \
    KAELUM_CACHE_DIR=/cache \
    HF_HOME=/cache/huggingface
USER 10001:10001
WORKDIR /data
VOLUME ["/data", "/cache"]
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["tini", "--", "kaelum-entrypoint"]
CMD ["serve", "--host", "0.0.0.0", "--log-format", "json"]
