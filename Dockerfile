# The source comes in, an image that serves Undercurrent goes out: `docker build -t undercurrent .`, or `docker/compose.yaml`.

ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
# Empty takes torch's default wheels, which bring CUDA with them. Name an index of CPU wheels for an image of about a tenth of the size.
ARG TORCH_INDEX=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/undercurrent
ENV PATH=/opt/undercurrent/bin:$PATH

# Dependencies before the source: a changed line of ours does not fetch torch again.
COPY pyproject.toml ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > requirements.txt \
    && grep -E '^torch(vision)?[<>=]' requirements.txt > torch.txt \
    && pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r torch.txt \
    && pip install -r requirements.txt

COPY README.md LICENSE NOTICE ./
COPY models models
COPY pipelines pipelines
COPY service service
RUN pip install --no-deps .


FROM python:${PYTHON_VERSION}-slim
LABEL org.opencontainers.image.title="Undercurrent" org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin undercurrent \
    && install -d -o undercurrent -g undercurrent -m 0700 /data
COPY --from=build /opt/undercurrent /opt/undercurrent
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
