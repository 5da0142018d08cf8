# Two stages: the first installs into a virtual environment, the second has that and the files to index by, nothing else.
FROM python:3.11-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/gapless
WORKDIR /src
COPY requirements.txt ./
RUN /opt/gapless/bin/pip install --require-hashes --only-binary :all: -r requirements.txt
COPY pyproject.toml README.md ./
COPY indexer indexer
COPY api api
COPY migrations migrations
RUN /opt/gapless/bin/pip install --no-deps --no-build-isolation .


FROM python:3.11-slim

RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin gapless
WORKDIR /app
COPY --from=build /opt/gapless /opt/gapless
COPY indexer.toml ./
COPY abis abis
ENV PATH=/opt/gapless/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LOG_FORMAT=json \
    API_HOST=0.0.0.0
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM

# For `serve`; docker-compose.yml has another one for the indexer.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["python", "-c", \
    "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ.get(\"API_PORT\") or 8000}/health', timeout=3)"]

# DATABASE_URL and REDIS_URL must be given: the image has no servers of its own.
ENTRYPOINT ["gapless"]
CMD ["serve"]
