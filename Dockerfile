# syntax=docker/dockerfile:1
# The whole hub in one container: receiver, worker, embedded Valkey, SQLite in the volume /data.
#   docker build -t litekart-hub .
#   docker run -v hub-data:/data litekart-hub hub init --yes
#   docker run -d -v hub-data:/data -p 127.0.0.1:8600:8600 --restart unless-stopped litekart-hub
# In its config.yaml the server listens on all of the container's addresses: server: {host: 0.0.0.0}.

FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/hub
COPY requirements.lock ./
RUN /opt/hub/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY hub ./hub
COPY connectors ./connectors
RUN /opt/hub/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.12-slim
RUN useradd --uid 10001 --create-home --home-dir /data hub
COPY --from=build /opt/hub /opt/hub
ENV PATH=/opt/hub/bin:$PATH PYTHONUNBUFFERED=1
USER hub
WORKDIR /data
VOLUME /data
EXPOSE 8600
# The grace that deliveries under way may take to end; `docker stop -t 95` gives all of it.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8600/healthz', timeout=2)"]
CMD ["hub", "up"]
