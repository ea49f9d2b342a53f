# The source comes in, an image that serves Undercurrent goes out, for one of two targets:
#   docker build --target cpu  --build-arg TORCH_INDEX=<index of CPU wheels> -t undercurrent:cpu .     (without the index ten times as large)
#   docker build --target cuda -t undercurrent:cuda .                                                  (torch brings CUDA; only the driver is the host's)

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/undercurrent
ENV PATH=/opt/undercurrent/bin:$PATH
COPY pyproject.toml ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    print(*p['dependencies'], *(one for extra in ('traces', 'credentials') for one in p['optional-dependencies'][extra]), sep='\n')" > requirements.txt \
    && grep -E '^torch(vision)?[<>=]' requirements.txt > torch.txt

FROM build AS wheel
COPY README.md LICENSE NOTICE ./
COPY models models
COPY pipelines pipelines
COPY service service
RUN sh service/dashboard/build.sh python \
    && pip wheel --no-deps --wheel-dir /wheel .

# Dependencies before our own wheel: a changed line of ours does not fetch torch again.
FROM build AS build-cpu
ARG TORCH_INDEX=
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r torch.txt \
    && pip install -r requirements.txt \
    # what only compiles extensions, of which there are none on a CPU
    && rm -rf /opt/undercurrent/lib/python3*/site-packages/torch/include
COPY --from=wheel /wheel /wheel
RUN pip install --no-deps /wheel/*.whl

FROM build AS build-cuda
RUN pip install -r torch.txt -r requirements.txt
COPY --from=wheel /wheel /wheel
RUN pip install --no-deps /wheel/*.whl


FROM ${PYTHON_IMAGE} AS runtime
LABEL org.opencontainers.image.title="Undercurrent" org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin undercurrent \
    && install -d -o undercurrent -g undercurrent -m 0700 /data
COPY LICENSE NOTICE /usr/share/doc/undercurrent/
# The root file system may be read-only: everything kept is under /data, everything passing under /tmp.
ENV PATH=/opt/undercurrent/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    UNDERCURRENT_HOST=0.0.0.0 \
    UNDERCURRENT_PORT=8000 \
    UNDERCURRENT_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ['UNDERCURRENT_PORT']}/livez\", timeout=4)"]
ENTRYPOINT ["undercurrent"]
CMD ["serve"]


FROM runtime AS cuda
USER 0:0
# Triton compiles its launchers with the machine's C compiler when a kernel is first used.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build-cuda /opt/undercurrent /opt/undercurrent
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video \
    TRITON_CACHE_DIR=/tmp/triton
USER 10001:10001


# The last target is the one that is built when none is named.
FROM runtime AS cpu
COPY --from=build-cpu /opt/undercurrent /opt/undercurrent
